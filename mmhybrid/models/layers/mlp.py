"""Feed-forward networks of plain ViTs, over tokens ``(..., C)``."""

from torch import Tensor, nn

from .linear import Linear


class Mlp(nn.Module):
    """Two linear layers with an activation between them, GELU where none is given."""

    def __init__(
        self, embed_dims: int, hidden_dims: int, act: nn.Module | None = None, bias: bool = True
    ):
        super().__init__()
        self.fc1 = Linear(embed_dims, hidden_dims, bias)
        self.act = nn.GELU() if act is None else act
        self.fc2 = Linear(hidden_dims, embed_dims, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class SwiGLU(nn.Module):
    """Gated feed-forward network of DINOv2-g and of some DINOv3 sizes (arXiv 2002.05202).

    ``hidden_dims`` is what an :class:`Mlp` would have; the gated hidden width is two thirds of it,
    rounded up to a multiple of 8, which keeps the number of parameters.
    """

    def __init__(self, embed_dims: int, hidden_dims: int, bias: bool = True):
        super().__init__()
        gated_dims = (int(hidden_dims * 2 / 3) + 7) // 8 * 8
        self.w12 = Linear(embed_dims, 2 * gated_dims, bias)
        self.act = nn.SiLU()
        self.w3 = Linear(gated_dims, embed_dims, bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(self.act(gate) * value)
