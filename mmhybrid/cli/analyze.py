"""Measure the costs of a model, part by part, and how a config would train it.

    mmhybrid analyze NAME [--checkpoint FILE] [--size H W] [--depth N] [--out DIR]

NAME is a config file, a name of `mmhybrid.list_backbones()`, perhaps with arguments
(`vitcomer_s,freeze=vit`), `timm:` and a name of timm, or a backbone class of a host library
(`mmdet.ResNet,depth=50`). Printed and drawn are

costs            parameters, multiply-adds, activations (values that matrix products, convolutions
                 and attentions put out), and the memory that a training step keeps for the
                 backward pass, of each module down to --depth
launches         operators that a training step calls, forward and backward, views aside: on a GPU
                 about one kernel each
frozen           what gets no gradient, and what stays in evaluation mode while training
learning rates   of a config: those of the optimizer that its constructor builds, by depth
weights          the load report of --checkpoint, or of the weights that the config names

Batches are made up of noise; a detector's costs depend a little on what it finds in it.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_file
from .arguments import KeyValues
from .paths import find, is_config
from .usage import UsageError

if TYPE_CHECKING:
    from torch import nn

    from mmhybrid.inspect.costs import Cost

    from .models import Looked

UNITS = dict(
    params=('parameters, M', 1e6),
    macs=('multiply-adds, G', 1e9),
    activations=('activations, M', 1e6),
    kept=('kept for backward, MB', 2**20),
)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', metavar='NAME')
    parser.add_argument(
        '--checkpoint', metavar='FILE', help="'pretrained': the weights that the config names"
    )
    parser.add_argument('--size', nargs=2, type=int, default=(512, 512), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--depth', type=int, default=3, help='levels of modules that are listed')
    parser.add_argument('--out', default='work_dirs/analyze', metavar='DIR')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, default={})
    args = parser.parse_args(argv)
    if min(args.size) < 32 or args.batch < 1 or args.depth < 1:
        parser.error('--size is at least 32 32, --batch and --depth at least 1')
    return args


def main(argv: list[str] | None = None) -> dict:
    """Print and draw; return all figures, as they are in the JSON file."""
    from .models import open_model

    args = parse_args(argv)
    options = args.cfg_options if is_config(args.name) else None
    looked = open_model(args.name, cfg_options=options)
    weights = load_report(looked, args.checkpoint)
    size = f'{args.size[0]}x{args.size[1]}'
    try:
        cost, launches = measure(looked, args)
    except ValueError as error:  # an MLP tied to one size, norms of a single value
        raise UsageError(
            f'{args.name} fails at --size {size} and --batch {args.batch}: {error}'
        ) from error
    stem = Path(args.out, looked.name.replace('/', '_'))
    facts = dict(name=args.name, size=list(args.size), batch=args.batch, costs=cost.as_dict())
    facts['launches'] = dict(launches.most_common())
    print(f'{args.name}, {size}, batch {args.batch}, float32\n')
    rows = list(visible(cost, args.depth))
    print(table(rows))
    if any(getattr(module, 'with_cp', False) == 'light' for module in looked.model.modules()):
        print("\nkept for backward: without the results that with_cp='light' keeps")
    draw_costs(looked, rows, f'{size}, batch {args.batch}', f'{stem}_costs.png')
    pictures = [f'{stem}_costs.png']

    facts['frozen'], facts['evaluation'] = frozen_parts(looked.model)
    print(f'\nlaunches                {describe_launches(launches)}')
    learned = (cost.params - cost.frozen) / 1e6
    print(f'trained                 {learned:.3f} M of {cost.params / 1e6:.3f} M parameters')
    print('frozen                  ' + (', '.join(join_blocks(facts['frozen'])) or 'nothing'))
    print('in evaluation mode      ' + (', '.join(facts['evaluation']) or 'nothing'))
    if looked.cfg is not None and looked.cfg.get('optim_wrapper'):
        facts['learning_rates'] = learning_rates(looked)
        print('\n' + rate_table(facts['learning_rates']))
        draw_rates(looked, facts['learning_rates'], f'{stem}_learning_rates.png')
        pictures.append(f'{stem}_learning_rates.png')
    if weights:
        facts['weights'] = weights
        print(f'\n{weights}')
    write_file(f'{stem}.json', json.dumps(facts, indent=2) + '\n')
    print('\n' + '\n'.join([*pictures, f'{stem}.json']))
    return facts


# Costs


def measure(looked: 'Looked', args: argparse.Namespace) -> 'tuple[Cost, Counter[str]]':
    """The cost tree of a model, and the operators that a training step of it calls."""
    import torch

    from ..inspect import count_launches, measure_costs

    model, size = looked.model, tuple(args.size)
    if looked.cfg is None:
        device = next(model.parameters()).device
        image = torch.randn(args.batch, 3, *size, device=device)

        def loss():
            outputs = model(image)
            outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
            return sum(out.sum() for out in outputs)

        return measure_costs(model, lambda: model(image), loss), count_launches(model, loss)

    from mmengine.registry import DefaultScope

    from ..testing.tasks import make_batch

    with DefaultScope.overwrite_default_scope(looked.cfg.default_scope):
        batch = make_batch(looked.cfg, args.batch, size)
        preprocessor = model.data_preprocessor
        if getattr(preprocessor, 'size', None) is not None:  # a crop that images are padded to
            preprocessor.size = size

        def loss():
            data = preprocessor(batch, True)
            return model.parse_losses(model(**data, mode='loss'))[0]

        cost = measure_costs(model, lambda: model.test_step(batch), loss)
        return cost, count_launches(model, loss)


def describe_launches(launches: Counter[str]) -> str:
    """Their number, and the names of the most frequent."""
    frequent = (f'{name.split("::")[1]} {count}' for name, count in launches.most_common(5))
    return f'{launches.total()} in a training step: {", ".join(frequent)}, ...'


def visible(cost: 'Cost', depth: int) -> 'Iterator[tuple[int, str, str, Cost]]':
    """Rows (indent, name, kind, cost) of a tree down to a depth; like siblings are one row."""
    yield 0, cost.name or cost.kind, cost.kind, cost
    yield from _below(cost, 1, depth)


def _below(cost, indent, depth):
    for group in _alike(cost.children):
        one = group[0]
        if len(group) == 1:
            yield indent, one.name, one.kind, one
            if indent < depth:
                yield from _below(one, indent + 1, depth)
        else:
            total = type(one)(f'{one.name} to {group[-1].name}', f'{len(group)} x {one.kind}')
            for key in ('params', 'frozen', 'macs', 'activations', 'kept'):
                setattr(total, key, sum(getattr(part, key) for part in group))
            yield indent, total.name, total.kind, total


def _alike(children):
    """Runs of siblings of one class and one cost; what costs nothing is left out."""
    groups: list[tuple[tuple, list]] = []
    for child in children:
        if not (child.params or child.macs or child.kept):
            continue
        key = (child.kind, child.params, child.frozen, child.macs, bool(child.children))
        if groups and groups[-1][0] == key and child.name.isdigit():
            groups[-1][1].append(child)
        else:
            groups.append((key, [child]))
    return [group for _, group in groups]


def table(rows: list) -> str:
    """The tree as text."""
    whole = rows[0][-1]
    lines = [['module', *(title for title, _ in UNITS.values()), 'frozen']]
    for indent, name, kind, cost in rows:
        label = '  ' * indent + name + ('' if name == kind else f'  {kind}')
        cells = []
        for key, (_, unit) in UNITS.items():
            value, total = getattr(cost, key), getattr(whole, key)
            share = f'{value / total:5.0%}' if total else '     '
            cells.append(f'{value / unit:10.3f} {share}')
        cells.append(f'{cost.frozen / cost.params:.0%}' if cost.frozen else '')
        lines.append([label, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join(
        '  '.join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
    )


def draw_costs(looked: 'Looked', rows: list, about: str, path: str | Path) -> None:
    """Bars of the same rows, a panel for each quantity."""
    from .figures import COLORS, panels, save

    rows = rows[1:] or rows
    figure, grid = panels(1, len(UNITS), width=3.1, height=1.2 + 0.2 * len(rows), sharey=True)
    place = range(len(rows))
    for ax, (key, (title, unit)), color in zip(grid[0], UNITS.items(), COLORS, strict=False):
        values = [getattr(cost, key) / unit for *_, cost in rows]
        shades = [1.0 if indent == 1 else 0.45 for indent, *_ in rows]
        bars = ax.barh(place, values, color=color)
        for bar, shade in zip(bars, shades, strict=True):
            bar.set_alpha(shade)
        if key == 'params':
            frozen = [cost.frozen / unit for *_, cost in rows]
            if any(frozen):
                ax.barh(
                    place, frozen, color='none', hatch='////', edgecolor='black', label='frozen'
                )
                ax.legend(frameon=False, fontsize=8)
        for y, value in zip(place, values, strict=True):
            ax.text(value, y, f' {value:.3g}', va='center', fontsize=7)
        ax.set_title(title, fontsize=9)
        ax.margins(x=0.18)
        ax.spines[['top', 'right']].set_visible(False)
        ax.tick_params(labelsize=8)
    labels = ['    ' * (indent - 1) + name for indent, name, *_ in rows]
    grid[0, 0].set_yticks(place, labels, ha='left')
    width = max(len(label) for label in labels)
    grid[0, 0].tick_params(axis='y', pad=5.2 * width, length=0)
    grid[0, 0].invert_yaxis()
    figure.suptitle(f'{looked.name}, {about}: cost of each module, its parts paler', fontsize=11)
    save(figure, path)


# Training


def frozen_parts(model: 'nn.Module') -> tuple[list[str], list[str]]:
    """The topmost modules and parameters that are not trained, and the topmost modules that stay in
    evaluation mode without being frozen."""
    was_training = model.training
    model.train()
    frozen, evaluated = [], []

    def walk(path, module):
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            frozen.append(path or 'everything')
            return
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                frozen.append(f'{path}.{name}' if path else name)
        if not module.training and path:
            evaluated.append(path)
            return
        for name, child in module.named_children():
            walk(f'{path}.{name}' if path else name, child)

    walk('', model)
    model.train(was_training)
    return frozen, evaluated


def join_blocks(names: Sequence[str]) -> list[str]:
    """Write the same part of blocks that follow each other as one: ``blocks.0-11.norm1``."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        match = re.search(r'(?<=\bblocks\.)\d+', name)
        key = name if match is None else f'{name[: match.start()]}{{}}{name[match.end() :]}'
        numbers.setdefault(key, []).extend([int(match[0])] if match else [])
    joined = []
    for key, found in numbers.items():
        if len(found) > 1 and found == list(range(found[0], found[-1] + 1)):
            joined.append(key.format(f'{found[0]}-{found[-1]}'))
        else:
            joined += [key.format(number) for number in found] or [key]
    return joined


