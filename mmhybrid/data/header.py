"""Size, depth and turn of an image, read from the beginning of its file."""

import struct
from dataclasses import dataclass
from pathlib import Path

from .coco import DataError

ORIENTATION = 0x0112  # of EXIF; from 5 on width and height change places
UNKNOWN = 'broken or truncated image files'


@dataclass(frozen=True)
class Header:
    """The beginning of an image file.

    Attributes:
        size: (width, height) as stored.
        bits: of a value.
        is_float: True if values are floating-point numbers.
        turned: True if an EXIF entry makes width height.
    """

    size: tuple[int, int]
    bits: int = 8
    is_float: bool = False
    turned: bool = False

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) as the hosts turn the image."""
        return self.size[::-1] if self.turned else self.size

    @property
    def kind(self) -> str:
        """Bits and kind of a value in words."""
        return f'{self.bits}-bit ' + ('floating-point' if self.is_float else 'integer')


def read_header(path: str | Path) -> Header:
    """Read the header of an image file; its pixels stay where they are.

    Raises:
        DataError: the file is missing, or no image; the message is short.
    """
    from PIL import Image

    try:
        with open(path, 'rb') as file:
            begin = file.read(32)
    except FileNotFoundError as error:
        raise DataError('missing image files') from error
    except (OSError, ValueError) as error:  # a name may hold a null
        raise DataError('image files that cannot be read') from error
    if begin[:4] in (b'II*\0', b'MM\0*'):  # Pillow opens no TIFF of three channels of floats
        return _read_tiff(path)
    try:
        with Image.open(path) as image:
            deep = image.mode == 'I' or image.mode.startswith('I;16')
            bits = 16 if deep else 32 if image.mode == 'F' else 8
            if begin[:8] == b'\x89PNG\r\n\x1a\n':  # Pillow makes 8 bits of 16 of each colour
                bits = max(8, begin[24])
            # Pillow decodes a PNG file for an entry behind the pixels: that of none is looked for.
            has_entry = image.format != 'PNG' or 'exif' in image.info
            turned = has_entry and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            if turned and image.format not in ('JPEG', 'PNG'):
                turned = _is_turned(path, image.size)
            return Header(image.size, bits, image.mode == 'F', turned)
    except Exception as error:  # a decoder raises anything on a broken file
        raise DataError(UNKNOWN) from error


def _is_turned(path, size):
    """Return True if OpenCV turns the image, which it does of some formats."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return image is not None and image.shape[1::-1] != size


WIDTH, HEIGHT, BITS, SAMPLE_FORMAT = 256, 257, 258, 339  # tags of a TIFF file
FORMS = {1: 'B', 3: 'H', 4: 'I'}  # of their values: byte, short, long


def _read_tiff(path):
    with open(path, 'rb') as file:
        try:
            order = '<' if file.read(2) == b'II' else '>'
            file.seek(4)
            file.seek(struct.unpack(f'{order}I', file.read(4))[0])
            (count,) = struct.unpack(f'{order}H', file.read(2))
            entries = [struct.unpack(f'{order}HHI4s', file.read(12)) for _ in range(count)]
            tags = {}
            for tag, form, number, value in entries:
                if tag not in (WIDTH, HEIGHT, BITS, SAMPLE_FORMAT, ORIENTATION):
                    continue
                letter = order + FORMS[form]
                size = struct.calcsize(letter)
                if number * size > 4:  # they lie elsewhere, and the first will do
                    file.seek(struct.unpack(f'{order}I', value)[0])
                    value = file.read(size)
                tags[tag] = struct.unpack(letter, value[:size])[0]
            size = (tags[WIDTH], tags[HEIGHT])
            turned = tags.get(ORIENTATION, 1) in (5, 6, 7, 8) and _is_turned(path, size)
            return Header(size, max(8, tags.get(BITS, 1)), tags.get(SAMPLE_FORMAT, 1) == 3, turned)
        except (struct.error, KeyError) as error:
            raise DataError(UNKNOWN) from error
