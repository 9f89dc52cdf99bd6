"""A terminal that shows a training to a person; the log file keeps every line."""

import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

from mmengine import logging as host_logging
from mmengine.device import get_device
from mmengine.runner import Runner
from torch.optim import Optimizer

# Beginnings and ends of what the hosts log once for each run, parameter or hook.
BEGINNINGS = (
    '\n------------------------------------------------------------\nSystem environment:',
    'Config:\n',
    'Distributed training is not used, all SyncBatchNorm',
    'Hooks will be executed in the following order',
    'paramwise_options -- ',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)
ENDS = ('is skipped since its requires_grad=False',)


PROGRESS = re.compile(r'\S+\((val|test)\) *\[ *(\d+)/(\d+)\] +eta:')
LINES = 10  # of the progress of an evaluation


def is_detail(record: logging.LogRecord) -> bool:
    """Return True for a message of the hosts that the log file alone should hold."""
    if record.levelno >= logging.ERROR:
        return False
    text = str(record.msg)
    return text.startswith(BEGINNINGS) or text.endswith(ENDS)


class Tenths:
    """Lets through what tells a tenth more of an evaluation, whose images may be logged one by one.

    The interval of the log is that of training steps.
    """

    def __init__(self):
        self.tenth = 0

    def __call__(self, record: logging.LogRecord) -> bool:
        found = PROGRESS.match(str(record.msg))
        if found is None:
            return True
        done, whole = int(found[2]), int(found[3])
        before, self.tenth = self.tenth, done * LINES // whole
        return self.tenth > (before if before <= self.tenth else 0)  # another one may have begun


def calm(logger: logging.Logger) -> logging.Logger:
    """Keep details away from the terminal; handlers that write files are left as they are."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: not is_detail(record))
            handler.addFilter(Tenths())
    return logger


def hush_imports() -> None:
    """Hush what imports of the hosts say of packages that no training needs.

    The OneDL forks print that one of theirs is not there, at the level DEBUG, but ``print_log``
    without a logger prints whatever level a message has. MMDetection warns of faster_coco_eval.
    """
    warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')
    given = host_logging.print_log
    if getattr(given, 'hushes', False):
        return

    def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is not None or level > logging.DEBUG:
            given(msg, logger, level)

    print_log.hushes = True  # type: ignore[attr-defined]
    host_logging.print_log = print_log


def summarise(runner: Runner) -> list[str]:
    """Lines on a training that begins: the model, its device, and the groups of its optimizers."""
    model = runner.model
    model = getattr(model, 'module', model)
    parameters = list(model.parameters())
    frozen = [it for it in parameters if not it.requires_grad]
    place = get_device()
    if runner.world_size > 1:
        place = f'{runner.world_size} processes, {place}'
    text = f'{type(model).__name__} on {place}, seed {runner.seed}: {_count(parameters)} values'
    lines = [text + (f', {_count(frozen)} of them frozen' if frozen else '')]
    for name, optimizer in _optimizers(runner.optim_wrapper):
        by_decay: dict[Any, list] = {}
        for group in optimizer.param_groups:
            by_decay.setdefault(group.get('weight_decay'), []).append(group)
        for decay, groups in by_decay.items():
            rates = sorted({float(it.get('initial_lr', it['lr'])) for it in groups})
            rate = f'{rates[0]:g}' + (f' to {rates[-1]:g}' if len(rates) > 1 else '')
            inside = [it for group in groups for it in group['params']]
            said = '' if decay is None else f', weight decay {decay:g}'
            lines.append(f'{name}: {_count(inside)} values with lr {rate}{said}')
    return lines


def _count(parameters: list) -> str:
    return f'{sum(it.numel() for it in parameters):,}'


def _optimizers(wrapper: Any) -> Iterator[tuple[str, Optimizer]]:
    """Each optimizer with its name; a model may have several."""
    if hasattr(wrapper, 'optim_wrappers'):
        for name, one in wrapper.optim_wrappers.items():
            yield f'{type(one.optimizer).__name__} of {name}', one.optimizer
    else:
        yield type(wrapper.optimizer).__name__, wrapper.optimizer
