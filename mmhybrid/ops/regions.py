"""Points at which a region of a map is sampled, and the checks of regions."""

import torch
from torch import Tensor

from .common import can_read, check_alike, shape

OUTSIDE = -2.0
"""A coordinate outside of every map: what is sampled there is 0 and has no gradient."""

BUDGET = 2**22
"""Elements that regions may take up at a time, where all their samples are held."""

LIMIT = 2**26
"""Samples of one region, several gigabytes; regions as large as their image have a thousandth."""


def check_regions(operator: str, maps: Tensor, rois: Tensor) -> None:
    """Raise a ValueError unless maps ``(N, C, H, W)`` and regions ``(R, 5)`` fit together.

    On a CPU numbers of images are looked at, too; on a GPU the same comes as a device assertion, of
    which the program learns later, without waiting.
    """
    if maps.dim() != 4 or rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(
            f'{operator}: expected maps (N, C, H, W) and regions (R, 5) of image, x1, y1, x2, y2, '
            f'got maps {shape(maps)} and regions {shape(rois)}'
        )
    check_alike(operator, maps=maps, regions=rois)
    if not len(rois):
        return
    if not maps.numel():
        raise ValueError(
            f'{operator}: {len(rois)} regions of maps that hold nothing, {shape(maps)}'
        )
    images = len(maps)
    if can_read(rois):
        if not rois.isfinite().all():
            raise ValueError(
                f'{operator}: {int((~rois.isfinite()).any(1).sum())} of the regions {shape(rois)} '
                'are not finite; a training that gives them has diverged: try a lower learning rate'
            )
        low, high = rois[:, 0].aminmax()
        if not -1 < low <= high < images:
            raise ValueError(
                f'{operator}: regions name images {low:g} to {high:g}, the maps {shape(maps)} are '
                f'of images 0 to {images - 1}'
            )
    elif not torch.compiler.is_compiling() and not torch.jit.is_tracing():
        low, high = rois[:, 0].aminmax()
        torch._assert_async(
            (low > -1) & (high < images), f'{operator}: a region names an image that is not there'
        )


