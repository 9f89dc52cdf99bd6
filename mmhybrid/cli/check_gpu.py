"""Check this package on a GPU, within five minutes, and write down what it found.

    python tools/check_gpu.py

kernels     deformable attention by Triton, and attention with a bias, in float32, float16 and
            bfloat16: results and gradients against the plain form in float32
machine     bandwidth of a copy, throughput of a matrix product, time of the smallest operator
deformable  time of deformable attention by each backend, as tools/benchmark_deformable.py
benchmark   time and memory of backbones, as tools/benchmark.py, beside the least time that
            `--count` computes from what was measured of the machine
demo        one epoch of the demo

Where there is no GPU it ends with an error. `--device cpu` tries the steps out on a CPU instead;
its figures say nothing of a GPU. Results are in OUT/check_gpu.json and, as tables for
docs/performance.md, in OUT/check_gpu.md. A step that fails is told, the next one goes on, and the
exit code is 1.
"""

import argparse
import json
import shutil
import statistics
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_file
from . import benchmark, benchmark_deformable
from .usage import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAMES = ['timm:vit_small_patch16_224', 'vitcomer_s', 'vitadapter_s', 'cmt_s']
TOLERANCES = dict(fp32=1e-4, fp16=4e-3, bf16=3e-2)  # of the largest number
STEPS = ('kernels', 'machine', 'deformable', 'benchmark', 'demo')
DEMO: list[str] = []  # more options of the demo, for tests


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--names', nargs='+', default=NAMES, metavar='NAME', help='backbones')
    parser.add_argument('--size', nargs=2, type=int, default=(1024, 1024), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--dtype', choices=TOLERANCES, default='bf16', help='of the benchmarks')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', nargs='+', choices=STEPS, default=list(STEPS))
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/check_gpu'))
    args = parser.parse_args(argv)
    if min(args.size) < 32 or min(args.batch, args.rounds) < 1:
        parser.error('--size is at least 32 32, --batch and --rounds at least 1')
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the steps; return the number of those that failed."""
    args = parse_args(argv)
    import torch

    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UsageError('no GPU that torch can use; --device cpu tries the steps out without one')
    device = torch.device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = dict(about=describe(device, args), seconds={}, failed={})
    steps: dict[str, Callable] = dict(
        kernels=check_kernels,
        machine=measure_machine,
        deformable=time_deformable,
        benchmark=time_backbones,
        demo=run_demo,
    )
    for name in args.steps:
        print(f'\n== {name}', flush=True)
        start = time.perf_counter()
        try:
            report[name] = steps[name](args, device, report)
        except (Exception, SystemExit) as error:  # the next steps still tell something
            traceback.print_exc()
            report['failed'][name] = f'{type(error).__name__}: {error}'
        report['seconds'][name] = time.perf_counter() - start
    wrong = [row for row in report.get('kernels', []) if not row['passed']]
    if wrong:
        report['failed']['kernels'] = f'{len(wrong)} of {len(report["kernels"])} are off'
    write_file(args.out / 'check_gpu.json', json.dumps(report, indent=2) + '\n')
    text = markdown(report)
    write_file(args.out / 'check_gpu.md', text)
    print(f'\n{text}\n{args.out / "check_gpu.json"}\n{args.out / "check_gpu.md"}')
    return len(report['failed'])


def describe(device: 'torch.device', args: argparse.Namespace) -> dict:
    """Return what the figures depend on."""
    import torch

    from ..models.kernels.deformable_attention import triton_kernels

    kernels = triton_kernels()
    on_gpu = device.type == 'cuda'
    return dict(
        device=torch.cuda.get_device_name() if on_gpu else 'CPU, for a trial',
        capability=list(torch.cuda.get_device_capability()) if on_gpu else None,
        torch=torch.__version__,
        triton=None if kernels is None else kernels.triton.__version__,
        size=list(args.size),
        batch=args.batch,
        dtype=args.dtype,
    )


# Kernels


def check_kernels(args: argparse.Namespace, device: 'torch.device', report: dict) -> list[dict]:
    """Compare kernels with the plain form; a row for each dtype, size and result."""
    import torch

    from ..models.kernels import biased_attention, deformable_attention
    from ..models.kernels.deformable_attention import triton_kernels

    kernels = triton_kernels()
    has_triton = kernels is not None and (device.type == 'cuda' or kernels.INTERPRETED)
    if device.type == 'cuda' and not has_triton:
        raise UsageError('Triton cannot be imported: install the one that belongs to this torch')
    backend = 'triton' if has_triton else 'embedding_bag'
    small = dict(shapes=((5, 6), (3, 3), (1, 2)), queries=20, heads=3, dims=20, points=3)
    tall, wide = args.size
    shapes = tuple((-(-tall // s), -(-wide // s)) for s in benchmark_deformable.STRIDES)
    large = dict(shapes=shapes, queries=sum(h * w for h, w in shapes), heads=6, dims=64, points=4)
    rows = []
    for key, tolerance in TOLERANCES.items():
        dtype = getattr(torch, benchmark_deformable.DTYPES[key])
        for sizes in (small, large):
            levels = sizes['shapes']

            def sample(value, locations, weights, backend=backend, levels=levels):
                return deformable_attention(value, levels, locations, weights, backend)

            def plain(*tensors, sample=sample):
                return sample(*tensors, backend='grid_sample')

            errors = differences(sample, plain, samples(device, **sizes), dtype, 1)
            names = ('output', 'gradient of values', 'of locations', 'of weights')
            about = f'{backend}, {sizes["queries"]} queries, {sizes["heads"]} x {sizes["dims"]}'
            rows += judged(about, key, names, errors, tolerance)
        shape = (args.batch, 4, 196, 46)
        tensors = [torch.randn(shape, device=device), *torch.randn(2, *shape, device=device)]
        tensors = [tensors[0], *(t[:, :, :49] for t in tensors[1:])]
        tensors.append(torch.randn(4, 196, 49, device=device))
        errors = differences(
            lambda q, k, v, bias: biased_attention(q, k, v, bias, 46**-0.5),
            lambda q, k, v, bias: (q @ k.mT * 46**-0.5 + bias).softmax(-1) @ v,
            tensors,
            dtype,
            len(tensors),
        )
        names = ('output', 'gradient of queries', 'of keys', 'of values', 'of the bias')
        rows += judged('attention with a bias, 4 x 46', key, names, errors, tolerance)
    for row in rows:
        verdict = 'ok' if row['passed'] else f'WRONG, more than {row["tolerance"]}'
        print(f'{row["kernel"]}, {row["dtype"]}, {row["result"]}: {row["error"]:.1e}, {verdict}')
    return rows


def samples(
    device: 'torch.device', shapes: tuple, queries: int, heads: int, dims: int, points: int
) -> list['Tensor']:
    """Values, locations and weights; the former are not near the edge of a pixel.

    There the gradient jumps, and rounding decides on which side a location lies.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([(w, h) for h, w in shapes]).view(-1, 1, 2)
    sampled = (2, queries, heads, len(shapes), points)
    pixel = torch.rand(*sampled, 2, generator=generator) * (sizes + 2)
    within = torch.rand(*sampled, 2, generator=generator) * 0.9 + 0.05
    locations = (pixel.floor() - 1 + within + 0.5) / sizes
    tokens = sum(h * w for h, w in shapes)
    value = torch.randn(2, tokens, heads, dims, generator=generator)
    weights = torch.rand(sampled, generator=generator)
    return [tensor.to(device) for tensor in (value, locations, weights)]


