"""The distance of a file's outputs from the model's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .errors import ExportError

OBJECTS = ('boxes', 'scores', 'labels', 'masks')
FEW = 0.05
"""Share of objects, or of pixels, that may differ: those near a threshold, and equal ones."""


@dataclass
class Agreement:
    """The distance of a file's outputs on one batch from the model's, in each one's deviation."""

    path: Path
    shape: tuple[int, ...]
    worst: float
    mean: float
    output: str

    def __str__(self) -> str:
        shape = 'x'.join(map(str, self.shape))
        return (
            f'{self.path.name}  {shape:<14}  worst {self.worst:.1e} ({self.output})  '
            f'mean {self.mean:.1e}'
        )


def measure(
    path: Path, shape: tuple[int, ...], expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> Agreement:
    """Compare outputs by name.

    Values are compared one by one. Classes and objects are decided by thresholds, at which the
    smallest difference decides otherwise: a few of them may differ.

    Raises:
        ExportError: an output has another shape.
    """
    rows = []
    has_objects = 'boxes' in expected
    for name, want in expected.items():
        out = found[name]
        if want.shape != out.shape:
            raise ExportError(
                f'{path.name}: output {name} of a batch {shape} has the shape '
                f'{tuple(out.shape)}, the model gives {tuple(want.shape)}'
            )
        if has_objects and name in OBJECTS:
            continue
        if not want.is_floating_point():
            rows.append(_few((want != out).double().mean().item(), name))
            continue
        error = (out.double() - want.double()).abs() / _unit(want.double())
        rows.append((error.max().item(), error.mean().item(), name))
    if has_objects:
        rows.append(_few(missed(expected, found), 'objects'))
    worst = max(rows, key=lambda row: (row[0] != row[0], row[0]))
    return Agreement(path, shape, worst[0], max(row[1] for row in rows), worst[2])


def missed(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Return the share of objects that only one side has.

    Two are the same if they have one label, corners that differ by 0.1 pixels and 1 % of the box's
    longer side at most, scores by 0.001, and masks by 0.01 on average.
    """
    alone = total = 0
    for image in range(len(expected['labels'])):
        objects = []
        for side in (expected, found):
            real = side['labels'][image] >= 0
            objects.append({k: side[k][image][real].float() for k in OBJECTS if k in side})
        a, b = objects
        sides = (a['boxes'][:, 2:] - a['boxes'][:, :2]).amax(1, keepdim=True)
        apart = (a['boxes'][:, None] - b['boxes']).abs().amax(2)
        same = apart <= 0.1 + 0.01 * sides
        same &= a['labels'][:, None] == b['labels']
        same &= (a['scores'][:, None] - b['scores']).abs() <= 1e-3
        for i, j in same.nonzero().tolist() if 'masks' in a else []:
            same[i, j] = (a['masks'][i] - b['masks'][j]).abs().mean() <= 0.01
        alone += int((~same.any(1)).sum()) + int((~same.any(0)).sum())
        total += sum(same.shape)
    return alone / max(total, 1)


def _few(share: float, name: str) -> tuple[float, float, str]:
    return (share if share > FEW else 0.0), share, name


def _unit(want: Tensor) -> float:
    """Return the unit of an output's errors: its standard deviation.

    Of one value, such as the centerness of a map of one pixel, its size.
    """
    return want.std(correction=0).item() or want.abs().max().item() or 1.0
