"""Write a model's graphs to files, run them back, and keep them only if they agree."""

import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils._sympy.value_ranges import ValueRanges

from . import nms, translations
from .agreement import Agreement, measure
from .errors import ExportError, check_format, need
from .exported import LEAST, META, Exported, load_exported, part_path
from .graphs import Graph, prepare
from .openvino import to_openvino
from .tracing import any_size

OPSET = 18
SIZES = ((64, 64), (75, 110), (224, 160))
"""Images that a file of any size is tried on: aligned, odd, wide and high, none of them traced."""


def export(
    graphs: Sequence[Graph],
    path: str | Path,
    *,
    deform: str = 'grid_sample',
    opset: int = OPSET,
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Sequence[int] = (1, 3),
    tolerance: float = 1e-4,
    report: Callable[[str], None] = print,
) -> list[Agreement]:
    """Write graphs to a file and those of its parts beside it, all of them or none.

    Args:
        graphs: of :func:`backbone_graph` or :func:`config_graphs`.
        path: ``.onnx``, ``.xml`` or ``.pt2``.
        deform: form of deformable sampling, ``'grid_sample'`` or ``'gather'``.
        opset: of ONNX's standard operators.
        sizes, batches: of the images that each file is compared on.
        tolerance: largest difference allowed, in standard deviations of the output.
        report: is told what happens.

    Returns:
        The agreement of each file with its model.

    Raises:
        ExportError: the model cannot be exported, or a file disagrees; nothing is left then.
    """
    path = Path(path)
    suffix = check_format(path)
    if suffix != '.pt2':  # before minutes of tracing
        need('onnx', 'onnxscript', 'onnxruntime' if suffix == '.onnx' else 'openvino')
    if not path.parent.is_dir():
        raise ExportError(f'folder not found: {path.parent}; make it first')
    for target in (part_path(path, graph.name) for graph in graphs):
        if target.is_dir():
            raise ExportError(f'{target} is a folder; expected the name of a file to write')
    found = []
    # Beside the final place, under the final names: a large ONNX file names that of its weights.
    with _folder_beside(path) as folder:
        for graph in graphs:
            target = folder / part_path(path, graph.name).name
            report(f'exporting {target.name}')
            start = time.perf_counter()
            program = capture(prepare(graph, deform), graph)
            traced = time.perf_counter()
            report(f'  traced in {traced - start:.0f} s')
            write(program, graph, target, opset=opset)
            report(f'  converted and written in {time.perf_counter() - traced:.0f} s')
            for agreement in compare(graph, load_exported(target), sizes, batches):
                report(f'  {agreement}')
                found.append(agreement)
            if graph.inner and suffix != '.pt2':
                drop_inner(target)  # with which a runtime may compute in another way
                for agreement in compare(graph, load_exported(target), sizes, batches):
                    report(f'  as kept: {agreement}')
                    found.append(agreement)
            if suffix == '.xml':
                target.with_suffix('.onnx').unlink()
        check(found, tolerance)
        for file in sorted(folder.iterdir()):
            os.replace(file, path.parent / file.name)
    return found


def capture(module: nn.Module, graph: Graph) -> ExportedProgram:
    """Capture the program of a graph's prepared module."""
    dims = dict.fromkeys(graph.free, Dim.DYNAMIC)
    try:
        with torch.no_grad(), any_size():
            program = torch.export.export(
                module, (graph.example,), dynamic_shapes=(dims,), strict=False
            )
    except Exception as error:  # of many kinds, from deep inside the tracer
        raise ExportError(
            f'torch.export cannot trace this model for {", ".join(graph.free.values())} of any '
            f'size: {error}'
        ) from error
    _allow_one(program, graph)
    return program


def write(program: ExportedProgram, graph: Graph, path: Path, *, opset: int = OPSET) -> None:
    """Write the program of a graph to a file, with what the file should say of itself."""
    meta = graph.meta | dict(
        input=graph.input,
        outputs=graph.outputs,
        inner=graph.inner,
        shape=[graph.free.get(i, side) for i, side in enumerate(graph.example.shape)],
        torch=torch.__version__,
    )
    suffix = check_format(path)
    if suffix != '.pt2':
        onnx = path.with_suffix('.onnx')
        _write_onnx(program, graph, onnx, meta | dict(opset=opset), opset)
        if suffix == '.xml':
            to_openvino(onnx, path)
    else:
        extra = {f'{META}.json': json.dumps(meta)}
        torch.export.save(program, path, extra_files=extra)


def drop_inner(path: Path) -> None:
    """Leave only the final results among the outputs of an ``.onnx`` or ``.xml`` file."""
    if path.suffix == '.xml':
        drop_inner(path.with_suffix('.onnx'))
        to_openvino(path.with_suffix('.onnx'), path)
        return
    (onnx,) = need('onnx')
    model = onnx.load(path, load_external_data=False)
    (entry,) = (one for one in model.metadata_props if one.key == META)
    meta = json.loads(entry.value)
    del model.graph.output[len(meta['outputs']) :]
    entry.value = json.dumps(meta | dict(inner=[]))
    onnx.save(model, path)


