"""The points that deformable attention samples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmhybrid.models.kernels.pyramid import level_sizes
from mmhybrid.models.layers import MSDeformAttention


@dataclass(frozen=True)
class SamplingPoints:
    """The points that one query of one deformable attention samples.

    Attributes:
        name: of the module.
        query: x and y of the query, from 0 to 1 over the image.
        locations: ``(heads, levels, points, 2)``, x and y; they may lie outside.
        weights: ``(heads, levels, points)``, of sum 1 over levels and points.
        shapes: ``(h, w)`` of the sampled levels.
        row: the query's number among all queries of the module.
    """

    name: str
    query: tuple[float, float]
    locations: Tensor
    weights: Tensor
    shapes: tuple[tuple[int, int], ...]
    row: int


def sampling_points(
    model: nn.Module, image: Tensor, at: tuple[float, float] = (0.5, 0.5), level: int = 1
) -> list[SamplingPoints]:
    """Find the points that the query nearest to a place samples in each deformable attention.

    Args:
        image: ``(1, C, H, W)``; of sides that the model pads, places are those of the padded image.
        at: x and y of the place, each from 0 to 1.
        level: of the query, where the queries are a pyramid: 0 is the finest, of stride 8.

    Returns:
        One for each module, in the order they run; empty where a model has none.
    """
    recorders = [
        _Recorder(name, module)
        for name, module in model.named_modules()
        if isinstance(module, MSDeformAttention)
    ]
    order: list[_Recorder] = []
    try:
        for recorder in recorders:
            recorder.listen(order)
        with torch.no_grad():
            model(image)
    finally:
        for recorder in recorders:
            recorder.stop()
    return [recorder.read(at, level) for recorder in order]


class _Recorder:
    """Keeps what one module samples, of the first image."""

    def __init__(self, name: str, module: MSDeformAttention):
        self.name = name
        self.module = module

    def listen(self, order: list['_Recorder']) -> None:
        """Record the module's next run, and append this to ``order`` then."""

        def record(module: MSDeformAttention, args: tuple, output: Tensor) -> None:
            query, self.points, _, shapes = args
            self.shapes = tuple(shapes)
            self.offsets, self.weights = (part[0] for part in module.choose_samples(query))
            order.append(self)

        self.handle = self.module.register_forward_hook(record)

    def stop(self) -> None:
        self.handle.remove()

    def read(self, at: tuple[float, float], level: int) -> SamplingPoints:
        points = self.points.cpu()
        row = _nearest(points, at, level)
        sizes = level_sizes(self.shapes, self.offsets.device).unsqueeze(1)  # (levels, 1, 2)
        # (2,) + (heads, levels, points, 2)
        locations = self.points[row] + self.offsets[row] / sizes
        query = tuple(points[row].tolist())
        weights = self.weights[row].cpu()
        return SamplingPoints(self.name, query, locations.cpu(), weights, self.shapes, row)


def _nearest(points: Tensor, at: tuple[float, float], level: int) -> int:
    """Return the reference point ``(S, 2)`` of a level that is nearest to a place.

    Levels follow one another, each row by row, so a new one begins where y falls.
    """
    starts = [0, *(torch.nonzero(points[1:, 1] < points[:-1, 1]).flatten() + 1).tolist()]
    start = starts[min(level, len(starts) - 1)]
    stop = [*starts[1:], len(points)][min(level, len(starts) - 1)]
    distance = (points[start:stop] - points.new_tensor(at)).square().sum(-1)
    return start + int(distance.argmin())
