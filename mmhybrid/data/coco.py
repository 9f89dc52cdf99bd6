"""Facts of a COCO annotation file that a training needs before it starts."""

import json
import re
from collections.abc import Sequence
from pathlib import Path


class DataError(ValueError):
    """Data that is missing or does not fit the config; says what to do."""


def read_text(path: str | Path) -> str:
    """A text file in UTF-8; a byte order mark at its begin is no part of it.

    Raises:
        DataError: it is missing, in another encoding, or cannot be read.
    """
    try:
        return Path(path).read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        byte, position = error.object[error.start], error.start
        raise DataError(
            f'{path} is not in UTF-8 (byte 0x{byte:02x} at position {position}): save it in UTF-8'
        ) from error
    except FileNotFoundError as error:
        raise DataError(f'file not found: {path}') from error
    except OSError as error:
        raise DataError(f'{path} cannot be read: {error.strerror}') from error


def read_json_text(path: str | Path) -> str:
    """The text of a JSON file, as the hosts read it.

    Raises:
        DataError: as :func:`read_text`, or it begins with a byte order mark.
    """
    text = read_text(path)
    with open(path, 'rb') as file:
        if file.read(3) == b'\xef\xbb\xbf':
            raise DataError(f'{path} begins with a byte order mark: save it in UTF-8 without one')
    return text


def read_categories(path: str | Path) -> list[str]:
    """Category names of a COCO annotation file, in the file's order.

    The file is searched for its categories, not parsed: COCO's own has 450 MB.

    Raises:
        DataError: the file is missing, cut off, in another encoding than UTF-8, holds no
            categories, or has names that are no text.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f'annotation file not found: {path}')
    text = read_json_text(path)
    if not text.rstrip().endswith('}'):
        raise DataError(f'{path} is not a complete JSON object ({len(text)} characters)')
    for match in re.finditer(r'"categories"\s*:\s*(?=\[)', text):
        try:
            categories, _ = json.JSONDecoder().raw_decode(text, match.end())
            names = [category['name'] for category in categories]
        except (ValueError, TypeError, KeyError):
            continue
        check_are_text(names, path)
        return names
    raise DataError(f'{path} has no "categories": [{{"id": ..., "name": ...}}, ...]')


def check_are_text(names: Sequence[object], where: str | Path) -> None:
    """Refuse class names such as the number 3, which is not what is found as ``'3'``.

    Raises:
        DataError: a name is no text.
    """
    wrong = [str(name) for name in names if not isinstance(name, str)]
    if wrong:
        raise DataError(
            f'class names in {where} that are no text: {", ".join(wrong[:8])}; write each in quotes'
        )


def check_class_names(classes: Sequence[str], path: str | Path) -> None:
    """Compare a config's class names with those of an annotation file.

    Their order is compared too: mmdet's CocoDataset numbers labels in the file's order, so names
    in another order would be shown for the wrong objects.

    Raises:
        DataError: a class is not in the file, the order differs, or a name is no text.
    """
    check_are_text(classes, 'the config')
    names = read_categories(path)
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise DataError(
            f'class names do not match {path}\n'
            f'  not in the file: {", ".join(unknown)}\n'
            f'  config: {", ".join(classes)}\n'
            f'  file:   {", ".join(names)}'
        )
    in_file_order = [name for name in names if name in classes]
    if list(classes) != in_file_order:
        raise DataError(
            f"class names are in another order than in {path}; write them in the file's order\n"
            f'  config: {", ".join(classes)}\n'
            f'  file:   {", ".join(in_file_order)}'
        )
