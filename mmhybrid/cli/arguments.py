"""The arguments that several commands have."""

import argparse
import re
from typing import Any

from .launch import LAUNCHERS

# Package that a tracker needs: its title, and mmengine's backend.
TRACKERS = dict(
    tensorboard=('TensorBoard', 'TensorboardVisBackend'),
    wandb=('Weights & Biases', 'WandbVisBackend'),
    mlflow=('MLflow', 'MLflowVisBackend'),
    clearml=('ClearML', 'ClearMLVisBackend'),
)
CHECKPOINT = 'checkpoint of the same config, its exported file, or a work dir: its best checkpoint'
CONFIG = 'config file, or name of one of mmhybrid; its default_scope names the host library'


class IntermixedParser(argparse.ArgumentParser):
    """A parser that takes one positional argument less with options between the others, too."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all options first, then the positional arguments together."""
        return self.parse_intermixed_args(args, namespace)


def argument_parser(description: str | None, *, trained: bool = False) -> argparse.ArgumentParser:
    """The arguments that all tools have.

    With ``trained`` a checkpoint is one of them: it may be left out where the config is a work dir.
    """
    parser = (IntermixedParser if trained else argparse.ArgumentParser)(description=description)
    place = ', or the work dir of a training, which holds both' if trained else ''
    parser.add_argument('config', help=CONFIG + place)
    if trained:
        parser.add_argument('checkpoint', nargs='?', help=CHECKPOINT)
    parser.add_argument('--work-dir', help='folder of logs and results')
    parser.add_argument(
        '--data', metavar='DIR', help="folder of the data, in the place of the config's data_root"
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValues,
        default={},
        metavar='KEY=VALUE',
        help='change the config: data_root=/data/coco train_dataloader.batch_size=1',
    )
    return parser


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """The arguments of the tools that run the host's Runner."""
    parser.add_argument(
        '--report', action='store_true', help='write WORK_DIR/report.html at the end'
    )
    for name, (title, _) in TRACKERS.items():
        parser.add_argument(f'--{name}', action='store_true', help=f'log to {title} too')
    group = parser.add_argument_group('several processes')
    group.add_argument(
        '--launcher',
        choices=['none', *LAUNCHERS],
        default='none',
        help='what started the processes: torchrun is pytorch, srun is slurm, mpirun is mpi',
    )
    group.add_argument(
        '--dist-timeout',
        type=int,
        metavar='SECONDS',
        help='how long a process waits for the others before it ends with an error',
    )
    # torch.distributed.launch passes this; torchrun sets the variable itself.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


class KeyValues(argparse.Action):
    """KEY=VALUE ... as mmengine's DictAction reads them, but with the spaces inside of texts."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not key or key != key.strip():
                parser.error(f'{option_string}: expected KEY=VALUE without spaces, got {text!r}')
            try:
                options[key] = _value(value)
            except AssertionError as error:  # of mmengine, on brackets
                parser.error(f'{option_string} {text}: {error}')
        setattr(namespace, self.dest, options)


def _value(text):
    from mmengine.config import DictAction

    if ',' in text or text.startswith(('[', '(')):  # spaces beside separators mean nothing
        text = re.sub(r'\s*,\s*|(?<=[\[(])\s+|\s+(?=[\])])', lambda at: at[0].strip(), text)

    def restored(value):
        if isinstance(value, (list, tuple)):
            return type(value)(map(restored, value))
        return value.replace('\0', ' ') if isinstance(value, str) else value

    return restored(DictAction._parse_iterable(text.strip().replace(' ', '\0')))
