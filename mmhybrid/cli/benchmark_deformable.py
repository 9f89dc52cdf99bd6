"""Time of deformable attention by each backend, beside the bytes that it has to move.

    python tools/benchmark_deformable.py --size 1024 1024 --batch 2 --dtype bf16

The pyramid attends to itself, as in ViT-CoMer: the queries are the pixels of the maps of strides 8,
16 and 32, each with points a few pixels away in all three. Backends take turns, round after round;
the medians are compared with mmcv's operator, which runs in fp16 where bf16 is asked for: it has no
such kernel.

Two kinds of bytes are counted. "memory" is what must come from and go to the device's memory at
least: values, locations, weights, outputs and their gradients, once for each kernel that needs
them (two in the backward pass of the Triton kernels). At the bandwidth of a copy, which is measured
too, that takes the time called "floor". "rows" is what the samples read, and in the backward pass
add up, four rows each: caches serve most of them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DTYPES = dict(fp32='float32', bf16='bfloat16', fp16='float16')
STRIDES = (8, 16, 32)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', nargs=2, type=int, default=(1024, 1024), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--heads', type=int, default=6)
    parser.add_argument('--dims', type=int, default=64, help='width of a head')
    parser.add_argument('--points', type=int, default=4, help='of a query and head in each level')
    parser.add_argument('--dtype', choices=DTYPES, default='fp32', help='of the values')
    parser.add_argument('--device', default=None, help='cpu or cuda; a GPU if there is one')
    parser.add_argument('--rounds', type=int, default=15)
    args = parser.parse_args(argv)
    if min(args.size) < STRIDES[-1]:
        parser.error(f'--size {args.size[0]} {args.size[1]}: at least {STRIDES[-1]} each')
    if min(args.batch, args.heads, args.dims, args.points, args.rounds) < 1:
        parser.error('--batch, --heads, --dims, --points and --rounds are at least 1')
    return args


def moved_bytes(
    n: int, tokens: int, queries: int, heads: int, dims: int, samples: int, itemsize: int
) -> dict[str, int]:
    """Bytes of memory and of rows, forward and forward + backward.

    Args:
        samples: of a query and head, levels by points.
        itemsize: bytes of a value.
    """
    values = n * tokens * heads * dims
    outs = n * queries * heads * dims * itemsize
    places = n * queries * heads * samples * 4 * (2 + 1)  # x, y and weight in float32
    numbers = n * queries * heads * samples * 4 * dims  # of the rows
    forward = values * itemsize + places + outs
    backward = values * itemsize  # for the gradients of locations and weights
    backward += 2 * (outs + places)  # read by both kernels
    backward += places  # gradients written
    backward += 2 * values * 4  # the sum of the values' gradients: zeroed, then added up
    if itemsize < 4:
        backward += values * (4 + itemsize)  # and rounded
    return dict(
        forward=forward,
        both=forward + backward,
        forward_rows=numbers * itemsize,
        both_rows=numbers * (2 * itemsize + 4),
    )


def draw(args: argparse.Namespace, device: 'torch.device') -> 'tuple[Tensor, Any, Tensor, Tensor]':
    """Values, shapes, locations and weights."""
    import torch

    from ..models.kernels import reference_points

    generator = torch.Generator().manual_seed(0)
    shapes = [tuple(-(-side // stride) for side in args.size) for stride in STRIDES]
    points = reference_points(shapes, torch.device('cpu'))
    sampled = (args.batch, len(points), args.heads, len(shapes), args.points)
    size = torch.tensor([(w, h) for h, w in shapes]).view(-1, 1, 2)
    offsets = torch.randn(*sampled, 2, generator=generator) * 2 / size
    value = torch.randn(args.batch, len(points), args.heads, args.dims, generator=generator)
    locations = points.view(-1, 1, 1, 1, 2) + offsets
    weights = torch.rand(sampled, generator=generator) / (args.points * len(shapes))
    dtype = getattr(torch, DTYPES[args.dtype])
    tensors = (value.to(device, dtype), locations.to(device), weights.to(device))
    value, locations, weights = (tensor.requires_grad_() for tensor in tensors)
    return value, shapes, locations, weights


def timed(run: Callable[[], Any], device: 'torch.device') -> float:
    """Milliseconds of a call."""
    import torch

    if device.type != 'cuda':
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e3
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end)


def copy_bandwidth(device: 'torch.device', rounds: int) -> float:
    """Bytes read and written in a second by a copy of what no cache holds."""
    import torch

    source = torch.ones(2**28 if device.type == 'cuda' else 2**25, device=device)
    target = torch.empty_like(source)
    times = [timed(lambda: target.copy_(source), device) for _ in range(rounds + 2)]
    return 2 * source.nbytes / statistics.median(times[2:]) * 1e3


def runs(
    backend: str, value: 'Tensor', shapes: Any, locations: 'Tensor', weights: 'Tensor'
) -> dict:
    """The two calls that are timed."""
    import torch

    from ..models.kernels import deformable_attention

    def forward():
        with torch.no_grad():
            deformable_attention(value, shapes, locations, weights, backend)

    def both():
        out = deformable_attention(value, shapes, locations, weights, backend)
        torch.autograd.grad(out, (value, locations, weights), grad)

    with torch.no_grad():
        grad = torch.ones_like(deformable_attention(value, shapes, locations, weights, backend))
    return dict(forward=forward, both=both)


def measure(args: argparse.Namespace, device: 'torch.device') -> dict[str, dict[str, float]]:
    """Median milliseconds by backend; backends that do not run here are told and left out."""
    import torch

    from ..models.kernels.deformable_attention import BACKENDS

    value, *others = draw(args, device)
    calls: dict[str, Any] = {}
    times: dict[str, dict[str, list[float]]] = {}
    for backend in BACKENDS:
        name, own = backend, value
        if backend == 'mmcv' and value.dtype == torch.bfloat16:
            name, own = 'mmcv (fp16)', value.detach().half().requires_grad_()
        try:
            calls[name] = runs(backend, own, *others)
        except RuntimeError as error:
            print(f'without {backend}: {str(error).splitlines()[0]}', file=sys.stderr)
    for round_ in range(-2, args.rounds):  # two warm up
        for name, pair in calls.items():
            for kind, call in pair.items():
                ms = timed(call, device)
                if round_ >= 0:
                    times.setdefault(name, {}).setdefault(kind, []).append(ms)
    return {
        name: {kind: statistics.median(ms) for kind, ms in pair.items()}
        for name, pair in times.items()
    }


def table(times: dict, moved: dict[str, int], bandwidth: float) -> str:
    """Times by backend, and what the bytes make of them."""
    base = next((times[name] for name in times if name.startswith('mmcv')), None)
    lines = [
        f'a copy moves {bandwidth / 1e9:.0f} GB/s, read and written',
        '',
        f'{"":14}{"pass":20}{"ms":>10}{"to mmcv":>10}{"of a copy":>11}{"rows GB/s":>11}',
    ]
    for name, pair in times.items():
        for kind, ms in pair.items():
            ratio = f'{base[kind] / ms:.2f}x' if base else '-'
            share = f'{100 * moved[kind] / bandwidth / ms * 1e3:.0f}%'
            rows = moved[f'{kind}_rows'] / ms / 1e6
            what = 'forward' if kind == 'forward' else 'forward + backward'
            lines.append(f'{name:14}{what:20}{ms:10.3f}{ratio:>10}{share:>11}{rows:11.0f}')
    lines.append('')
    for kind, what in (('forward', 'forward'), ('both', 'forward + backward')):
        lines.append(
            f'{what}: {moved[kind] / 1e6:.1f} MB of memory (floor '
            f'{moved[kind] / bandwidth * 1e3:.3f} ms), {moved[f"{kind}_rows"] / 1e6:.1f} MB of rows'
        )
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import torch

    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    tokens = sum(-(-args.size[0] // s) * -(-args.size[1] // s) for s in STRIDES)
    samples = len(STRIDES) * args.points
    itemsize = getattr(torch, DTYPES[args.dtype]).itemsize
    moved = moved_bytes(args.batch, tokens, tokens, args.heads, args.dims, samples, itemsize)
    where = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'
    threads = '' if device.type == 'cuda' else f', {torch.get_num_threads()} threads'
    print(
        f'{where}{threads}, torch {torch.__version__}, {args.size[0]}x{args.size[1]} (batch '
        f'{args.batch}, {tokens} queries), {args.heads} heads of {args.dims}, {args.points} '
        f'points, {args.dtype}, median of {args.rounds} interleaved rounds'
    )
    times = measure(args, device)
    print(table(times, moved, copy_bandwidth(device, args.rounds)))
