"""Feed-forward networks with depth-wise convolutions, over a token pyramid."""

from torch import Tensor, nn

from ..kernels import Shapes, join_levels, split_levels
from .linear import Linear


class ConvFFN(nn.Module):
    """Linear, 3x3 depth-wise convolution of each level with shared weights, GELU, linear.

    Tokens ``(N, S, C)`` in, the same out. From ViT-Adapter (arXiv 2205.08534).
    """

    def __init__(self, embed_dims: int, hidden_dims: int):
        super().__init__()
        self.fc1 = Linear(embed_dims, hidden_dims)
        self.dwconv = nn.Conv2d(hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden_dims, embed_dims)

    def forward(self, tokens: Tensor, shapes: Shapes) -> Tensor:
        maps = split_levels(self.fc1(tokens), shapes)
        x = join_levels([self.dwconv(m) for m in maps])
        return self.fc2(self.act(x))
