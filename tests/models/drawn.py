"""Models in which no parameter hides what it scales, and losses that no norm makes constant."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def draw_parameters(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw what begins as a constant, and enlarge weights that begin small; in place.

    An adapter's ``gamma`` begins at 0 and LayerScale at 1e-5: values and gradients of all that they
    scale would be compared as zeros. Zero biases, and the zero weights of sampling offsets, hide
    the same; norms that begin at 1 do not tell one channel from another. Weights of a deviation of
    0.02 make products of queries and keys that no softmax notices.

    Returns:
        The model itself.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_meta:
                continue
            if parameter.max() - parameter.min() < 1e-3:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.3 * noise.to(parameter))
            elif parameter.ndim > 1:
                unit = parameter[0].numel() ** -0.5  # keeps the variance of what it multiplies
                parameter.mul_(max(unit / parameter.std().item(), 1))
    return model


def build_model(cfg: dict) -> nn.Module:
    """Build a model of a host, with values in all its parameters.

    ``level_embed`` of mmdet's DETRs is any memory, nan too, until ``init_weights``, which many
    tests do without.
    """
    from mmengine.registry import MODELS

    model = MODELS.build(cfg)
    for name, parameter in model.named_parameters():
        if name.endswith('level_embed'):
            nn.init.normal_(parameter)
    return model


def draw_loss(maps: Iterable[Tensor], seed: int = 2) -> Tensor:
    """Sum the maps' values, each with a drawn factor; those of a map have a square sum of about 1.

    A batch norm in training holds the mean and the mean square of its output constant: as a loss
    they would have no gradient before the norm, however wrong all of it was.
    """
    generator = torch.Generator().manual_seed(seed)
    loss = 0
    for level in maps:
        factors = torch.randn(level.shape, generator=generator, dtype=torch.float64)
        loss = loss + (level * factors.to(level)).sum() / max(level.numel(), 1) ** 0.5
    return loss


def names_without_gradient(model: nn.Module, image: Tensor) -> set[str]:
    """Train one step in double precision; name the parameters that have no gradient, or zeros."""
    draw_loss(model.double().train()(image.double())).backward()
    largest = {
        name: 0.0 if p.grad is None else p.grad.abs().max().item()
        for name, p in model.named_parameters()
    }
    assert all(map(math.isfinite, largest.values()))
    floor = 1e-9 * max(largest.values())  # above rounding, below what is small
    return {name for name, value in largest.items() if value < floor}
