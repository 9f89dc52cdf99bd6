"""A terminal that shows a training to a person; the log file keeps every line."""

import logging
import re
import time
import warnings
from collections.abc import Iterator
from typing import Any

from mmengine import logging as host_logging
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
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
    'The prefix is not set in metric class',
    'Exp name: ',
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


# Beginnings of warnings about defaults of the hosts, which our configs have on purpose.
WARNINGS = (
    'faster_coco_eval is not installed',
    'Default ``avg_non_ignore`` is False',
    'The draw is False, it means that the hook for visualization',
)


def hush_hosts() -> None:
    """Hush what the hosts say of their defaults, and of packages that no training needs.

    The OneDL forks print that one of theirs is not there, at the level DEBUG, but ``print_log``
    without a logger prints whatever level a message has.
    """
    for beginning in WARNINGS:
        warnings.filterwarnings('ignore', re.escape(beginning))
    given = host_logging.print_log
    if getattr(given, 'hushes', False):
        return

    def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is not None or level > logging.DEBUG:
            given(msg, logger, level)

    print_log.hushes = True  # type: ignore[attr-defined]
    host_logging.print_log = print_log


def hush_annotations() -> None:
    """Hush the four lines that pycocotools prints for each file of annotations."""
    import pycocotools.coco

    setattr(pycocotools.coco, 'print', lambda *args: None)  # noqa: B010, its print is Python's


class EvaluationsInEta(Hook):
    """Adds the evaluations to come to a training's eta, as long each as the last one took.

    It follows IterTimerHook, which counts training steps alone, and precedes LoggerHook.
    """

    priority = 'NORMAL'
    seconds = 0.0

    def before_val(self, runner: Runner) -> None:
        self.begun = time.monotonic()

    def after_val(self, runner: Runner) -> None:
        self.seconds = time.monotonic() - self.begun

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        known = runner.message_hub.runtime_info
        if self.seconds and 'eta' in known:
            known['eta'] += self.seconds * evaluations_to_come(runner.train_loop)


def evaluations_to_come(loop: Any) -> int:
    """Count the evaluations after the current step; 0 for loops that are none of mmengine's."""
    if isinstance(loop, EpochBasedTrainLoop):
        now, last = loop.epoch, loop.max_epochs
    elif isinstance(loop, IterBasedTrainLoop):
        now, last = loop.iter, loop.max_iters
    else:
        return 0
    before, interval = max(now, loop.val_begin - 1), loop.val_interval
    # The last step or epoch is followed by one, whatever the interval.
    return last // interval - before // interval + (last % interval > 0) if before < last else 0


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
