"""Machines that are taken away: save, then leave."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmhybrid.engine.checkpoint import AtomicCheckpointHook
from mmhybrid.registry import HOOKS


class Preempted(SystemExit):
    """The training was asked to stop, and saved itself. The exit code is 128 plus the signal's
    number: whoever starts jobs can tell it from a training that is finished."""


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Saves a checkpoint and ends the process when it is told to stop.

    Cloud machines and Kubernetes send SIGTERM, Slurm the signal of ``sbatch --signal``. Sent to
    every process of a job, it does not end those that load images: they leave it to the training.
    The checkpoint is written after the iteration that is under way. Several processes stop after
    the same one, even if only one got the signal; during an evaluation they finish it first. A
    single process leaves the evaluation, and a resumed training repeats only the last one.

    Args:
        signals: names of the signals.

    Raises:
        Preempted: after the checkpoint was written.
    """

    priority = 'LOWEST'

    def __init__(self, signals: Sequence[str] = ('SIGTERM', 'SIGUSR1')):
        unknown = [name for name in signals if not hasattr(signal, name)]
        if unknown:
            raise ValueError(f'signals={signals}: there is no {", ".join(unknown)} here')
        self.signals = [getattr(signal, name) for name in signals]
        self.received = 0
        self.before: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in self.signals}
            for loop in filter(None, (runner.train_loop, runner.val_loop)):
                loader = loop.dataloader
                loader.worker_init_fn = partial(obey_parent, self.signals, loader.worker_init_fn)

    def after_train(self, runner: Runner) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        received = torch.tensor(self.received)
        all_reduce(received, 'max')
        if received:
            self._stop(runner, int(received), runner.iter + 1)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        # Several processes need not evaluate equally many batches: there they cannot agree to stop.
        if self.before and self.received and not is_distributed():
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook._swap_ema_parameters()  # the model holds the average while it is evaluated
            self._stop(runner, self.received, runner.iter)

    def _note(self, number, frame):
        self.received = number

    def _stop(self, runner, number, done):
        saver = next((h for h in runner.hooks if isinstance(h, AtomicCheckpointHook)), None)
        how = f'stopped by {signal.Signals(number).name} after {done} iterations'
        if saver is None:
            runner.logger.warning(f'{how}; nothing is saved: there is no AtomicCheckpointHook')
        else:
            path = saver.save_extra(runner, done)
            runner.logger.warning(f'{how}; {path} holds them: go on with --resume')
        self.after_train(runner)
        barrier()  # a process that ends early would make torchrun end the one that writes
        raise Preempted(128 + number)


def obey_parent(signals: Sequence[int], init: Callable[[int], None] | None, worker: int) -> None:
    """Begin a process that loads images: only the training may end it by one of the signals."""
    if init is not None:
        init(worker)
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # so that the thread gets to know the sender

    def wait():
        while signal.sigwaitinfo(signals).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