def differences(
    kernel: Callable, plain: Callable, tensors: list['Tensor'], dtype: 'torch.dtype', rounded: int
) -> list[float]:
    """Compute the largest errors of the output and of all gradients, in parts of the largest
    number; the first ``rounded`` tensors are given in ``dtype``, the plain form has them in
    float32."""
    given = [t.to(dtype) if i < rounded else t.clone() for i, t in enumerate(tensors)]
    results = []
    for run, inputs in ((kernel, given), (plain, [t.float() for t in given])):
        leaves = [t.detach().clone().requires_grad_() for t in inputs]
        out = run(*leaves)
        out.float().square().mean().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    return [
        float((found.float() - exact).abs().max() / exact.abs().max())
        for found, exact in zip(*results, strict=True)
    ]


def judged(
    about: str, dtype: str, names: tuple[str, ...], errors: list[float], tolerance: float
) -> list[dict]:
    """Return a row for each result."""
    return [
        dict(
            kernel=about, dtype=dtype, result=name, error=error, tolerance=tolerance,
            passed=error <= tolerance,
        )
        for name, error in zip(names, errors, strict=True)
    ]  # fmt: skip


# Times


def measure_machine(args: argparse.Namespace, device: 'torch.device', report: dict) -> dict:
    """Measure what the least times are computed from."""
    import torch

    on_gpu = device.type == 'cuda'
    side, calls = (8192, 1000) if on_gpu else (256, 10)
    timed = benchmark_deformable.timed
    rates = {}
    for key in ('fp32', args.dtype):
        dtype = getattr(torch, benchmark_deformable.DTYPES[key])
        left, right = torch.randn(2, side, side, device=device).to(dtype)
        product = partial(torch.matmul, left, right)
        times = [timed(product, device) for _ in range(args.rounds + 2)]
        rates[key] = 2 * side**3 / statistics.median(times[2:]) * 1e3
    number = torch.zeros(1, device=device)

    def operators() -> None:
        for _ in range(calls):
            number.add_(1)

    run: Callable[[], Any] = operators
    eager = [timed(operators, device) for _ in range(args.rounds + 2)]
    if on_gpu:  # without torch's own time for each of them
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            operators()
        run = graph.replay
    kernel = [timed(run, device) for _ in range(args.rounds + 2)]
    found = dict(
        bandwidth=benchmark_deformable.copy_bandwidth(device, args.rounds),
        throughput=rates,
        operator_us=statistics.median(eager[2:]) / calls * 1e3,
        kernel_us=statistics.median(kernel[2:]) / calls * 1e3,
    )
    print(json.dumps(found, indent=2))
    return found


