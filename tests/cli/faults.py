"""What can happen to a training: used by the tests of resuming and of several processes."""

import multiprocessing
import os
import signal
import subprocess
import time

import torch

from mmhybrid.engine import ExactResumeHook, PreemptionHook


def at_iteration(number, action):
    """A fault: ``action(runner)`` when iteration ``number`` (from 0) begins."""

    def install():
        before = ExactResumeHook.before_train_iter

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == number:
                action(runner)
            before(self, runner, batch_idx, data_batch)

        ExactResumeHook.before_train_iter = before_train_iter

    return install


def in_evaluation(action):
    """A fault: ``action(runner)`` when an evaluation begins."""

    def install():
        PreemptionHook.before_val_epoch = lambda self, runner: action(runner)

    return install


def send(number):
    """An action: the process gets the signal ``number``."""
    return lambda runner: os.kill(os.getpid(), number)


def send_to_all(number):
    """An action: somebody sends ``number`` to the process and to those that load its images."""

    def action(runner):
        loaders = [p for p in multiprocessing.active_children() if p._parent_pid == os.getpid()]
        assert loaders
        pids = [str(pid) for pid in (*(p.pid for p in loaders), os.getpid())]
        subprocess.run(['kill', f'-{int(number)}', *pids], check=True)
        time.sleep(1)  # torch raises as soon as the system tells of a loader's death

    return action


def kill_loaders(runner):
    """An action: the processes that load images are killed, as when memory runs out."""
    for process in multiprocessing.active_children():
        if process._parent_pid == os.getpid():  # and not one of the tests'
            process.kill()
    time.sleep(5)  # torch ends it as soon as the system tells of their death


def poison(runner):
    """An action: one weight of the model becomes NaN."""
    next(runner.model.parameters()).data.view(-1)[0] = torch.nan


def limit_files(size):
    """An action: no file may grow beyond ``size`` bytes, as if the disk were full."""
    import resource

    return lambda runner: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def in_the_midst_of_writing():
    """A fault: the process is killed when half of a checkpoint's bytes are on the disk."""

    def fsync(descriptor):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync


def state_of(path):
    """What a checkpoint holds of a training, without its history."""
    state = torch.load(path, weights_only=False)
    return {k: v for k, v in state.items() if k not in ('meta', 'message_hub')}


def same(one, other):
    """Whether two things made of dicts, lists, numbers and tensors are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
