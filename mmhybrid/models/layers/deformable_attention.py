"""Multi-scale deformable attention of queries to a token pyramid."""

import math

import torch
from torch import Tensor, nn

from ..kernels import Shapes, sample_around, short_softmax
from .linear import Linear


class MSDeformAttention(nn.Module):
    """Multi-scale deformable attention (arXiv 2010.04159) with its projections.

    Args:
        embed_dims: C.
        num_heads: must divide ``C * value_ratio``.
        num_levels: levels of the pyramid that is sampled.
        num_points: points a head samples in each level.
        value_ratio: width of the values over C.
        backend: see :func:`mmhybrid.models.kernels.deformable_attention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        num_levels: int,
        num_points: int = 4,
        value_ratio: float = 1.0,
        backend: str = 'auto',
    ):
        super().__init__()
        value_dims = int(embed_dims * value_ratio)
        if value_dims % num_heads:
            raise ValueError(
                f'{num_heads} heads of deformable attention do not divide its width {value_dims} '
                f'(= {embed_dims} * {value_ratio})'
            )
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.backend = backend
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = Linear(embed_dims, samples * 2)
        self.attention_weights = Linear(embed_dims, samples)
        self.value_proj = Linear(embed_dims, value_dims)
        self.output_proj = Linear(value_dims, embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Spread the heads' directions over the circle, their points 1, 2, ... pixels away."""
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
        direction /= direction.abs().amax(dim=-1, keepdim=True)
        distance = torch.arange(1, self.num_points + 1).view(-1, 1)  # (points, 1)
        offsets = direction.view(-1, 1, 1, 2) * distance  # (heads, 1, points, 2)
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())

    def forward(self, query: Tensor, points: Tensor, tokens: Tensor, shapes: Shapes) -> Tensor:
        """Let each query attend to the points that it samples.

        Args:
            query: ``(N, Q, C)``.
            points: reference points ``(Q, 2)``, x and y in [0, 1].
            tokens: pyramid to sample, ``(N, S, C)``.
            shapes: ``(h, w)`` of each of its levels.

        Returns:
            ``(N, Q, C)``
        """
        value = self.value_proj(tokens).unflatten(2, (self.num_heads, -1))  # (N, S, heads, D)
        offsets, weights = self.choose_samples(query)
        x = sample_around(value, shapes, points, offsets, weights, self.backend)
        return self.output_proj(x)

    def choose_samples(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the samples of queries ``(N, Q, C)``.

        Returns:
            Offsets from the reference points, ``(N, Q, heads, levels, points, 2)``, x and y in
            pixels of each level, and weights ``(N, Q, heads, levels, points)``, of sum 1 a head.
        """
        samples = (self.num_heads, self.num_levels, self.num_points)
        # (N, Q, heads * ...) -> (N, Q, heads, levels, points, 2) and (N, Q, heads, levels * points)
        offsets = self.sampling_offsets(query).unflatten(2, (*samples, 2))
        logits = self.attention_weights(query).unflatten(2, (self.num_heads, -1))
        # (N, Q, heads, levels * points) -> (N, Q, heads, levels, points)
        return offsets, short_softmax(logits).unflatten(3, samples[1:])