def learning_rates(looked: 'Looked') -> list[dict]:
    """Rows of the optimizer that the config's constructor builds: depth, part, rates, decays."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import DefaultScope

    model = looked.model
    with DefaultScope.overwrite_default_scope(looked.cfg.default_scope):
        wrapper = build_optim_wrapper(model, looked.cfg.optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    depth_of = getattr(model.backbone, 'get_layer_depth', None)
    rows: dict[Any, Any] = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            name = names[id(parameter)]
            part, depth = name.split('.')[0], None
            if part == 'backbone' and depth_of is not None:
                depth, _ = depth_of(name, 'backbone.')
            row = rows.setdefault(
                (part, depth),
                dict(part=part, depth=depth, params=0, rates=set(), decays=set(), example=name),
            )
            row['params'] += parameter.numel()
            row['rates'].add(group['lr'])
            row['decays'].add(group.get('weight_decay', 0))
    for row in rows.values():
        row['rates'], row['decays'] = sorted(row['rates']), sorted(row['decays'])
    return sorted(
        rows.values(),
        key=lambda row: (row['part'] != 'backbone', -1 if row['depth'] is None else row['depth']),
    )


def rate_table(rows: list[dict]) -> str:
    """The rows as text."""
    lines = [('learning rates of', 'params M', 'learning rate', 'weight decay', 'such as')]
    for row in rows:
        label = row['part'] if row['depth'] is None else f'{row["part"]}, depth {row["depth"]}'
        rates, decays = (
            ' or '.join(f'{value:.3g}' for value in row[key]) for key in ('rates', 'decays')
        )
        lines.append((label, f'{row["params"] / 1e6:.3f}', rates, decays, row['example']))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join(
        '  '.join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def draw_rates(looked: 'Looked', rows: list[dict], path: str | Path) -> None:
    """Learning rates of each part and depth."""
    from .figures import COLORS, panels, save

    figure, grid = panels(1, 1, width=7, height=1.2 + 0.22 * len(rows))
    ax = grid[0, 0]
    for y, row in enumerate(rows):
        color = COLORS[0] if row['part'] == 'backbone' else COLORS[1]
        ax.barh(y, row['rates'][-1], color=color)
        ax.text(row['rates'][-1], y, f'  {row["rates"][-1]:.2e}', va='center', fontsize=8)
    labels = [
        row['part'] if row['depth'] is None else f'{row["part"]}, depth {row["depth"]}'
        for row in rows
    ]
    ax.set_yticks(range(len(rows)), labels, fontsize=8)
    ax.invert_yaxis()
    rates = [rate for row in rows for rate in row['rates'] if rate > 0]
    if rates and max(rates) > 30 * min(rates):
        ax.set_xscale('log')
        ax.set_xlim(min(rates) / 2, max(rates) * 4)
    else:
        ax.margins(x=0.2)
    ax.set_xlabel('learning rate', fontsize=9)
    ax.spines[['top', 'right']].set_visible(False)
    figure.suptitle(f'{looked.name}: learning rates of its optimizer', fontsize=11)
    save(figure, path)


# Weights


def load_report(looked: 'Looked', checkpoint: str | Path | None) -> str | None:
    """Load weights into the model and return the report, as text; None where none are asked for."""
    from ..checkpoints import load_pretrained, pretrained_options

    if checkpoint is None:
        return None
    backbone = looked.backbone
    parts = getattr(backbone, 'pretrained_parts', None)
    if checkpoint == 'pretrained':
        if looked.cfg is None:
            raise UsageError('--checkpoint pretrained is for configs: give a file or a name')
        wanted = looked.cfg.model.get('backbone', {}).get('init_cfg') or {}
        options = pretrained_options(wanted)
        if options is None:
            raise UsageError(f'the backbone of {looked.name} names no pretrained weights')
        if parts is None:
            return foreign_report(backbone, **options)
        return str(load_pretrained(backbone, parts=parts, **options))
    if looked.cfg is None:
        if parts is None:
            return foreign_report(backbone, checkpoint)
        return str(load_pretrained(backbone, checkpoint, parts=parts))

    from ..engine import load_trained
    from .datasets import classes_of, trained_classes

    path = find(checkpoint, 'checkpoint')
    meta = load_trained(looked.model, path)
    trained_classes(path, meta.get('dataset_meta'), classes_of(looked.cfg, 'test'))
    known = [f'{key} {meta[key]}' for key in ('epoch', 'iter', 'time', 'mmengine_version')
             if meta.get(key) is not None]  # fmt: skip
    count = len(looked.model.state_dict())
    return (
        f'Loaded a training\n  file     {path}\n  into     {type(looked.model).__name__}, '
        f'all of its {count} tensors\n  trained  {", ".join(known) or "unknown"}'
    )


def foreign_report(backbone: 'nn.Module', checkpoint: str | Path, prefix: str = '') -> str:
    """List the keys of a checkpoint that fill a host's backbone; hosts load what fits, silently."""
    from ..checkpoints import locate, read
    from ..checkpoints.report import listing, table

    path = locate(checkpoint)
    content = read(path)
    given = content.get('state_dict', content.get('model', content))
    given = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
    wanted = backbone.state_dict()
    shapes = [k for k in wanted if k in given and given[k].shape != wanted[k].shape]
    filled = sum(wanted[k].numel() for k in wanted if k in given and k not in shapes)
    share = filled / max(sum(v.numel() for v in wanted.values()), 1)
    return table(
        f'What the host library would load into {type(backbone).__name__}',
        [
            ('file', str(path) + (f' [{prefix}]' if prefix else '')),
            ('filled', f'{share:.1%} of its values'),
            ('missing', listing(k for k in wanted if k not in given)),
            ('of another shape', listing(shapes)),
            ('unused', listing(k for k in given if k not in wanted)),
        ],
    )