def time_deformable(args: argparse.Namespace, device: 'torch.device', report: dict) -> dict:
    """Time the backends of deformable attention, forward, and forward and backward."""
    options = ['--size', *map(str, args.size), '--batch', str(args.batch), '--dtype', args.dtype]
    options += ['--device', device.type, '--rounds', str(args.rounds)]
    times = benchmark_deformable.measure(benchmark_deformable.parse_args(options), device)
    for name, pair in times.items():
        print(f'{name}: forward {pair["forward"]:.3f} ms, with backward {pair["both"]:.3f} ms')
    return times


def time_backbones(args: argparse.Namespace, device: 'torch.device', report: dict) -> list[dict]:
    """Time the backbones, and compute the least times from the machine's own figures."""
    import torch

    from ..inspect.gpu import Card, least_time
    from .count import count_mode

    options = ['--size', *map(str, args.size), '--batch', str(args.batch), '--dtype', args.dtype]
    arguments = [*args.names, *options, '--device', device.type]
    arguments += ['--rounds', str(args.rounds), '--processes', '1']
    rows = benchmark.main(arguments)['results']
    machine = report.get('machine')
    if machine is None:
        return rows
    rates = {'tf32': machine['throughput']['fp32'], **machine['throughput']}
    capability = tuple(report['about']['capability'] or (9, 0))
    card = Card('measured', machine['bandwidth'], rates, capability, 0, report['about']['device'])
    counting = benchmark.parse_args([*args.names, *options, '--count'])
    for row in rows:
        model = benchmark.build_model(row['name'])
        for mode in benchmark.MODES:
            counter = count_mode(model, mode, counting, card)
            seconds = least_time(counter.launches, card, machine['kernel_us'] / 1e6)
            row[f'{mode}_least_ms'] = sum(seconds.values()) * 1e3
            row[f'{mode}_launches'] = len(counter.launches)
            row[f'{mode}_peak_counted_mb'] = counter.peak / 2**20
    if device.type == 'cuda':
        torch.cuda.empty_cache()
    return rows


