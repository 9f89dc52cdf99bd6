"""Models outside the notebook: exported files, written only if they agree, and read back.

    from mmhybrid.deploy import backbone_graph, export, load_exported

    export([backbone_graph(model)], 'backbone.onnx')
    maps = load_exported('backbone.onnx')(image)

`tools/export.py` is the same on the command line.
"""

from .errors import ExportError
from .exported import Exported, load_exported
from .exporting import Agreement, export
from .graphs import Graph, backbone_graph, config_graphs
from .host import run_exported
from .quantize import quantize_int8

__all__ = [
    'Agreement',
    'Exported',
    'ExportError',
    'Graph',
    'backbone_graph',
    'config_graphs',
    'export',
    'load_exported',
    'quantize_int8',
    'run_exported',
]
