"""Count what a GPU would be asked to do: ``mmhybrid benchmark NAME --count``, without a device."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from .usage import UsageError

if TYPE_CHECKING:
    from torch import nn

    from mmhybrid.inspect import Card, Launch, LaunchCounter

COLUMNS = dict(
    launches=('launches', '{:.0f}'),
    moved_gb=('GB moved', '{:.2f}'),
    gmacs=('GMACs', '{:.1f}'),
    largest_mb=('largest MB', '{:.1f}'),
    peak_mb=('peak MB', '{:.0f}'),
    host_copies=('host copies', '{:.0f}'),
    least_ms=('at least ms', '{:.2f}'),
    launch=('launch', '{:.0%}'),
    memory=('memory', '{:.0%}'),
    products=('products', '{:.0%}'),
)
DTYPES = dict(fp32='float32', bf16='bfloat16', fp16='float16')


def count(args: argparse.Namespace) -> dict:
    """Print the table of all NAMEs; return its figures."""
    import torch

    from ..inspect import CARDS
    from ..models.kernels.deformable_attention import triton_kernels
    from .benchmark import build_model

    card = CARDS.get(args.card)
    if card is None:
        raise UsageError(f'--card {args.card}: expected one of {", ".join(CARDS)}')
    if not card.supports(args.dtype):
        raise UsageError(f'--dtype {args.dtype}: {card.title} computes no products in it')
    results = []
    models = [build_model(name) for name in args.names]  # an unknown one is told at once
    for name, model in zip(args.names, models, strict=True):
        for mode in args.mode:
            print(f'counting {name}, {mode}', file=sys.stderr)
            counter = count_mode(model, mode, args, card)
            results.append(dict(name=name, mode=mode, **figures(counter, card)))
            if args.compile:
                print(f'compiling {name}, {mode}', file=sys.stderr)
                launches = compile_mode(model, mode, args, card)
                row = dict(name=name, mode=f'{mode}, compiled', **times(launches, card))
                results.append(row)
    report = dict(
        card=card.title,
        torch=torch.__version__,
        size=list(args.size),
        batch=args.batch,
        dtype=args.dtype,
        triton=card.capability >= (8, 0) and triton_kernels() is not None,
        results=results,
    )
    print(table(report))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + '\n')
    return report


def count_mode(
    model: 'nn.Module', mode: str, args: argparse.Namespace, card: 'Card'
) -> 'LaunchCounter':
    """Count one inference or one training step of a model, on fake tensors."""
    import torch

    from ..inspect import count_inference, count_step, imagined_gpu

    with imagined_gpu(card):
        task, autocast = prepare(model, args)

        def infer() -> None:
            with autocast:
                task.infer()

        def loss() -> torch.Tensor:
            with autocast:
                return task.loss()

        with torch.no_grad():  # what is made once and kept does not count
            infer()
        if mode == 'infer':
            return count_inference(task.model, infer)
        return count_step(task.model, loss)


def compile_mode(
    model: 'nn.Module', mode: str, args: argparse.Namespace, card: 'Card'
) -> 'list[Launch]':
    """Return the kernels that torch's compiler schedules for one inference or one training step."""
    import torch

    from ..inspect import imagined_gpu
    from ..inspect.compiled import count_compiled

    class Run(torch.nn.Module):
        """The model in the dtype that was asked for."""

        def __init__(self) -> None:
            super().__init__()
            self.model = task.model

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with autocast:
                outs = self.model(image)
            return tuple(outs) if isinstance(outs, (tuple, list)) else (outs,)

    with imagined_gpu(card, compiling=True), torch.set_grad_enabled(mode == 'train'):
        task, autocast = prepare(model, args)
        return count_compiled(Run().train(mode == 'train'), task.image, card)


def prepare(model: 'nn.Module', args: argparse.Namespace) -> tuple[Any, Any]:
    """Return a task with a model on a GPU that is not there, and the context of its forward."""
    import torch

    from ..inspect import to_imagined_gpu
    from ..testing.tasks import BackboneTask

    dtype = getattr(torch, DTYPES[args.dtype])
    task = BackboneTask(torch.nn.Identity(), args.batch, tuple(args.size), torch.device('cuda'))
    task.model = to_imagined_gpu(model, dtype if args.cast else None)
    if args.cast:
        task.image = task.image.to(dtype)
    is_mixed = args.dtype != 'fp32' and not args.cast
    return task, torch.autocast('cuda', dtype if is_mixed else torch.bfloat16, enabled=is_mixed)


def figures(counter: 'LaunchCounter', card: 'Card') -> dict:
    """Return a counter's figures in the units of the table."""
    return dict(
        largest_mb=counter.largest / 2**20,
        largest_place=counter.largest_place,
        peak_mb=counter.peak / 2**20,
        host_copies=len(counter.host_copies),
        host_places=sorted(set(counter.host_copies)),
        **times(counter.launches, card),
    )


def times(launches: 'list[Launch]', card: 'Card') -> dict:
    """Return what the operators add up to, and the least time for them."""
    from ..inspect import least_time

    seconds = least_time(launches, card)
    total = sum(seconds.values())
    return dict(
        launches=len(launches),
        moved_gb=sum(launch.read + launch.written for launch in launches) / 1e9,
        gmacs=sum(launch.macs for launch in launches) / 1e9,
        least_ms=total * 1e3,
        **{kind: part / total for kind, part in seconds.items()},
    )


def table(report: dict) -> str:
    """The report as text."""
    rows = [['', '', *(title for title, _ in COLUMNS.values())]]
    notes = []
    for result in report['results']:
        name, mode = result['name'], result['mode']
        rows.append([name, mode, *cells(result)])
        if 'largest_place' in result:
            notes.append(f'{name}, {mode}: largest is {result["largest_place"]}')
            notes += [f'{name}, {mode}: host copy by {place}' for place in result['host_places']]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        '  '.join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    size = 'x'.join(map(str, report['size']))
    about = (
        f'counted, not measured, for {report["card"]}; torch {report["torch"]}, {size}, batch '
        f'{report["batch"]}, {report["dtype"]}'
    )
    return '\n'.join([about, '', *(line.rstrip() for line in lines), '', *notes])


def cells(result: dict) -> list[str]:
    """The figures of a row as text, a dash for those that it has not."""
    return [
        form.format(result[key]) if key in result else '-' for key, (_, form) in COLUMNS.items()
    ]
