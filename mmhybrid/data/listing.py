"""The files that are taken for images, in every check, data set and tool."""

import os
from collections.abc import Sequence
from pathlib import Path

CLASS_FILE = 'classes.txt'  # a name a line
# OpenCV, by which the hosts read images, reads all of them.
IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.dib', '.tif', '.tiff', '.webp', '.jp2',
    '.gif', '.ppm', '.pgm', '.pbm', '.pnm',
)  # fmt: skip


def is_image(path: Path) -> bool:
    """Return True if a file is called as images are."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def folder_names(root: Path) -> list[str]:
    """The names of the folders in a folder, sorted; nothing hidden."""
    return sorted(p.name for p in Path(root).iterdir() if p.is_dir() and p.name[0] != '.')


def has_hidden_images(root: Path) -> bool:
    """Return True if a hidden folder below, such as .ipynb_checkpoints, holds images."""
    for place, _, names in os.walk(root):
        parts = Path(place).relative_to(root).parts
        if any(part[0] == '.' for part in parts) and any(is_image(Path(name)) for name in names):
            return True
    return False


def has_hidden_classes(root: Path) -> bool:
    """Return True if a hidden folder, with images or not, lies among those of the classes."""
    return any(path.is_dir() and path.name[0] == '.' for path in root.iterdir())


def walk(root: Path, suffixes: Sequence[str] = ('',)) -> list[Path]:
    """The files below a folder that end so, sorted; nothing hidden; links to folders followed."""
    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen and folder != str(root):  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(('.', '__MACOSX')))
        found += [
            Path(folder, name) for name in sorted(files)
            if not name.startswith('.') and name.lower().endswith(tuple(suffixes))
        ]  # fmt: skip
    return found
