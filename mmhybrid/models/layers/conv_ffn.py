"""Feed-forward networks with depth-wise convolutions, over a token pyramid."""

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import in_blocks
from .lean_linear import lean_linear
from .linear import run_linear
from .pyramid import Shapes, join_levels, split_levels


class ConvFFN(nn.Module):
    """Linear, 3x3 depth-wise convolution of each level with shared weights, GELU, linear.

    Tokens ``(N, S, C)`` in, the same out. From ViT-Adapter (arXiv 2205.08534).
    """

    def __init__(self, embed_dims: int, hidden_dims: int):
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.dwconv = nn.Conv2d(hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, tokens: Tensor, shapes: Shapes) -> Tensor:
        return self.narrow(self.mix(run_linear(self.fc1, tokens), shapes))

    def mix(self, hidden: Tensor, shapes: Shapes) -> Tensor:
        """The convolution alone, over what ``fc1`` returns."""
        return join_levels([self.dwconv(m) for m in split_levels(hidden, shapes)])

    def narrow(self, hidden: Tensor) -> Tensor:
        """What follows the convolution, of each token by itself."""
        return lean_linear(self.fc2, hidden, F.gelu)

    # The same as a residual branch after a norm, whose first part can be one with what precedes it.

    def widen(self, tokens: Tensor, norm: nn.Module) -> Tensor:
        """Norm and ``fc1``, of each token by itself."""
        return lean_linear(self.fc1, tokens, norm)

    def add_to(
        self, tokens: Tensor, widened: Tensor, shapes: Shapes, drop_path: nn.Module
    ) -> Tensor:
        """The tokens, which may be overwritten, plus the branch that :meth:`widen` began."""
        hidden = self.mix(widened, shapes)
        if drop_path.training:  # it draws one number for all tokens of an image
            return tokens + drop_path(self.narrow(hidden))
        return in_blocks(lambda x, h: x + self.narrow(h), tokens, hidden, reuse=True)
