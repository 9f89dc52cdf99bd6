"""Errors of exporting and of exported files, and the packages that files need."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

FORMATS = ('.onnx', '.pt2', '.xml')


class ExportError(ValueError):
    """A model that cannot be exported, or a file that cannot be run; the message says why."""


def need(*names: str) -> list[ModuleType]:
    """Import the named packages, or raise an error that says how to install them."""
    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        wanted = ['onnx', 'onnxruntime', 'onnxscript']
        if 'openvino' in names:
            wanted = ['onnx', 'onnxscript', 'openvino']
        raise ExportError(
            f'such files need the packages {", ".join(wanted)} ({error}): '
            f'pip install {" ".join(wanted)}'
        ) from error


def check_format(path: Path) -> str:
    """Return the suffix of a path, one of ``FORMATS``."""
    if path.suffix not in FORMATS:
        raise ExportError(
            f'{path} has the suffix {path.suffix!r}; expected .onnx (ONNX), .pt2 (torch.export) or '
            '.xml (OpenVINO)'
        )
    return path.suffix
