"""Effective receptive fields: which pixels an output depends on, and how much."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmhybrid.inspect.features import as_maps


def receptive_fields(
    model: nn.Module, images: Tensor, at: tuple[float, float] = (0.5, 0.5)
) -> list[np.ndarray]:
    """Compute the mean absolute gradient of a place of each map to the image's pixels.

    As in Understanding the Effective Receptive Field, arXiv 1701.04128, but of the features in a
    random direction (of a fixed seed), not of their sum over channels: behind a layer norm that sum
    hardly depends on the image.

    Args:
        images: ``(N, C, H, W)``; they pass one after another.
        at: x and y of the place, each from 0 to 1.

    Returns:
        ``(H, W)`` for each map, of sum 1; all zeros where nothing arrives.
    """
    sums: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)
    for image in images.split(1):
        image = image.clone().requires_grad_()
        with torch.enable_grad():
            maps = as_maps(model(image))
            places = [_place(level, at) for level in maps]
            targets = [
                (place * torch.randn(len(place), generator=generator).to(place)).sum()
                for place in places
            ]
        grads = [
            torch.autograd.grad(target, image, retain_graph=True)[0].abs().sum((0, 1))
            for target in targets
        ]
        sums = [a + b for a, b in zip(sums, grads, strict=True)] if sums else grads
    fields = []
    for total in sums:
        field = total.double().cpu().numpy()
        fields.append(field / field.sum() if field.sum() > 0 else field)
    return fields


def central_side(field: np.ndarray, share: float, at: Sequence[float] = (0.5, 0.5)) -> int:
    """Measure the side in pixels of the smallest square around a place with a share of a field."""
    height, width = field.shape
    y, x = min(int(at[1] * height), height - 1), min(int(at[0] * width), width - 1)
    rows, columns = np.indices(field.shape)
    distance = np.maximum(np.abs(rows - y), np.abs(columns - x)).ravel()
    within = np.bincount(distance, weights=field.ravel()).cumsum()
    return 2 * int(np.searchsorted(within, share * within[-1] * (1 - 1e-12))) + 1


def _place(level: Tensor, at: tuple[float, float]) -> Tensor:
    """Return the features ``(C,)`` of a map's place."""
    h, w = level.shape[2:]
    return level[0, :, min(int(at[1] * h), h - 1), min(int(at[0] * w), w - 1)]
