"""The patch embedding of a plain ViT."""

from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """Cut an image into square patches and project each: ``(N, C, H, W)`` to ``(N, h * w, D)``."""

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.proj(x)
        grid = (x.shape[2], x.shape[3])
        # (N, D, h, w) -> (N, h w, D). Sums keep the order in memory of what they begin with: in a
        # map's order every norm and product of every block would copy its tokens.
        return x.flatten(2).transpose(1, 2).contiguous(), grid
