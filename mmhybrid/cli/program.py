"""The program ``mmhybrid``: a table of commands, each imported when it runs.

``mmhybrid COMMAND ...`` and ``python -m mmhybrid COMMAND ...`` are the same.
"""

import argparse
import importlib
import sys

# Name: module, and its line in the help.
COMMANDS = {
    'train': ('mmhybrid.cli.train', 'train a detector, segmentor or classifier'),
    'test': ('mmhybrid.cli.test', 'evaluate a checkpoint with the metrics of its config'),
    'robustness': ('mmhybrid.cli.robustness', 'evaluate a checkpoint on disturbed images'),
    'infer': ('mmhybrid.cli.infer', 'predict on images, folders, videos or a camera'),
    'check': (
        'mmhybrid.cli.check_data',
        'check the data of a config, or a folder, before training',
    ),
    'data': ('mmhybrid.cli.data', 'convert annotations of other tools, and images to 8 bits'),
    'export': ('mmhybrid.cli.export', 'write a trained model as one file that runs elsewhere'),
    'benchmark': ('mmhybrid.cli.benchmark', 'measure speed and memory of backbones'),
    'visualize': ('mmhybrid.cli.visualize', 'draw feature maps, attention and sampling points'),
    'analyze': ('mmhybrid.cli.analyze', 'count parameters, multiply-adds and memory by module'),
    'report': ('mmhybrid.cli.report', 'write a page on a finished training'),
    'convert': (
        'mmhybrid.cli.convert_weights',
        'convert published weights, or tell what a file is',
    ),
    'parity': ('mmhybrid.cli.parity', 'compare backbones with runs of the originals'),
    'study': ('mmhybrid.cli.study', 'compare models at equal budgets, over several seeds'),
    'configs': ('mmhybrid.cli.configs', 'list and search the configs'),
    'weights': ('mmhybrid.cli.weights', 'list and search the names of published weights'),
    'demo': ('mmhybrid.cli.demo', 'train and evaluate on drawn images, in minutes'),
    'doctor': ('mmhybrid.doctor', 'examine the installation'),
}


def main(arguments: list[str] | None = None) -> None:
    """Run a command and end the process: 0 is success, 1 a mistake, 2 a wrong option."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    if not given:
        parser.print_help()
        sys.exit(2)
    args = parser.parse_args(given[:1])
    # The help of a command names the program by this.
    sys.argv = [f'mmhybrid {args.command}', *given[1:]]
    module = importlib.import_module(COMMANDS[args.command][0])
    if args.command == 'doctor':  # it must run where the libraries that others import are broken
        sys.exit(module.main())
    from .usage import run

    run(module.main)


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    width = max(map(len, COMMANDS))
    lines = [f'  {name:{width}}  {line}' for name, (_, line) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog='mmhybrid',
        usage='mmhybrid COMMAND ...',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Hybrid CNN + Transformer backbones for dense prediction.',
        epilog='\n'.join(
            [
                'commands:',
                *lines,
                '',
                'mmhybrid COMMAND --help has the options of each. A config is named by its bare '
                'name, as\nmaskrcnn_vitcomer_b, or by a path.',
            ]
        ),
    )
    parser.add_argument('--version', action='version', version=f'mmhybrid {__version__}')
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND', help=argparse.SUPPRESS)
    return parser
