"""Feature maps of a backbone, and their colours."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def feature_maps(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Compute the maps ``(C, h, w)`` that a backbone gives for one image ``(1, C, H, W)``.

    Outputs that are no maps, such as class logits, are left out.

    Raises:
        ValueError: none of the outputs is a map.
    """
    with torch.no_grad():
        maps = as_maps(model(image))
    return [level[0].float().cpu() for level in maps]


def as_maps(outputs: Any) -> list[Tensor]:
    """Return the tensors ``(N, C, h, w)`` among a model's outputs, in their order."""
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    maps = [out for out in outputs if isinstance(out, Tensor) and out.ndim == 4]
    if not maps:
        shapes = [tuple(out.shape) if isinstance(out, Tensor) else type(out) for out in outputs]
        raise ValueError(f'the model gives no maps (N, C, h, w), but {shapes}')
    return maps


def pca_colors(level: Tensor) -> tuple[np.ndarray, float]:
    """Colour a map by its three main directions as red, green and blue.

    Places of like colour have like features. Each direction is stretched from its 1st to its 99th
    percentile; its sign, which PCA leaves open, makes the largest loading positive.

    Args:
        level: ``(C, h, w)``.

    Returns:
        colours ``(h, w, 3)`` in [0, 1], and the share of the variance that they show.
    """
    channels, h, w = level.shape
    pixels = level.reshape(channels, -1).T.double()  # (C, h, w) -> (h w, C)
    pixels = pixels - pixels.mean(dim=0)
    variances, directions = torch.linalg.eigh(pixels.T @ pixels)
    main = directions.flip(1)[:, :3]  # (C, up to 3), the strongest first
    largest = main.abs().argmax(dim=0)
    main = main * main.gather(0, largest[None]).sign()
    values = pixels @ main
    low, high = (values.quantile(q, dim=0) for q in (0.01, 0.99))
    spread = high - low
    flat = spread <= 1e-9 * spread.max().clamp(min=1e-30)
    values = ((values - low) / spread.masked_fill(flat, 1)).clamp(0, 1)
    values[:, flat] = 0.5
    colors = torch.full((h * w, 3), 0.5, dtype=values.dtype)
    colors[:, : values.shape[1]] = values
    total = variances.clamp(min=0).sum()
    share = (variances.clamp(min=0)[-3:].sum() / total).item() if total > 0 else 0.0
    return colors.reshape(h, w, 3).numpy(), share
