"""Exported files, read back and run."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from .errors import ExportError, check_format, need

META = 'mmhybrid'
"""Under this key ONNX files hold what they are; in .pt2 files it is ``mmhybrid.json``."""

LEAST = dict(height=32, width=32)
"""The smallest sides of images that backbones take."""


class Exported:
    """An exported model: called with a batch of images, it gives its outputs.

    Attributes:
        path: its file.
        meta: its description: ``kind``, ``name``, ``classes``, ``outputs``, ``mean``, ``std``,
            ``channel_order``, ``preprocessing``, ``strides``, ``size`` (None: any) and others.
        input, outputs: names.
    """

    def __init__(self, path: Path, meta: dict):
        self.path = path
        self.meta = meta
        self.input: str = meta['input']
        self.outputs: list[str] = meta['outputs']

    def __call__(self, batch: Tensor) -> list[Tensor]:
        """Return the outputs, in the order of their names, on the batch's device."""
        return list(self.named(batch).values())

    def named(self, batch: Tensor, *, inner: bool = False) -> dict[str, Tensor]:
        """Return the outputs by name, perhaps with those that are only there to be compared."""
        self.check(batch)
        names = self.outputs + (self.meta.get('inner', []) if inner else [])
        outs = self.run(batch.detach().cpu().float().contiguous(), names)
        return {name: out.to(batch.device) for name, out in zip(names, outs, strict=True)}

    @cached_property
    def parts(self) -> dict[str, 'Exported']:
        """The files beside this one that hold the heads of a two-stage detector, by name."""
        return {name: load_exported(part_path(self.path, name)) for name in self.meta['parts']}

    def check(self, batch: Tensor) -> None:
        """Raise unless the batch has the shape that the file takes."""
        expected = self.meta['shape']
        fits = batch.ndim == len(expected) and all(
            side >= LEAST.get(want, 0) if isinstance(want, str) else side == want
            for side, want in zip(batch.shape, expected, strict=True)
        )
        if not fits:
            least = ''.join(f', {side} >= {LEAST[side]}' for side in LEAST if side in expected)
            size = self.meta.get('size')
            hint = (
                f': resize images to {size[0]}x{size[1]} (H x W) in the test pipeline, or export '
                'without --fixed-size'
                if size
                else ''
            )
            raise ExportError(
                f'{self.path.name} takes a batch of shape {tuple(expected)}{least}, got '
                f'{tuple(batch.shape)}{hint}'
            )

    def run(self, batch: Tensor, names: list[str]) -> list[Tensor]:
        """Return the first outputs, those named, of a checked batch on the CPU."""
        raise NotImplementedError


class OnnxFile(Exported):
    """Run by onnxruntime, on a GPU where its CUDA provider is installed."""

    def __init__(self, path: Path):
        (ort,) = need('onnxruntime')
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        wanted = ('CUDAExecutionProvider', 'CPUExecutionProvider')
        # TF32, the default of newer GPUs, keeps 10 bits of a product: a file is held to more.
        exact = {'CUDAExecutionProvider': {'use_tf32': 0}}
        providers = [
            (name, exact.get(name, {})) for name in wanted if name in ort.get_available_providers()
        ]
        try:
            self.session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's own errors have no common base
            raise ExportError(f'onnxruntime cannot read {path}: {error}') from error
        text = self.session.get_modelmeta().custom_metadata_map.get(META)
        super().__init__(path, read_meta(text, path))

    def run(self, batch: Tensor, names: list[str]) -> list[Tensor]:
        """Run onnxruntime."""
        outs = self.session.run(names, {self.input: batch.numpy()})
        return [torch.from_numpy(out) for out in outs]


class Pt2File(Exported):
    """Run by torch, on the CPU."""

    def __init__(self, path: Path):
        extra = {f'{META}.json': ''}
        try:
            self.module = torch.export.load(path, extra_files=extra).module()
        except Exception as error:  # a damaged archive fails in many ways
            raise ExportError(f'torch.export cannot read {path}: {error}') from error
        super().__init__(path, read_meta(extra[f'{META}.json'], path))

    def run(self, batch: Tensor, names: list[str]) -> list[Tensor]:
        """Run the exported program with torch."""
        try:
            with torch.no_grad():
                return list(self.module(batch))[: len(names)]
        except AssertionError as error:  # a guard of the program
            raise ExportError(
                f'{self.path.name} does not take a batch of shape {tuple(batch.shape)}: {error}'
            ) from error


def load_exported(path: str | Path, *, precision: str = 'f32') -> Exported:
    """Open a file that :func:`mmhybrid.deploy.export` or ``tools/export.py`` wrote.

    Args:
        precision: in which OpenVINO computes, ``'f32'``, ``'bf16'`` or ``'f16'``.

    Raises:
        ExportError: it is missing, of another suffix, damaged, or from elsewhere; onnxruntime or
            openvino is not installed; or a precision is given for a file that has its own.
    """
    path = Path(path)
    suffix = check_format(path)
    if not path.is_file():
        raise ExportError(f'exported file not found: {path}')
    if precision != 'f32' and suffix != '.xml':
        raise ExportError(
            f'{path.name} cannot compute in {precision}: only files of OpenVINO (.xml) are told a '
            'precision; leave it out (test_cfg.fp16), or export an .xml'
        )
    if suffix == '.xml':
        from .openvino import OpenVinoFile

        return OpenVinoFile(path, precision)
    return OnnxFile(path) if suffix == '.onnx' else Pt2File(path)


def part_path(path: Path, name: str) -> Path:
    """Return the path of a part of the model: ``det.onnx`` has its box head in ``det.box.onnx``."""
    return path.with_suffix(f'.{name}{path.suffix}') if name else path


def unflatten(outs: Sequence[Tensor], layout: Sequence[int]) -> tuple[list[Tensor], ...]:
    """Group a detector's outputs as its head gives them: a list of levels for each."""
    left = iter(outs)
    return tuple([next(left) for _ in range(n)] for n in layout)


def read_meta(text: str | bytes | None, path: Path) -> dict:
    """Return what a file says of itself, from its JSON."""
    if not text:
        raise ExportError(
            f'{path} was not written by mmhybrid: it has no metadata of that name; export the '
            'model with mmhybrid export'
        )
    return json.loads(text)
