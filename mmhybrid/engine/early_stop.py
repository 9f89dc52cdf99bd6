"""Stop a training that no longer improves."""

from typing import Any

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner

from mmhybrid.engine.health import TrainingError
from mmhybrid.registry import HOOKS

STATE = 'early_stop'


@HOOKS.register_module()
class EarlyStopHook(EarlyStoppingHook):
    """mmengine's hook, whose count goes on in a resumed training.

    A checkpoint is written before the evaluation of its epoch: a training that ends between both
    does not count that evaluation.

    Args:
        monitor: the metric, as ``'coco/bbox_mAP'``, ``'mIoU'`` or ``'accuracy/top1'``.
        patience: evaluations without a gain until the training stops.
        min_delta: a smaller difference is no gain.
        kwargs: the other arguments of mmengine's hook; ``rule`` is ``'greater'`` but for losses.
    """

    def __init__(self, monitor: str, patience: int = 5, min_delta: float = 1e-4, **kwargs: Any):
        kwargs.setdefault('rule', 'less' if 'loss' in monitor else 'greater')
        super().__init__(monitor, patience=patience, min_delta=min_delta, **kwargs)

    def before_run(self, runner: Runner) -> None:
        """Do nothing: mmengine looks at the training loop, which an evaluation need not have."""

    def before_train(self, runner: Runner) -> None:
        super().before_run(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint.setdefault('meta', {})[STATE] = dict(
            monitor=self.monitor, wait_count=self.wait_count, best_score=self.best_score
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        state = checkpoint.get('meta', {}).get(STATE)
        if runner._resume and state and state['monitor'] == self.monitor:
            self.wait_count, self.best_score = state['wait_count'], state['best_score']

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Count, and stop.

        Raises:
            TrainingError: the evaluation has no such metric.
        """
        given = metrics or {}
        if not given:  # a young detector has found no object: neither a gain nor the lack of one
            return
        if self.monitor not in given:
            raise TrainingError(
                f'early stopping looks at {self.monitor!r}, which the evaluation does not give; '
                f'it gives {", ".join(given)}'
            )
        super().after_val_epoch(runner, metrics)
