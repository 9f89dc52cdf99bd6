"""Text in any letters on pictures; OpenCV draws ASCII alone, and a question mark for all else."""

from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
PIXELS = 30  # of other letters, at a scale of 1, to be as high as OpenCV's
SYMBOL_FONTS = ('LastResort', 'Blank')  # they claim letters that they do not show


def size_of(text: str, scale: float) -> tuple[int, int]:
    """Width and height of a text in pixels."""
    text = drawable(text)
    if text.isascii():
        (width, height), _ = cv2.getTextSize(text, FONT, scale, 1)
        return width, height
    left, top, right, bottom = _font(font_of(text), scale).getbbox(text)
    return right - left, bottom - top


def put_text(
    canvas: np.ndarray, text: str, corner: tuple[int, int], ink: tuple[int, ...], scale: float
) -> None:
    """Draw a text on an RGB image (H, W, 3) uint8, in place; ``corner`` is its lower left one."""
    text = drawable(text)
    if text.isascii():
        cv2.putText(canvas, text, corner, FONT, scale, ink, 1, cv2.LINE_AA)
        return
    from PIL import Image, ImageDraw

    font = _font(font_of(text), scale)
    left, _, _, bottom = font.getbbox(text)
    picture = Image.fromarray(canvas)
    ImageDraw.Draw(picture).text((corner[0] - left, corner[1] - bottom), text, ink, font)
    canvas[:] = np.asarray(picture)


@lru_cache(maxsize=1000)
def drawable(text: str) -> str:
    """Return the text, or with letters as ``\\u732b`` where no font of this machine has them."""
    if text.isascii() or font_of(text) is not None:
        return text
    _say(''.join(letter for letter in text if not letter.isascii()))
    return _escaped(text)


def _escaped(text):
    return text.encode('ascii', 'backslashreplace').decode()


@lru_cache(maxsize=1000)
def _say(letters):
    """Print once how letters are drawn that no font has."""
    print(
        f'no font here has {letters}: drawn as {_escaped(letters)}; a font that has them, such as '
        'fonts-noto-cjk of Debian, is found when it is installed'
    )


@lru_cache(maxsize=1000)
def font_of(text: str) -> str | None:
    """The path of a font that has every letter of a text, or None."""
    wanted = {ord(letter) for letter in text if not letter.isspace()}
    return next((path for path in font_files() if wanted <= _letters(path)), None)


@lru_cache(maxsize=1)
def font_files() -> tuple[str, ...]:
    """The fonts of this machine, that of matplotlib first."""
    import matplotlib
    from matplotlib.font_manager import findSystemFonts

    own = Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf')
    return (str(own), *(
        path for path in sorted(findSystemFonts()) if not any(n in path for n in SYMBOL_FONTS)
    ))  # fmt: skip


@cache
def _letters(path):
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@lru_cache(maxsize=20)
def _font(path, scale):
    from PIL import ImageFont

    return ImageFont.truetype(path, round(PIXELS * scale))
