"""OpenVINO's files, made from ONNX, and run."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import ExportError, need
from .exported import META, Exported, read_meta


def to_openvino(source: Path, target: Path) -> None:
    """Convert an ONNX file; what it says of itself comes along.

    Weights stay in float32. ``target`` is an ``.xml``, beside which a ``.bin`` holds the weights.
    """
    onnx, openvino = need('onnx', 'openvino')
    meta = {
        entry.key: entry.value
        for entry in onnx.load(source, load_external_data=False).metadata_props
    }
    try:
        model = openvino.convert_model(source)
    except Exception as error:  # of many kinds
        raise ExportError(f'OpenVINO cannot convert this model: {error}') from error
    model.set_rt_info(meta[META], META)
    openvino.save_model(model, target, compress_to_fp16=False)


class OpenVinoFile(Exported):
    """Run by OpenVINO on the CPU."""

    def __init__(self, path: Path, precision: str = 'f32'):
        (openvino,) = need('openvino')
        try:
            model = openvino.Core().read_model(path)
        except RuntimeError as error:
            raise ExportError(f'OpenVINO cannot read {path}: {error}') from error
        text = model.get_rt_info(META).astype(str) if model.has_rt_info(META) else None
        super().__init__(path, read_meta(text, path))
        options: dict[str, Any] = dict(
            # It may choose bfloat16 by itself, and then differs by a thousand times as much.
            INFERENCE_PRECISION_HINT=precision,
            INFERENCE_NUM_THREADS=torch.get_num_threads(),
            PERFORMANCE_HINT='LATENCY',
        )
        self.compiled = openvino.compile_model(model, 'CPU', options)

    def run(self, batch: Tensor, names: list[str]) -> list[Tensor]:
        """Run OpenVINO."""
        outs = self.compiled(batch.numpy())
        # Its outputs are views into memory that the next call writes to.
        return [torch.from_numpy(outs[name].copy()) for name in names]
