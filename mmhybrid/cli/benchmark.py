"""Time, memory and cost of backbones and whole models, side by side.

    mmhybrid benchmark timm:vit_small_patch16_224 vitcomer_s --size 512 512

A NAME is one of `mmhybrid.list_backbones()`, perhaps with arguments (`vitcomer_s,freeze=vit`),
`timm:` and a name of timm, or a config file, whose whole model is measured; `NAME@FOLDER` is the
NAME of another checkout of this project, such as one that `git worktree add ../before REVISION`
makes. Every NAME has a process of its own. They take turns, round after round, so that other work
on the machine slows all of them alike. Then all start anew, since where a process's memory happens
to lie makes a difference of its own. `--json` writes the figures to a file: `infer_ms` and
`train_ms` a batch, medians of all rounds; `peak_mb` the highest resident (CPU) or allocated (GPU)
memory of a process over all modes, the median of the processes; `params_m` millions of parameters;
`gflops` billions of multiply-adds of an inference.

`--count` measures nothing and needs no device. For each NAME it prints, as a GPU would be asked:
operators launched, bytes that they read and write, multiply-adds, the largest tensor, the highest
memory in use, copies between host and device, and the time that a card (`--card`) needs at least.
Each operator takes the longest of three times: to move its bytes, to compute its products, and to
be launched. `--compile` adds what torch's compiler makes of it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .paths import find_config, is_config

if TYPE_CHECKING:
    import torch
    from torch import nn

DTYPES = ('fp32', 'bf16', 'fp16')
MODES = ('infer', 'train')
ROOT = Path(__file__).resolve().parents[2]  # where this package lies
# The current directory may be another checkout: what is imported from there would be measured.
OWN_WORKER = (
    f'import sys; sys.path[0] = {str(ROOT)!r}; from mmhybrid.cli import benchmark, usage; '
    'usage.run(benchmark.main)'
)
CAST = 'weights of a backbone in --dtype too, instead of autocast; for --mode infer'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='+', metavar='NAME')
    parser.add_argument('--size', nargs=2, type=int, default=(512, 512), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--device', default=None, help='cpu or cuda; a GPU if there is one')
    parser.add_argument('--dtype', choices=DTYPES, default='fp32', help='by autocast')
    parser.add_argument('--cast', action='store_true', help=CAST)
    parser.add_argument('--mode', default='infer,train', help='infer, train or both, by comma')
    parser.add_argument('--compile', action='store_true', help='torch.compile the model')
    parser.add_argument('--fuse', action='store_true', help='fold batch norms; for --mode infer')
    parser.add_argument('--rounds', type=int, default=3, help='in each process')
    parser.add_argument('--processes', type=int, default=3, help='of each NAME, one by one')
    parser.add_argument('--threads', type=int, default=None, help='of the CPU')
    parser.add_argument('--json', type=Path, metavar='FILE')
    parser.add_argument('--count', action='store_true', help='what a GPU would be asked to do')
    parser.add_argument(
        '--card', metavar='CARD', help='for --count: h200 (default), h100, a100, l4, rtx4090, t4'
    )
    parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.mode = args.mode.split(',')
    unknown = [mode for mode in args.mode if mode not in MODES]
    if unknown:
        parser.error(f'--mode {unknown[0]}: expected {" or ".join(MODES)}')
    if args.fuse and args.mode != ['infer']:
        parser.error('--fuse is for inference: add --mode infer')
    if args.cast and (args.mode != ['infer'] or any(map(is_config, args.names))):
        parser.error('--cast is for inference of backbones: add --mode infer, leave configs out')
    if min(args.batch, args.rounds, args.processes) < 1 or min(args.size) < 32:
        parser.error('--batch, --rounds and --processes are at least 1, --size at least 32 32')
    if args.count and any(is_config(name) or '@' in name for name in args.names):
        parser.error('--count is for backbones of this checkout: give no config and no NAME@FOLDER')
    if args.card and not args.count:
        parser.error('--card is what --count computes times for: add --count')
    args.card = args.card or 'h200'
    return args


# A worker: one model in one process, told what to do line by line.


def work(args: argparse.Namespace) -> None:
    """Build the model, and measure each turn that the parent asks for."""
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    task = build(args.names[0], args.batch, tuple(args.size), device)
    model = task.model
    params = sum(p.numel() for p in model.parameters())
    dtype = dict(fp32=None, bf16=torch.bfloat16, fp16=torch.float16)[args.dtype]
    for module in model.modules():
        if args.fuse and hasattr(module, 'fuse'):
            module.fuse()
    if args.cast and dtype:
        task.cast(dtype)
    if args.compile:
        model.compile()
    machine = describe_machine(device, args)
    answer(params_m=params / 1e6, machine=machine)
    for line in sys.stdin:
        mode = line.strip()
        if mode == 'count':  # comes last, for what it leaves in memory; not of compiled code
            answer(gflops=build(args.names[0], args.batch, tuple(args.size), device).macs() / 1e9)
            continue
        model.train(mode == 'train')
        if device.type == 'cuda':
            torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast(device.type, dtype, enabled=dtype is not None and not args.cast):
            if mode == 'train':
                loss = task.loss()
            else:
                with torch.inference_mode():
                    task.infer()
        if mode == 'train':
            loss.backward()
            del loss  # and its graph, before the next step, as MMEngine's loop does
            model.zero_grad(set_to_none=True)
        if device.type == 'cuda':
            torch.cuda.synchronize()
        answer(ms=(time.perf_counter() - start) * 1e3, peak_mb=peak_memory(device))


def build(name: str, batch: int, size: tuple[int, int], device: 'torch.device') -> Any:
    """The task that a NAME stands for."""
    from ..testing.tasks import BackboneTask, ConfigTask

    if is_config(name):
        return ConfigTask(str(find_config(name)), batch, size, device)
    return BackboneTask(build_model(name), batch, size, device)


def build_model(name: str) -> 'nn.Module':
    """The backbone that a NAME stands for, of timm too."""
    if name.startswith('timm:'):
        from .models import check_timm, create_timm

        name = name.removeprefix('timm:')
        options: dict[str, Any] = dict(pretrained=False, num_classes=0, global_pool='')
        check_timm(name)
        return create_timm(name, **options)
    from .models import build_named, split_name

    return build_named(*split_name(name))


def peak_memory(device: 'torch.device') -> float:
    """Highest memory of this process so far, in MB: allocated on a GPU, resident otherwise."""
    if device.type == 'cuda':
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    status = Path('/proc/self/status')
    if status.exists():
        (line,) = (s for s in status.read_text().splitlines() if s.startswith('VmHWM'))
        return int(line.split()[1]) / 1024
    import resource

    unit = 2**20 if sys.platform == 'darwin' else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def describe_machine(device: 'torch.device', args: argparse.Namespace) -> dict:
    """Return the device, the versions and the options that the figures depend on."""
    import torch

    on_gpu = device.type == 'cuda'
    return dict(
        device=torch.cuda.get_device_name() if on_gpu else _cpu_name(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
        size=list(args.size),
        batch=args.batch,
        dtype=args.dtype,
        cast=args.cast,
        compile=args.compile,
        fuse=args.fuse,
        rounds=args.rounds,
        processes=args.processes,
        preload=[Path(library).name for library in _preloaded()],
    )


def _preloaded() -> list[str]:
    """Libraries that take the place of others, such as another allocator."""
    return os.environ.get('LD_PRELOAD', '').replace(':', ' ').split()


def _cpu_name() -> str:
    info = Path('/proc/cpuinfo')
    names = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(':')[2].strip() for line in names if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def answer(**values: Any) -> None:
    """Tell the parent some values, in a line that it recognises."""
    print('@' + json.dumps(values), flush=True)


# The parent: starts the workers and gives them turns.


class Worker:
    """A process that measures one NAME, and what it has told."""

    def __init__(self, name: str, options: list[str]):
        self.name = name
        self.times: dict[str, list[float]] = {}
        self.peak = 0.0
        name, _, checkout = name.partition('@')
        root = Path(checkout).resolve() if checkout else ROOT
        command = [str(root / 'tools/benchmark.py')] if checkout else ['-c', OWN_WORKER]
        self.process: Any = subprocess.Popen(  # with both pipes
            [sys.executable, *command, name, '--worker', *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), *search_path()])},
        )
        self.facts = self._listen()

    def turn(self, mode: str, *, warm_up: bool = False) -> None:
        """Have one step measured; that of a warm-up is not kept."""
        told = self._ask(mode)
        self.peak = max(self.peak, told['peak_mb'])
        if not warm_up:
            self.times.setdefault(mode, []).append(told['ms'])

    def count(self) -> None:
        """Have the multiply-adds counted."""
        self.facts |= self._ask('count')

    def stop(self) -> None:
        """Close the process's input, which ends it."""
        with self.process:
            pass

    def _ask(self, command: str) -> dict:
        self.process.stdin.write(command + '\n')
        self.process.stdin.flush()
        return self._listen()

    def _listen(self) -> dict:
        for line in self.process.stdout:
            if line.startswith('@'):
                return json.loads(line[1:])
        self.stop()
        sys.exit(f'error: {self.name} could not be measured (see above)')