def run_demo(args: argparse.Namespace, device: 'torch.device', report: dict) -> dict:
    """Train the demo for one epoch, from its images on."""
    from . import demo

    work_dir = args.out / 'demo'
    shutil.rmtree(work_dir, ignore_errors=True)  # a finished training is not repeated
    options = ['--work-dir', str(work_dir), '--data', str(args.out / 'data'), '--epochs', '1']
    metrics = demo.main([*options, *DEMO])
    state = json.loads((work_dir / demo.STATE).read_text())
    return dict(minutes=state['minutes'], **metrics)


def markdown(report: dict) -> str:
    """The report as tables for docs/performance.md."""
    about = report['about']
    size = 'x'.join(map(str, about['size']))
    lines = [
        f'{about["device"]}, torch {about["torch"]}, Triton {about["triton"]}, {size}, batch '
        f'{about["batch"]}, {about["dtype"]}.',
        '',
    ]
    for name, reason in report['failed'].items():
        lines += [f'FAILED: {name}: {reason}', '']
    if report.get('kernels'):
        lines += ['| kernel | dtype | largest error | allowed |', '|---|---|---|---|']
        worst: dict[tuple, dict] = {}
        for row in report['kernels']:
            key = row['kernel'], row['dtype']
            worst[key] = max(worst.get(key, row), row, key=lambda row: row['error'])
        for (kernel, dtype), row in worst.items():
            lines.append(f'| {kernel} | {dtype} | {row["error"]:.1e} | {row["tolerance"]:.0e} |')
        lines.append('')
    if report.get('machine'):
        machine = report['machine']
        rates = ', '.join(f'{v / 1e12:.1f} ({k})' for k, v in machine['throughput'].items())
        lines += [
            f'A copy moves {machine["bandwidth"] / 1e9:.0f} GB/s, a product computes {rates} '
            f'TFLOP/s, the smallest operator takes {machine["operator_us"]:.1f} us, its kernel '
            f'{machine["kernel_us"]:.1f} us.',
            '',
        ]
    if report.get('deformable'):
        lines += ['| deformable attention | forward ms | with backward ms |', '|---|---|---|']
        for name, pair in report['deformable'].items():
            lines.append(f'| {name} | {pair["forward"]:.3f} | {pair["both"]:.3f} |')
        lines.append('')
    if report.get('benchmark'):
        lines += [
            '| backbone | inference ms | at least | training step ms | at least | peak MB |',
            '|---|---|---|---|---|---|',
        ]
        for row in report['benchmark']:
            cells = [row.get(key) for key in ('infer_ms', 'infer_least_ms', 'train_ms')]
            cells += [row.get('train_least_ms'), row['peak_mb']]
            figures = ' | '.join('' if cell is None else f'{cell:.1f}' for cell in cells)
            lines.append(f'| {row["name"]} | {figures} |')
        lines.append('')
    if report.get('demo'):
        found = report['demo']
        scores = ', '.join(
            f'{key} {value:.3f}' for key, value in found.items() if key.endswith('_mAP')
        )
        lines += [f'One epoch of the demo: {found["minutes"]:.1f} minutes; {scores}.', '']
    seconds = ', '.join(f'{name} {value:.0f} s' for name, value in report['seconds'].items())
    return '\n'.join([*lines, f'It took {seconds}.', ''])
