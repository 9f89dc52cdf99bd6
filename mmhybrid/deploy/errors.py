"""Errors of exporting and of exported files, and the packages that ONNX needs."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

FORMATS = ('.onnx', '.pt2')


class ExportError(ValueError):
    """A model that cannot be exported, or a file that cannot be run; the message says why."""


def need(*names: str) -> list[ModuleType]:
    """Import the named packages, or raise an error that says how to install them."""
    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise ExportError(
            f'ONNX files need the packages onnx, onnxruntime and onnxscript ({error}): '
            'pip install onnx onnxruntime onnxscript'
        ) from error


def check_format(path: Path) -> str:
    """Return the suffix of a path, one of ``FORMATS``."""
    if path.suffix not in FORMATS:
        raise ExportError(
            f'{path} has the suffix {path.suffix!r}; expected .onnx (ONNX) or .pt2 (torch.export)'
        )
    return path.suffix
