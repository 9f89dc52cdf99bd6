"""Tables that come from the models themselves, so that no page can be wrong about them.

``{costs} NAME ...``
    Parameters and multiply-adds of backbones, from docs/counts.json (``python docs/count.py``).
``{shapes} NAME``
    Shapes through a backbone, read by hooks while it runs on an image of ``:size: H W``. The body
    names the modules, each line ``name: what it is``.
``{benchmark} FILE``
    What ``tools/benchmark.py --json docs/benchmarks/FILE`` measured, with ratios to its first row.
``{counts} FILE``
    What ``tools/benchmark.py --count --json docs/benchmarks/FILE`` counted.
"""

import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mmhybrid.cli.count import COLUMNS, cells

DOCS = Path(__file__).resolve().parents[1]
COUNTS = DOCS / 'counts.json'


def make_table(head: list[str], rows: list[list[str]]) -> nodes.table:
    """A table; the cells of its first column are code."""
    table, group = nodes.table(), nodes.tgroup(cols=len(head))
    table += group
    group += [nodes.colspec(colwidth=1) for _ in head]

    def line(cells: list[str], code: bool) -> nodes.row:
        row = nodes.row()
        for i, cell in enumerate(cells):
            make = nodes.literal if code and i == 0 else nodes.inline
            lines = (nodes.paragraph('', '', make(text=text)) for text in cell.split('\n'))
            row += nodes.entry('', *lines)
        return row

    group += nodes.thead('', line(head, code=False))
    group += nodes.tbody('', *(line(row, code=True) for row in rows))
    return table


class Costs(SphinxDirective):
    """See the module."""

    required_arguments = 1
    optional_arguments = 1000
    final_argument_whitespace = False

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        self.env.note_dependency(str(COUNTS))
        counts = json.loads(COUNTS.read_text(encoding='utf-8'))
        rows = []
        for name in self.arguments:
            if name not in counts:
                raise self.error(f'{COUNTS.name} has no {name!r}: run python docs/count.py')
            entry = counts[name]
            row = [name, f'{entry["params"] / 1e6:.1f}', f'{entry["macs"] / 1e9:.1f}']
            row += [' '.join(map(str, entry[key])) for key in ('channels', 'strides')]
            rows.append(row)
        return [make_table(['name', 'params M', 'GMACs', 'channels', 'strides'], rows)]


class Shapes(SphinxDirective):
    """See the module."""

    required_arguments = 1
    option_spec = {'size': directives.unchanged}
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Run the model without values, and build the table."""
        from count import build  # imports torch

        name = self.arguments[0]
        size = tuple(map(int, self.options.get('size', '512 512').split()))
        try:
            rows = shapes(build(name), size, [line.split(':', 1) for line in self.content])
        except (KeyError, ValueError) as error:
            raise self.error(f'{name}: {error}') from error
        caption = f'{name}, one image of {size[0]}x{size[1]}'
        table = make_table(['module', 'what', 'shape'], rows)
        table['classes'] += ['shapes']
        table.insert(0, nodes.title(text=caption))
        return [table]


def shapes(model, size: tuple[int, int], wanted: list[list[str]]) -> list[list[str]]:
    """Rows of module, what it is and the shape it returns; its maps come last.

    Raises:
        KeyError: a module that is not there, or was not run.
    """
    import torch

    modules, seen = dict(model.named_modules()), {}
    for module, _ in wanted:
        if module not in modules:
            raise KeyError(f'no module {module!r}')

        def look(_, args, out, module=module):
            seen.setdefault(module, out)

        modules[module].register_forward_hook(look)
    with torch.no_grad():
        maps = model(torch.empty(1, 3, *size, device='meta'))
    rows = [[module, what.strip(), describe(seen[module])] for module, what in wanted]
    for level, stride in enumerate(model.out_strides):
        rows.append([f'output {level}', f'stride {stride}', describe(maps[level])])
    return rows


def describe(out) -> str:
    """Shapes of what a module returned, one a line; a grid (h, w) as it is."""
    if hasattr(out, 'shape'):
        return ' x '.join(map(str, out.shape))
    if all(isinstance(one, int) for one in out):
        return f'grid {out[0]} x {out[1]}'
    return '\n'.join(describe(one) for one in out)


def read_report(directive: SphinxDirective) -> dict:
    """Read the report in docs/benchmarks that a directive names; its page depends on it."""
    path = DOCS / 'benchmarks' / directive.arguments[0]
    directive.env.note_dependency(str(path))
    if not path.is_file():
        raise directive.error(f'no file {path.relative_to(DOCS)}')
    return json.loads(path.read_text(encoding='utf-8'))


class Benchmark(SphinxDirective):
    """See the module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        report = read_report(self)
        results, machine = report['results'], report['machine']
        measured = {key: head for key, head in MEASURED.items() if key in results[0]}
        rows = []
        for result in results:
            row = [result['name']]
            for key, (_, digits) in measured.items():
                ratio = result[key] / results[0][key]
                row.append(f'{result[key]:.{digits}f} ({ratio:.2f}x)')
            rows.append(row)
        table = make_table(['name', *(head for head, _ in measured.values())], rows)
        height, width = machine['size']
        preload = ''.join(f'{library}, ' for library in machine['preload'])
        caption = (
            f'{machine["device"]}, {machine["threads"]} threads, torch {machine["torch"]}, '
            f'{preload}{machine["dtype"]}, {height}x{width}, batch {machine["batch"]}, '
            f'medians of {machine["rounds"]} rounds in each of {machine["processes"]} processes'
        )
        table.insert(0, nodes.title(text=caption))
        return [table]


MEASURED = {
    'infer_ms': ('inference ms', 0),
    'train_ms': ('training step ms', 0),
    'peak_mb': ('peak MB', 0),
    'params_m': ('params M', 1),
    'gflops': ('GMACs', 1),
}


class Counts(SphinxDirective):
    """See the module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        report = read_report(self)
        rows = [[result['name'], result['mode'], *cells(result)] for result in report['results']]
        table = make_table(['name', 'mode', *(head for head, _ in COLUMNS.values())], rows)
        height, width = report['size']
        caption = (
            f'counted for {report["card"]}, torch {report["torch"]}, {report["dtype"]}, '
            f'{height}x{width}, batch {report["batch"]}'
        )
        table.insert(0, nodes.title(text=caption))
        return [table]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive('benchmark', Benchmark)
    app.add_directive('costs', Costs)
    app.add_directive('counts', Counts)
    app.add_directive('shapes', Shapes)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