def search_path() -> list[str]:
    """Return the folders of PYTHONPATH."""
    return [folder for folder in os.environ.get('PYTHONPATH', '').split(os.pathsep) if folder]


def summarise(name: str, workers: list[Worker]) -> dict:
    """The figures of a NAME, from all of its processes."""
    medians = {}
    for mode in MODES:
        times = [ms for worker in workers for ms in worker.times.get(mode, [])]
        medians[f'{mode}_ms'] = statistics.median(times) if times else None
    return dict(
        name=name,
        **medians,
        peak_mb=statistics.median(worker.peak for worker in workers),
        params_m=workers[0].facts['params_m'],
        gflops=workers[0].facts['gflops'],
    )


def main(argv: list[str] | None = None) -> dict:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    if args.worker:
        work(args)
        return {}
    if args.count:
        from .count import count

        return count(args)
    for name in args.names:
        checkout = name.partition('@')[2]
        if checkout and not (Path(checkout) / 'tools/benchmark.py').exists():
            sys.exit(f'error: {name}: no tools/benchmark.py in {checkout}; expected NAME@CHECKOUT')
    options = ['--size', *map(str, args.size), '--batch', str(args.batch), '--dtype', args.dtype]
    options += ['--rounds', str(args.rounds), '--processes', str(args.processes)]
    options += ['--mode', ','.join(args.mode)]
    for name in ('device', 'threads'):
        if getattr(args, name):
            options += [f'--{name}', str(getattr(args, name))]
    options += [f'--{name}' for name in ('compile', 'fuse', 'cast') if getattr(args, name)]

    if args.json:  # what cannot be written is known before the minutes that measuring takes
        args.json.parent.mkdir(parents=True, exist_ok=True)
    runs = [measure(args, options, run) for run in range(args.processes)]
    report = dict(machine=runs[0][0].facts['machine'], results=[])
    for name, *workers in zip(args.names, *runs, strict=True):
        report['results'].append(summarise(name, workers))
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + '\n')
    return report


