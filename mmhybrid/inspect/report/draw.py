"""Pictures of predictions and ground truth."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from .text import FONT, put_text, size_of

LONGEST = 4000  # side in pixels of what is enlarged


def read_image(path: str | Path) -> np.ndarray | None:
    """An RGB image (H, W, 3) uint8 as the hosts read it, None if the file is none.

    OpenCV gives None for a broken file, but raises where a header claims an absurd size.
    """
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    return None if image is None else np.ascontiguousarray(image[..., ::-1])


def enlarged(image: np.ndarray, least: int = 480) -> tuple[np.ndarray, int]:
    """The image enlarged by a whole number so that its shorter side has ``least`` pixels or more,
    and that number: small images would leave no room for text. The longer side ends at ``LONGEST``,
    or a line of a few pixels would become gigabytes."""
    short, long = sorted(image.shape[:2])
    factor = max(1, min(-(-least // short), LONGEST // long)) if short < least / 1.5 else 1
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), factor


def draw_instances(
    image: np.ndarray,
    instances: Sequence[dict],
    classes: Sequence[str],
    colors: np.ndarray,
    least: int = 480,
) -> np.ndarray:
    """Masks, boxes and names on an RGB image.

    Args:
        image (H, W, 3): uint8.
        instances: dicts of ``bbox`` (x1, y1, x2, y2), ``label``, and optionally ``score`` and
            ``mask`` (H, W) bool.

    Returns:
        (factor * H, factor * W, 3) uint8, see ``enlarged``.
    """
    canvas, factor = enlarged(image, least)
    size = canvas.shape[1::-1]
    for one in instances:
        if one.get('mask') is None:
            continue
        color = colors[one['label']].tolist()
        mask = cv2.resize(one['mask'].astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        mask = (mask > 0.5).astype(np.uint8)
        inside = mask.astype(bool)
        canvas[inside] = (0.55 * canvas[inside] + 0.45 * np.array(color)).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(canvas, contours, -1, color, 2, cv2.LINE_AA)
    for one in instances:
        color = colors[one['label']].tolist()
        x1, y1, x2, y2 = (round(float(v) * factor) for v in one['bbox'])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, 1, cv2.LINE_AA)
        text = classes[one['label']]
        if one.get('score') is not None:
            text += f' {one["score"]:.2f}'
        put_label(canvas, text, (x1, y1), color)
    return canvas


def draw_class_map(
    image: np.ndarray, class_map: np.ndarray, colors: np.ndarray, ignore: int = 255
) -> np.ndarray:
    """A class map (H, W) over an RGB image (H, W, 3)."""
    shown = class_map != ignore
    canvas = image.copy()
    over = colors[np.where(shown, class_map, 0)]
    canvas[shown] = (0.45 * image[shown] + 0.55 * over[shown]).astype(np.uint8)
    return canvas


def put_label(
    canvas: np.ndarray,
    text: str,
    corner: Sequence[float],
    color: Sequence[int],
    scale: float = 0.45,
    below: bool = False,
) -> int:
    """Text on a filled box above ``corner`` (x, y), or below it at the upper border; in place.

    Returns:
        int: where the box ends.
    """
    width, height = size_of(text, scale)
    x = int(np.clip(corner[0], 0, max(0, canvas.shape[1] - width - 6)))
    below = below or corner[1] < height + 6
    y = corner[1] if below else corner[1] - height - 6
    y = int(np.clip(y, 0, canvas.shape[0] - height - 6))
    cv2.rectangle(canvas, (x, y), (x + width + 6, y + height + 6), color, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(color, (0.3, 0.59, 0.11)) > 130 else (255, 255, 255)
    put_text(canvas, text, (x + 3, y + height + 3), ink, scale)
    return y + height + 6


def put_list(canvas: np.ndarray, labels: Sequence[tuple[str, Sequence[int]]]) -> None:
    """Texts with their colours, as many as fit below each other in the upper left; in place."""
    bottom = 4
    for text, color in labels:
        if bottom + 20 > canvas.shape[0]:
            break
        bottom = put_label(canvas, text, (4, bottom), color, below=True) + 2


def side_by_side(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], gap: int = 8
) -> np.ndarray:
    """A grid of equally sized RGB images, with a title over each column."""
    height, width = rows[0][0].shape[:2]
    header = 34
    columns = len(rows[0])
    canvas = np.full(
        (header + len(rows) * (height + gap), columns * (width + gap) + gap, 3), 255, np.uint8
    )
    for j, title in enumerate(titles):
        x = gap + j * (width + gap)
        cv2.putText(canvas, title, (x, 23), FONT, 0.65, (30, 30, 30), 1, cv2.LINE_AA)
        for i, row in enumerate(rows):
            y = header + i * (height + gap)
            canvas[y : y + height, x : x + width] = row[j]
    return canvas
