"""The files that are taken for images, in every check, data set and tool."""

from pathlib import Path

# OpenCV, by which the hosts read images, reads all of them.
IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.dib', '.tif', '.tiff', '.webp', '.jp2',
    '.gif', '.ppm', '.pgm', '.pbm', '.pnm',
)  # fmt: skip


def is_image(path: Path) -> bool:
    """Return True if a file is called as images are."""
    return path.suffix.lower() in IMAGE_SUFFIXES
