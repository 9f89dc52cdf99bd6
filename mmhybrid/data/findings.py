"""The common parts of data checks: findings, contents of a split, images read by threads."""

import hashlib
import io
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .coco import DataError

MAX_PIXELS = 100_000_000  # of an image; more is taken for an error of its header
MAX_BYTES = 2**30  # of an image file
EXAMPLES = 3


class Findings:
    """Errors and warnings, those of one kind together, with the first examples."""

    def __init__(self):
        self.groups: dict[tuple[str, str], list] = {}

    def error(self, what: str, example: object = None) -> None:
        """Note what stops or spoils a training."""
        self._add('error', what, example)

    def warning(self, what: str, example: object = None) -> None:
        """Note what deserves a look."""
        self._add('warning', what, example)

    def _add(self, level, what, example):
        group = self.groups.setdefault((level, what), [0])
        group[0] += 1
        if example is not None and len(group) <= EXAMPLES:
            group.append(shown(example))

    def forget(self, said: set) -> None:
        """Leave out what is in ``said``, and add the rest to it."""
        found = {key: (*key, *map(str, group)) for key, group in self.groups.items()}
        self.groups = {k: group for k, group in self.groups.items() if found[k] not in said}
        said.update(found.values())

    def count(self, level: str) -> int:
        """Kinds of findings of a level."""
        return sum(1 for of, _ in self.groups if of == level)

    def messages(self, level: str) -> list[str]:
        """Return the findings of a level, a line for each kind."""
        lines = []
        for (of, text), (count, *examples) in self.groups.items():
            if of != level:
                continue
            if examples:
                number = f' ({count})' if count > 1 else ''
                text += f'{number}: {", ".join(examples)}' + (', ...' * (count > len(examples)))
            lines.append(text)
        return lines

    def lines(self) -> list[str]:
        """A line for each kind, errors first."""
        levels = ('error', 'warning')
        return [f'{level}: {line}' for level in levels for line in self.messages(level)]


@dataclass
class Split:
    """The contents and the findings of a split.

    Attributes:
        name, source: of the split, and what was read.
        unit: what is counted by class: ``'boxes'``, ``'pixels'`` or ``'images'``.
        counts, in_images: by class, how many a model gets, and in how many images.
        left_out: how many it does not get.
        sampled: how many images were read; None: all.
        sizes: images that were read by (width, height).
        names: names of the images without suffix, to compare splits.
        digests: an image for each content.
    """

    name: str
    source: str
    unit: str
    findings: Findings = field(default_factory=Findings)
    images: int = 0
    counts: Counter = field(default_factory=Counter)
    in_images: Counter = field(default_factory=Counter)
    left_out: int = 0
    sampled: int | None = None
    sizes: Counter = field(default_factory=Counter)
    names: set = field(default_factory=set)
    digests: dict = field(default_factory=dict)


