"""int8 for CPUs: onnxruntime's dynamic quantization of the linear layers of an ONNX file."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import ExportError, check_format, need
from .exported import load_exported, part_path
from .exporting import SIZES, Agreement, _folder_beside, compare
from .graphs import Graph


def quantize_int8(
    source: str | Path,
    target: str | Path,
    graphs: Sequence[Graph],
    *,
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Sequence[int] = (1, 3),
) -> list[Agreement]:
    """Write an ONNX file, and those of its parts, with int8 weights of their matrix products.

    Activations are quantized as they come, one scale a tensor; weights keep one a channel.
    Convolutions stay in float: onnxruntime has no fast dynamic form of them on a CPU.

    Args:
        source, target: ONNX files; the first exists.
        graphs: what ``source`` was exported from.
        sizes, batches: what the result is compared on.

    Returns:
        How far it is from the model. Only data can tell the cost in accuracy.
    """
    source, target = Path(source), Path(target)
    if check_format(source) != '.onnx' or check_format(target) != '.onnx':
        raise ExportError(f'int8 is made from ONNX to ONNX, got {source} to {target}')
    onnx, quantization = need('onnx', 'onnxruntime.quantization')
    found: list[Agreement] = []
    with _folder_beside(target) as folder, _without_advice():
        for graph in graphs:
            part = folder / part_path(target, graph.name).name
            model = onnx.load(part_path(source, graph.name))
            # Types of inner values, which the exporter wrote with names of sizes, are found anew.
            del model.graph.value_info[:]
            quantization.quantize_dynamic(
                model,
                part,
                op_types_to_quantize=['MatMul', 'Gemm'],
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
                extra_options=dict(MatMulConstBOnly=True),
            )
            found += compare(graph, load_exported(part), sizes, batches)
        for file in sorted(folder.iterdir()):
            os.replace(file, target.parent / file.name)
    return found


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the advice of onnxruntime to do a preprocessing that the exporter has done."""

    def is_other(record: logging.LogRecord) -> bool:
        return 'pre-process' not in record.getMessage()

    logging.getLogger().addFilter(is_other)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_other)
