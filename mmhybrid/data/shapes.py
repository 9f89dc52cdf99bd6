"""The art of the demo data set: outlines of the classes, textures, backgrounds.

A class is its outline and nothing else: colours, patterns, sizes and tilts are drawn from the
same distributions for every class, so no detector can tell a star from a heart by its colour.
"""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

SUPERSAMPLE = 4  # outlines are filled at this multiple of the size and averaged down


# Outlines: lists of contours in the unit disc, (n, 2) x right, y down. Even-odd rule: a second
# contour inside the first is a hole. Each class varies within itself.


def _polar(radius, angle):
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def star(rng: np.random.Generator) -> list[np.ndarray]:
    """A star of five or six points."""
    points = int(rng.integers(5, 7))
    radius = np.tile([1.0, rng.uniform(0.40, 0.52)], points)
    return [_polar(radius, np.arange(2 * points) * np.pi / points)]


def heart(rng: np.random.Generator) -> list[np.ndarray]:
    """A heart."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [np.stack([x * rng.uniform(0.85, 1.1), y], axis=1) / 17]


def fish(rng: np.random.Generator) -> list[np.ndarray]:
    """An oval body that narrows into a forked tail."""
    height = rng.uniform(0.42, 0.58)
    t = np.linspace(0.1 * np.pi, 1.9 * np.pi, 48)  # open at the right, where the tail begins
    body = np.stack([-0.3 + 0.7 * np.cos(t), height * np.sin(t)], axis=1)
    fork = rng.uniform(0.66, 0.78)
    return [np.concatenate([body, [[0.95, -0.58], [fork, 0.0], [0.95, 0.58]]])]


def leaf(rng: np.random.Generator) -> list[np.ndarray]:
    """A pointed oval with a notched edge and a stem."""
    width = rng.uniform(0.5, 0.64)
    t = np.linspace(0, 1, 28)
    half = width * np.sin(np.pi * t) ** 0.85 * (1 - 0.25 * t)
    half *= 1 - 0.16 * (np.arange(28) % 4 == 0)  # the notches
    x = 1.55 * t - 0.55
    stem = np.array([[-0.5, 0.07], [-1.0, 0.10], [-1.0, -0.10], [-0.5, -0.07]])
    upper, lower = np.stack([x, -half], axis=1), np.stack([x, half], axis=1)
    return [np.concatenate([upper[1:], lower[-2:0:-1], stem])]


def gear(rng: np.random.Generator) -> list[np.ndarray]:
    """A wheel with teeth."""
    teeth = int(rng.integers(7, 11))
    depth = rng.uniform(0.70, 0.78)
    radius = np.tile([1.0, 1.0, depth, depth], teeth)
    angle = (np.arange(teeth)[:, None] + [0.0, 0.42, 0.52, 0.90]).ravel() * 2 * np.pi / teeth
    hole = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return [_polar(radius, angle), _polar(rng.uniform(0.25, 0.38), hole)]


def moon(rng: np.random.Generator) -> list[np.ndarray]:
    """A crescent: the unit circle's far side and, inside it, a flatter arc between two horns."""
    horn = rng.uniform(0.26, 0.34) * np.pi
    outer = np.linspace(horn, 2 * np.pi - horn, 40)
    start, end = _polar(1.0, np.array([2 * np.pi - horn, horn]))
    bulge = rng.uniform(0.25, 0.45)
    t = np.linspace(0, 1, 28)[1:-1]
    y = start[1] + (end[1] - start[1]) * t
    x = start[0] - (bulge + start[0]) * np.sin(np.pi * t) ** 0.75
    return [np.concatenate([_polar(1.0, outer), np.stack([x, y], axis=1)])]


OUTLINES = dict(star=star, heart=heart, fish=fish, leaf=leaf, gear=gear, moon=moon)