def check_extents(
    operator: str, rois: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> None:
    """Raise a ValueError for regions, on a CPU, that are upside down or endlessly large."""
    if not can_read(rois) or not len(rois):
        return
    extent = (rois[:, 3:] - rois[:, 1:3]).float() * scale
    if aligned and (extent < 0).any():
        first = int((extent < 0).any(1).nonzero()[0])
        raise ValueError(
            f'{operator}: {int((extent < 0).any(1).sum())} of {len(rois)} regions end before they '
            f'begin, the first is {rois[first].tolist()}; expected x1 <= x2 and y1 <= y2'
        )
    if ratio <= 0 and (extent.clamp(min=1).prod(1) > LIMIT).any():
        largest = int(extent.clamp(min=1).prod(1).argmax())
        raise ValueError(
            f'{operator}: region {rois[largest].tolist()} is too large to be sampled densely; clip '
            'boxes to their image, or give a sampling_ratio'
        )


class Regions:
    """Regions of maps, each divided into bins, each bin with a grid of points.

    Args:
        rois: ``(R, 5)``: image, x1, y1, x2, y2.
        size: bins of a region, down and across.
        scale: pixels of the map for one of the image.
        ratio: points of a bin in each direction; 0 for as many as it has pixels.
        aligned: a pixel's centre is at its coordinate, and regions may be smaller than a pixel.
        shift: ``(R, 2, *size)``, x and y by which bins are moved, as parts of their region.
    """

    def __init__(
        self,
        rois: Tensor,
        size: tuple[int, int],
        scale: float,
        ratio: int,
        aligned: bool,
        shift: Tensor | None = None,
    ):
        self.bins, self.ratio, self.shift = size[::-1], ratio, shift  # across and down
        self.image = rois[:, 0].long()
        corners = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
        self.start = corners[:, :2].unbind(1)  # x and y, each (R,), as all that follow
        extents = (corners[:, 2:] - corners[:, :2]).unbind(1)
        self.extents = [e if aligned else e.clamp(min=1) for e in extents]
        self.steps = [e / n for e, n in zip(self.extents, self.bins, strict=True)]
        # In float32 as mmcv counts, of float64 too.
        dense = [step.float().ceil().long().clamp(min=0) for step in self.steps]
        self.counts = [torch.full_like(self.image, ratio)] * 2 if ratio > 0 else dense

    def grid(self) -> tuple[int, int]:
        """Points of the largest bin, down and across. A GPU is waited for if the ratio is 0."""
        if self.ratio > 0:
            return self.ratio, self.ratio
        across, down = (max(int(count.max()), 1) for count in self.counts)
        return down, across

    def valid(self, grid: tuple[int, int]) -> Tensor:
        """Mask ``(R, 1, points)`` of the points that a bin has, of a grid ``(down, across)``."""
        x, y = (
            torch.arange(points, device=count.device) < count.unsqueeze(1)
            for points, count in zip(grid[::-1], self.counts, strict=True)
        )
        # (R, down, 1) with (R, 1, across) -> (R, 1, down across)
        return (y.unsqueeze(2) & x.unsqueeze(1)).flatten(1).unsqueeze(1)

    def points(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """y and x of the points of every bin; both broadcast to ``(R, *size, *grid)``."""
        x, y = (self._along(axis, grid[1 - axis]) for axis in (0, 1))
        # (R, bins, points) -> (R, 1, bins, 1, points) and (R, bins, 1, points, 1)
        x, y = x[:, None, :, None, :], y[:, :, None, :, None]
        if self.shift is not None:
            moves = (
                (part * extent[:, None, None])[..., None, None]  # (R, *size, 1, 1)
                for part, extent in zip(self.shift.unbind(1), self.extents, strict=True)
            )
            x, y = x + next(moves), y + next(moves)
        return y, x

    def _along(self, axis: int, points: int) -> Tensor:
        """Coordinates ``(R, bins, points)`` along x (0) or y (1)."""
        start, step, count = (t[axis][:, None, None] for t in (self.start, self.steps, self.counts))
        bins = torch.arange(self.bins[axis], device=start.device).unsqueeze(1)
        point = torch.arange(points, device=start.device)
        return start + bins * step + (point + 0.5) * step / count.clamp(min=1)

    def pixels(self, y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The four pixels around points.

        Args:
            y, x: of :meth:`points`.
            height, width: of the maps.

        Returns:
            Rows of the maps as ``(N H W, C)`` and their weights, both ``(R, *size, *grid, 4)``.
        """
        rows_y, weights_y = neighbours(y, height)
        rows_x, weights_x = neighbours(x, width)
        rows_y = rows_y + self.image.view(-1, 1, 1, 1, 1, 1) * height
        # (..., 2, 1) with (..., 1, 2) -> (..., 2, 2) -> (..., 4)
        rows = (rows_y * width).unsqueeze(-1) + rows_x.unsqueeze(-2)
        weights = weights_y.unsqueeze(-1) * weights_x.unsqueeze(-2)
        return rows.flatten(-2), weights.flatten(-2)


def neighbours(at: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The two pixels around coordinates ``(...)`` and their weights, both ``(..., 2)``."""
    is_inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    low = at.detach().floor()
    fraction = at - low
    weights = torch.stack((1 - fraction, fraction), -1) * is_inside.unsqueeze(-1)
    # A value that is not a number becomes any whole number: within the map it is harmless.
    low = low.long().clamp(0, length - 1)
    return torch.stack((low, (low + 1).clamp(max=length - 1)), -1), weights


def table(maps: Tensor) -> Tensor:
    """Maps ``(N, C, H, W)`` as the rows of their pixels, ``(N H W, C)``."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])  # -> (N, H, W, C) -> (N H W, C)


def parts(rois: Tensor, elements: int) -> list[slice]:
    """Slices of regions, of which each has so many elements, that fit into memory."""
    step = max(BUDGET // max(elements, 1), 1)
    return [slice(i, i + step) for i in range(0, len(rois), step)]
