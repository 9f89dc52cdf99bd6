"""Time one inference in PyTorch, compiled, in onnxruntime and in OpenVINO, side by side.

    python tools/benchmark_runtimes.py vitcomer_s cmt_s --size 512 512

A NAME is a backbone, perhaps with arguments, or a config, whose model is measured from the image to
its final results; weights are as initialised. Each is exported for the given size, and the exported
file is compared with the model first. With --files those in that folder are taken as they are, and
new ones are left there. The runtimes take turns, round after round; a figure is the median of the
rounds in ms, with the ratio to the first runtime in brackets.

    eager, eager-bf16               PyTorch; bf16 by autocast
    compiled                        torch.compile, which needs a C++ compiler
    onnxruntime, onnxruntime-int8   int8 weights of linear layers
    openvino, openvino-bf16         OpenVINO on the CPU
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..config_files import config_path, list_configs
from ..files import write_file
from .export import backbone_graph, config_graphs
from .export import parse_args as export_args
from .paths import find_config, is_config

if TYPE_CHECKING:
    from torch import Tensor

    from ..deploy import Graph

RUNTIMES = (
    'eager',
    'compiled',
    'onnxruntime',
    'openvino',
    'eager-bf16',
    'openvino-bf16',
    'onnxruntime-int8',
)
DEFAULT = 'eager,compiled,onnxruntime,openvino'
Step = Callable[['Tensor'], Any]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='+', metavar='NAME')
    parser.add_argument('--runtimes', default=DEFAULT, help=f'by comma; default: {DEFAULT}')
    parser.add_argument('--size', nargs=2, type=int, default=(512, 512), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int)
    parser.add_argument('--deform', choices=('grid_sample', 'gather'), default='grid_sample')
    parser.add_argument('--files', type=Path, metavar='DIR', help='keep the exported files here')
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args(argv)
    args.runtimes = args.runtimes.split(',')
    unknown = [name for name in args.runtimes if name not in RUNTIMES]
    if unknown:
        parser.error(f'--runtimes {unknown[0]}: expected {", ".join(RUNTIMES)}')
    if min(args.batch, args.rounds) < 1 or min(args.size) < 32:
        parser.error('--batch and --rounds are at least 1, --size at least 32 32')
    return args


def main(argv: list[str] | None = None) -> list[dict]:
    """Measure, print a table and return its rows: the name, and ms by runtime."""
    import torch

    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = []
    for name in args.names:
        with tempfile.TemporaryDirectory() as folder:
            steps = prepare(name, args, args.files or Path(folder))
            rows.append(dict(name=name, **measure(steps, args)))
        found = ', '.join(f'{key} {rows[-1][key]:.0f}' for key in args.runtimes)
        print(f'{name}: {found}', flush=True)
    print(table(rows, args))
    if args.json:
        write_file(args.json, json.dumps(rows, indent=2) + '\n')
    return rows


def prepare(name: str, args: argparse.Namespace, folder: Path) -> dict[str, Step]:
    """Export a model, and return what each runtime does with a batch.

    Args:
        folder: of the files; those that are there are not written again.
    """
    import torch

    from .. import deploy

    graph = graph_of(name, args)
    files = write_files(name, graph, args, folder)
    steps: dict[str, Step] = {}
    for runtime in args.runtimes:
        if runtime == 'openvino-bf16':
            steps[runtime] = deploy.load_exported(files['openvino'], precision='bf16')
        elif runtime in files:
            steps[runtime] = deploy.load_exported(files[runtime])
        elif runtime == 'compiled':
            steps[runtime] = torch.compile(graph.module)
        else:
            steps[runtime] = graph.module
    return steps


def write_files(
    name: str, graph: 'Graph', args: argparse.Namespace, folder: Path
) -> dict[str, Path]:
    """Write the files that the runtimes need, and compare them; return them by runtime."""
    from .. import deploy
    from ..deploy.exporting import check, compare
    from ..deploy.openvino import to_openvino

    folder.mkdir(parents=True, exist_ok=True)
    size = 'x'.join(map(str, args.size))
    onnx = folder / f'{file_stem(name)}-{size}-{args.deform}.onnx'
    files = {
        'onnxruntime': onnx,
        'onnxruntime-int8': onnx.with_suffix('.int8.onnx'),
        'openvino': onnx.with_suffix('.xml'),
    }
    wanted = {'openvino' if one.startswith('openvino') else one for one in args.runtimes}
    batches = (args.batch,)
    if wanted & files.keys() and not onnx.is_file():
        deploy.export([graph], onnx, deform=args.deform, batches=batches)
    if 'openvino' in wanted and not files['openvino'].is_file():
        try:
            to_openvino(onnx, files['openvino'])
            found = list(compare(graph, deploy.load_exported(files['openvino']), batches=batches))
            check(found, tolerance=1e-4)
        except BaseException:  # else the next run would take it as it is
            for suffix in ('.xml', '.bin'):
                onnx.with_suffix(suffix).unlink(missing_ok=True)
            raise
    if 'onnxruntime-int8' in wanted and not files['onnxruntime-int8'].is_file():
        deploy.quantize_int8(onnx, files['onnxruntime-int8'], [graph], batches=batches)
    return files


def file_stem(name: str) -> str:
    """Return the beginning of the names of a model's files, another one for each model."""
    from mmengine.config import Config

    if not is_config(name):
        return quote(name, safe=',=')  # all of it: a point in an argument begins no suffix
    path = find_config(name)
    if path.stem in list_configs() and path.samefile(config_path(path.stem)):
        return path.stem
    # Own configs may share a name, and change.
    return f'{path.stem}-{sha256(Config.fromfile(path).pretty_text.encode()).hexdigest()[:8]}'


def graph_of(name: str, args: argparse.Namespace) -> 'Graph':
    """Return the graph of a backbone or config for the size that is measured."""
    import torch

    torch.manual_seed(0)  # the weights are those of the files that are there
    is_file = is_config(name)
    given = [str(find_config(name)) if is_file else name, 'model.onnx']
    size = [str(side) for side in args.size]
    # Their values do not matter: nothing is downloaded.
    random = ['--cfg-options', 'model.backbone.init_cfg=None'] if is_file else []
    export = export_args([*given, '--fixed-size', *size, *random])
    return config_graphs(export)[0] if is_file else backbone_graph(export)


def measure(steps: dict[str, Step], args: argparse.Namespace) -> dict[str, float]:
    """Return the median ms of each runtime; they take turns."""
    import torch

    batch = torch.randn(args.batch, 3, *args.size)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(-2, args.rounds):  # the first ones warm up
        for name, step in steps.items():
            start = time.perf_counter()
            with (
                torch.inference_mode(),
                torch.autocast('cpu', torch.bfloat16, enabled=name == 'eager-bf16'),
            ):
                step(batch)
            if number >= 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(found) for name, found in times.items()}


def table(rows: list[dict], args: argparse.Namespace) -> str:
    """Return the rows as text; in brackets the ratio to the first runtime."""
    import torch

    head = ['', *args.runtimes]
    lines = [head]
    for row in rows:
        base = row[args.runtimes[0]]
        cells = [f'{row[name]:.0f} ({row[name] / base:.2f}x)' for name in args.runtimes]
        lines.append([row['name'], *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ['  '.join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    about = (
        f'{torch.get_num_threads()} threads, torch {torch.__version__}, '
        f'{args.size[0]}x{args.size[1]}, batch {args.batch}, deformable sampling as {args.deform}, '
        f'ms, median of {args.rounds} interleaved rounds'
    )
    return '\n'.join([about, '', *(line.rstrip() for line in text)])