@dataclass
class Reading:
    """The way to read images: all or ``sample`` of a split; ``progress(name, done, total)``."""

    sample: int | None = None
    progress: Callable[[str, int, int], None] = lambda name, done, total: None

    def each(self, split: Split | None, items: Sequence, read: Callable) -> Iterable:
        """``(item, read(item))`` of the items of a split, read by threads."""
        if self.sample is not None and self.sample < len(items):
            items = [items[len(items) * i // self.sample] for i in range(self.sample)]
            if split is not None:
                split.sampled = len(items)
        threads = min(16, 2 * (os.cpu_count() or 1))
        with ThreadPoolExecutor(threads) as pool:
            # Not all at once: what is read ahead of its use stays in memory.
            ahead = deque(pool.submit(read, item) for item in items[: 2 * threads])
            for done, item in enumerate(items, 1):
                result = ahead.popleft().result()
                if done + len(ahead) < len(items):
                    ahead.append(pool.submit(read, items[done + len(ahead)]))
                self.progress('' if split is None else split.name, done, len(items))
                yield item, result


def shown(text: object) -> str:
    """Text that came from a file, fit to be printed: one line, no control characters, not long."""
    line = ''.join(char if char.isprintable() else '?' for char in str(text))
    return line if len(line) <= 100 else f'{line[:60]}...{line[-30:]}'


def is_whole(value: object) -> bool:
    """Return True for 3.0, which serves as an id as 3 does."""
    return isinstance(value, float) and value.is_integer()


def numbers_of(values: Any) -> list[float] | None:
    """Finite floats of a list, or None."""
    try:  # nearly all lists of a file of millions, 2.4 times as fast
        if set(map(type, values)) <= {int, float} and math.isfinite(sum(values)):
            return list(map(float, values))
    except (TypeError, OverflowError):
        pass
    try:
        numbers = [float(value) for value in values if not isinstance(value, (str, bool))]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == len(values) and all(map(math.isfinite, numbers)) else None


# ---------------------------------------------------------------------------- files


def inside(root: Path, name: object) -> Path | None:
    """The path of a file that an annotation names, or None if it leads out of the folder."""
    if not isinstance(name, str) or not name:
        return None
    path = os.path.normpath(name)
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir:
        return None
    return root / path


def read_pixels(path: Path, whole: bool = False) -> dict:
    """An image that can be decoded to its end.

    Args:
        path: of the file.
        whole: give the pixels, not only the size.

    Returns:
        dict of ``size`` (width, height; as the hosts turn it by its EXIF entry), ``digest`` of the
        file, and of ``pixels``, an array, if ``whole``.

    Raises:
        DataError: the file is missing or broken; the message is short.
    """
    from PIL import Image

    if not os.path.isfile(path):
        raise DataError('missing image files')
    if os.path.getsize(path) > MAX_BYTES:
        raise DataError(f'image files larger than {MAX_BYTES >> 20} MB')
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
            turned = not whole and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            if size[0] * size[1] > MAX_PIXELS:
                raise DataError(f'images that claim more than {MAX_PIXELS:,} pixels')
            common = image.format in ('JPEG', 'PNG')
            if not whole:
                quick = tuple(max(1, side // 8) for side in size)
                image.draft('L', quick)  # reads all, computes little
            image.load()
            pixels = np.asarray(image) if whole else None
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f'images that claim more than {MAX_PIXELS:,} pixels') from error
    except Exception as error:  # a decoder raises anything on a broken file
        raise DataError('broken or truncated image files') from error
    size = size[::-1] if turned else size
    if not whole and not common:
        size = _size_in_opencv(data)
    result = dict(size=size, digest=hashlib.blake2b(data).digest())
    return dict(result, pixels=pixels) if whole else result


def _size_in_opencv(data):
    """The size in OpenCV, by which the hosts read images.

    It reads fewer formats than PIL, and the EXIF entries of fewer.
    """
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError('images of a format that OpenCV does not read: write them as JPEG or PNG')
    return image.shape[1::-1]


def try_to_read(path: Path, whole: bool = False) -> dict | str:
    """Return the result of ``read_pixels``, or the error's text."""
    try:
        return read_pixels(path, whole)
    except (DataError, OSError) as error:
        return str(error) if isinstance(error, DataError) else 'image files that cannot be read'


def note_image(
    split: Split, path: Path, found: dict | str, expected: Sequence[int] | None = None
) -> bool:
    """Count an image that was read; report one that was not, or is not as expected."""
    if isinstance(found, str):
        split.findings.error(found, path)
        return False
    split.sizes[found['size']] += 1
    if found['digest'] in split.digests:
        split.findings.warning(
            'images twice in this split', f'{path} and {split.digests[found["digest"]]}'
        )
    split.digests.setdefault(found['digest'], path)
    if expected is not None and found['size'] != expected:
        what = 'images of another size than annotated'
        split.findings.error(what, f'{path} has {by(found["size"])}, annotated {by(expected)}')
    return True


def by(size: Sequence) -> str:
    """Width and height as they are written."""
    return f'{size[0]}x{size[1]}'