def measure(args: argparse.Namespace, options: list[str], run: int) -> list[Worker]:
    """One process of each NAME, all of its rounds."""
    workers = []
    for name in args.names:
        print(f'starting {name}', file=sys.stderr)
        workers.append(Worker(name, options))
    for mode in args.mode:
        for round_ in range(-1, args.rounds):  # the first one warms up
            place = f'process {run + 1} of {args.processes}, round {round_ + 1} of {args.rounds}'
            print(f'\r{mode}: {place} ', end='', file=sys.stderr)
            for worker in workers:
                worker.turn(mode, warm_up=round_ < 0)
        print(file=sys.stderr)
    for worker in workers:
        if run == 0:
            worker.count()
        worker.stop()
    return workers


def table(report: dict) -> str:
    """The report as text; in brackets the ratio to the first row."""
    machine, results = report['machine'], report['results']
    columns = dict(infer_ms='infer ms', train_ms='train ms', peak_mb='peak MB')
    columns |= dict(params_m='params M', gflops='GMACs')
    batch = machine['batch']
    rows = [['', *columns.values(), 'images/s']]
    for result in results:
        row = [result['name']]
        for key in columns:
            value, base = result[key], results[0][key]
            row.append('-' if value is None else f'{value:.1f} ({value / base:.2f}x)')
        infer = result['infer_ms']
        rows.append([*row, '-' if infer is None else f'{1e3 * batch / infer:.2f}'])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ['  '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    size = 'x'.join(map(str, machine['size']))
    preload = ''.join(f'{library}, ' for library in machine['preload'])
    about = (
        f'{machine["device"]}, {machine["threads"]} threads, torch {machine["torch"]}, {preload}'
        f'{size}, batch {batch}, {machine["dtype"]}'
        f'{" weights" if machine["cast"] else ""}{", compiled" if machine["compile"] else ""}'
        f'{", batch norms folded" if machine["fuse"] else ""}, '
        f'median of {machine["rounds"]} interleaved rounds in each of {machine["processes"]} '
        'processes'
    )
    return '\n'.join([about, '', *(line.rstrip() for line in lines)])