def rasterize(contours: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Coverage of contours (pixels) on a canvas of ``size`` (width, height): (H, W) in [0, 1]."""
    width, height = size
    canvas = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.uint8)
    # shift=4: coordinates carry four binary digits below the pixel.
    points = [np.round(c * SUPERSAMPLE * 16).astype(np.int32) for c in contours]
    cv2.fillPoly(canvas, points, 255, shift=4)
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


# Textures: (H, W) pattern in [0, 1] that mixes two colours.


def _rotated_grid(rng, size):
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
    angle = rng.uniform(0, 2 * np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _soft_step(wave):
    return np.clip(wave * 2.5 + 0.5, 0, 1)


def plain(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """One value everywhere."""
    return np.full(size[::-1], rng.uniform(0, 0.4), np.float32)


def stripes(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Stripes in any direction."""
    u, _ = _rotated_grid(rng, size)
    return _soft_step(np.sin(u * 2 * np.pi / rng.uniform(7, 16)))


def dots(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Dots on a turned grid."""
    u, v = _rotated_grid(rng, size)
    wave = 2 * np.pi / rng.uniform(8, 15)
    return _soft_step(np.cos(u * wave) + np.cos(v * wave) - rng.uniform(0.3, 0.9))


def checks(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A turned chessboard."""
    u, v = _rotated_grid(rng, size)
    wave = 2 * np.pi / rng.uniform(12, 24)
    return _soft_step(2 * np.sin(u * wave) * np.sin(v * wave))


def fade(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A slow wave."""
    u, _ = _rotated_grid(rng, size)
    return 0.5 + 0.5 * np.sin(u * 2 * np.pi / rng.uniform(60, 140) + rng.uniform(0, 6))


def clouds(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Smooth noise: two octaves of a coarse random grid, enlarged."""
    total = np.zeros(size[::-1], np.float32)
    for cells, weight in ((5, 0.65), (14, 0.35)):
        grid = rng.random((cells, cells), dtype=np.float32)
        total += weight * cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(2.2 * total - 0.6, 0, 1)


TEXTURES = (plain, stripes, dots, checks, fade, clouds)


def random_color(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """An RGB colour in [0, 1] of any hue, its saturation and value drawn from two ranges."""
    color = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array(color, np.float32)


def mix(first: np.ndarray, second: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """(H, W, 3): ``first`` where the (H, W) pattern is 0, ``second`` where it is 1."""
    return first + (second - first) * pattern[..., None]


def background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) in [0, 1]: a quiet pattern, uneven light, and a few strokes that are no object."""
    base = random_color(rng, (0.05, 0.45), (0.35, 0.95))
    other = np.clip(base + rng.uniform(-0.08, 0.08, 3), 0, 1).astype(np.float32)
    texture = TEXTURES[rng.integers(len(TEXTURES))]
    image = mix(base, other, texture(rng, size))
    for _ in range(rng.integers(0, 3)):
        start = rng.uniform(0, 1, 2) * size
        bend = start + rng.normal(0, 0.25, 2) * size
        end = bend + rng.normal(0, 0.25, 2) * size
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        stroke = np.zeros((size[1] * 2, size[0] * 2), np.uint8)
        points = np.round(curve * 2 * 16).astype(np.int32)
        cv2.polylines(stroke, [points], False, 255, int(rng.integers(2, 8)), cv2.LINE_AA, 4)
        alpha = cv2.resize(stroke, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        color = np.clip(base + rng.uniform(-0.3, 0.3, 3), 0, 1).astype(np.float32)
        image = image + (color - image) * (0.8 * alpha[..., None])
    light = fade(rng, (size[0], size[1]))
    return image * (0.86 + 0.14 * light[..., None])


def place(
    contours: Sequence[np.ndarray], center: np.ndarray, radius: float, angle: float
) -> list[np.ndarray]:
    """Move unit contours to pixels: turn by ``angle`` (radians), scale by ``radius``, shift."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [c @ turn * radius + center for c in contours]


def paint(
    rng: np.random.Generator,
    image: np.ndarray,
    contours: Sequence[np.ndarray],
    coverage: np.ndarray,
) -> np.ndarray:
    """Lay an object on the image: a soft shadow below it, two like colours, a darker rim."""
    size = image.shape[1::-1]
    shadow = cv2.GaussianBlur(rasterize([c + [2, 3] for c in contours], size), (0, 0), 2)
    image = image * (1 - 0.35 * shadow[..., None])
    first = random_color(rng, (0.35, 0.95), (0.45, 1.0))
    second = np.clip(first + rng.uniform(-0.2, 0.2, 3), 0, 1).astype(np.float32)
    surface = mix(first, second, TEXTURES[rng.integers(len(TEXTURES))](rng, size))
    inner = cv2.erode(coverage, np.ones((3, 3), np.uint8))
    surface = surface * (0.6 + 0.4 * inner[..., None])
    return image + (surface - image) * coverage[..., None]
