"""Disturbances of images as cameras, compression and light bring them, for an evaluation."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ..registry import TRANSFORMS
from .coco import DataError

KINDS: dict[str, Callable[[Tensor, float], Tensor]] = dict(
    jpeg=lambda image, quality: F.jpeg(image, int(quality)),
    blur=lambda image, sigma: F.gaussian_blur(image, 2 * math.ceil(3 * sigma) + 1, sigma),
    noise=lambda image, sigma: F.gaussian_noise(image, sigma=sigma),
    brightness=F.adjust_brightness,
)


@TRANSFORMS.register_module()
class Disturb:
    """Disturbs an image as it was loaded, with torchvision's functions.

    The noise of an image depends on its place in the data set alone: each model gets the same.

    Args:
        kind: ``jpeg``, ``blur``, ``noise`` or ``brightness``.
        strength: quality of JPEG, 1 to 100; standard deviation of a Gaussian blur in pixels, or of
            Gaussian noise with 1 for the range of a channel; factor of brightness.

    Raises:
        ValueError: another kind.
    """

    def __init__(self, kind: str, strength: float):
        if kind not in KINDS:
            raise ValueError(f'kind={kind!r:.99}: expected {", ".join(KINDS)}')
        self.change, self.strength = KINDS[kind], strength

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``, (H, W, 3) uint8 in BGR.

        Raises:
            DataError: it is no such image.
        """
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            shape = 'x'.join(map(str, image.shape))
            raise DataError(
                f'an image of {shape} {image.dtype} cannot be disturbed: expected three channels '
                'of uint8, as LoadImageFromFile gives them without to_float32'
            )
        rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(results['sample_idx'])
            changed = self.change(rgb, self.strength)
        # (3, H, W) -> (H, W, 3), in BGR again
        results['img'] = np.ascontiguousarray(changed.permute(1, 2, 0).numpy()[..., ::-1])
        return results
