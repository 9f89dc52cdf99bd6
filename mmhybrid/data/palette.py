"""Colours of classes, where a data set has none."""

import functools

import cv2
import numpy as np

SHADES = 7  # of red, green and blue


@functools.cache
def palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Choose distinct RGB colours: each lies as far from all before it as any, in CIELAB.

    Dark and pale ones are left out. From 200 on they repeat.
    """
    shades = np.linspace(30, 255, SHADES)
    grid = np.stack(np.meshgrid(shades, shades, shades), axis=-1).reshape(-1, 3)  # (SHADES^3, 3)
    lab = cv2.cvtColor((grid[None] / 255).astype(np.float32), cv2.COLOR_RGB2Lab)[0]
    visible = (lab[:, 0] > 35) & (lab[:, 0] < 90)
    grid, lab = grid[visible], lab[visible]
    chosen = [int(np.hypot(lab[:, 1], lab[:, 2]).argmax())]
    distances = np.full(len(lab), np.inf)
    while len(chosen) < min(count, 200):
        distances = np.minimum(distances, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distances.argmax()))
    colours = grid[chosen].round().astype(int).tolist()
    return tuple(tuple(colours[i % len(colours)]) for i in range(count))