def compare(
    graph: Graph,
    exported: Exported,
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Sequence[int] = (1, 3),
) -> Iterator[Agreement]:
    """Run the graph's own module and the file on noise of several sizes and batches."""
    generator = torch.Generator().manual_seed(1)
    names = graph.outputs + graph.inner
    for shape in _shapes(graph, sizes, batches):
        batch = torch.randn(shape, generator=generator)
        if graph.meta.get('preprocessing'):
            batch = (batch * 60 + 120).clamp(0, 255)
        with torch.no_grad():
            expected = dict(zip(names, graph.module(batch), strict=True))
        found = exported.named(batch, inner=True)
        kept = graph.outputs + [name for name in graph.inner if name in found]
        yield measure(exported.path, shape, {name: expected[name] for name in kept}, found)


def check(found: Sequence[Agreement], tolerance: float) -> None:
    """Raise where something is further apart than allowed."""
    apart = [one for one in found if not one.worst <= tolerance]  # not a number counts too
    if apart:
        raise ExportError(
            f'the exported file disagrees with the model by more than {tolerance:g} and was not '
            'kept:\n' + '\n'.join(f'  {one}' for one in apart)
        )


def _shapes(
    graph: Graph, sizes: Sequence[tuple[int, int]], batches: Sequence[int]
) -> list[tuple[int, ...]]:
    _, *rest = graph.example.shape
    if graph.name or graph.size:
        return [(n, *rest) for n in batches]
    # Each size and each batch once or more, in turn.
    return [
        (batches[i % len(batches)], rest[0], *sizes[i % len(sizes)])
        for i in range(max(len(sizes), len(batches)))
    ]


def _allow_one(program: ExportedProgram, graph: Graph) -> None:
    """Let the program take a batch of one, and images of which a map has one pixel.

    While it is traced a convolution asks for the memory format of its input, and torch notes that
    the example's sides are larger than one. Nothing in the program depends on it.
    """
    (name,) = program.graph_signature.user_inputs
    (node,) = program.graph.find_nodes(op='placeholder', target=name)
    for index, side in graph.free.items():
        symbol = node.meta['val'].shape[index].node.expr
        known = program.range_constraints[symbol]
        lower = min(known.lower, LEAST.get(side, 1))
        program.range_constraints[symbol] = ValueRanges(lower, known.upper)
    program._guards_code[:] = [
        code for code in program._guards_code if not code.endswith((' > 1', ' != 1'))
    ]


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f'.{path.stem}-', dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_onnx(program: ExportedProgram, graph: Graph, path: Path, meta: dict, opset: int) -> None:
    with warnings.catch_warnings(), torch.no_grad(), any_size():
        warnings.simplefilter('ignore')  # of torch's and onnxscript's own code
        try:
            onnx = torch.onnx.export(
                program,
                input_names=[graph.input],
                opset_version=opset,
                custom_translation_table={
                    **translations.onnx_translations(),
                    **nms.onnx_translations(),
                },
                dynamo=True,
                optimize=False,
                verbose=False,
            )
        except Exception as error:  # of many kinds
            raise ExportError(f'torch.onnx cannot convert this model: {error}') from error
    assert onnx is not None  # that is for dynamo=False
    model: Any = onnx.model
    written = model.opset_imports['']
    if written != opset:  # what torch cannot convert it leaves as it was, and only logs that
        raise ExportError(
            f'torch.onnx wrote this model in opset {written}, as it cannot convert it to {opset}; '
            f'expected an opset such as {OPSET}'
        )
    _simplify(model)
    _name_outputs(model, graph.outputs + graph.inner)
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = value.shape.copy()  # those of a converted model are frozen
    for index, name in graph.free.items():
        model.graph.inputs[0].shape[index] = name
    for out in model.graph.outputs:  # their sizes follow from the input's
        for index, side in enumerate(out.shape):
            if not isinstance(side, int):
                out.shape[index] = 'batch' if index == 0 and not graph.name else None
    model.metadata_props[META] = json.dumps(meta)
    onnx.save(path)


def _simplify(model: Any) -> None:
    """Fold constants and drop doubled nodes of a model of onnx_ir.

    Torch's own optimisation also searches for patterns to rewrite, which takes most of its time;
    the runtimes have those rules themselves.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    optimizer.inline(model)
    for _ in range(2):  # with the shapes that the first time has found
        optimizer.fold_constants_ir(model, onnx_shape_inference=True)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass()(model)
    common.CommonSubexpressionEliminationPass()(model)


def _name_outputs(model: Any, names: Sequence[str]) -> None:
    """Name the outputs of a model of onnx_ir, of which some may be one value."""
    from onnx_ir.passes import common

    common.OutputFixPass()(model)
    for value, name in zip(model.graph.outputs, names, strict=True):
        value.name = name
    common.NameFixPass()(model)  # of others that have these names
