"""Where deformable attention looks."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
    """The points that the query nearest to a place samples, in each deformable attention.

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
    """Keeps what one module's ``look`` returns, block of queries by block.

    The adapters call the parts of a deformable attention and not the module, so a hook of the
    module would see nothing.
    """

    def __init__(self, name: str, module: MSDeformAttention):
        self.name = name
        self.module = module
        self.shapes: tuple[tuple[int, int], ...] = ()
        self.blocks: list[tuple[Tensor, Tensor, Tensor]] = []

    def listen(self, order: list['_Recorder']) -> None:
        """Stand before the module's own functions; append this when the module begins to run."""
        projector, look = self.module.projector, self.module.look

        def begin(shapes):
            self.shapes, self.blocks = tuple(shapes), []
            order.append(self)
            return projector(shapes)

        def record(query, points, project):
            locations, weights = look(query, points, project)
            self.blocks.append((points.cpu(), locations[0].cpu(), weights[0].cpu()))
            return locations, weights

        self.module.projector, self.module.look = begin, record

    def stop(self) -> None:
        for name in ('projector', 'look'):
            vars(self.module).pop(name, None)  # the class's own come to light again

    def read(self, at: tuple[float, float], level: int) -> SamplingPoints:
        points, locations, weights = (torch.cat(parts) for parts in zip(*self.blocks, strict=True))
        row = _nearest(points, at, level)
        query = tuple(points[row].tolist())
        return SamplingPoints(self.name, query, locations[row], weights[row], self.shapes, row)


def _nearest(points: Tensor, at: tuple[float, float], level: int) -> int:
    """The reference point ``(S, 2)`` of a level that is nearest to a place.

    Levels follow one another, each row by row, so a new one begins where y falls.
    """
    starts = [0, *(torch.nonzero(points[1:, 1] < points[:-1, 1]).flatten() + 1).tolist()]
    start = starts[min(level, len(starts) - 1)]
    stop = [*starts[1:], len(points)][min(level, len(starts) - 1)]
    distance = (points[start:stop] - points.new_tensor(at)).square().sum(-1)
    return start + int(distance.argmin())
