"""Runs that leave nothing behind in their process."""

import contextlib
import logging
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.utils import ManagerMixin

VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')  # that mmengine sets for worker processes
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last two save a training


@contextlib.contextmanager
def separate_run() -> Iterator[None]:
    """Put back what a run of mmengine changes in its process, when the block ends.

    These are its named instances (the scope, loggers, message hubs, visualizers), random number
    generators, signal handlers, and settings of threads, processes and deterministic algorithms.
    """
    instances = {kind: dict(kind._instance_dict) for kind in _managers()}
    python, numpy = random.getstate(), np.random.get_state()
    variables = {name: os.environ.get(name) for name in VARIABLES}
    threads, start = cv2.getNumThreads(), multiprocessing.get_start_method(allow_none=True)
    cudnn = torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic
    deterministic = torch.get_deterministic_debug_mode()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with torch.random.fork_rng():
        try:
            yield
        finally:
            _restore(instances)
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    signal.signal(number, handler)
            random.setstate(python)
            np.random.set_state(numpy)
            for name, value in variables.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            cv2.setNumThreads(threads)
            multiprocessing.set_start_method(start, force=True)
            cudnn.benchmark, cudnn.deterministic = flags
            torch.set_deterministic_debug_mode(deterministic)


def _managers(kind: Any = ManagerMixin) -> list[Any]:
    below = [found for sub in kind.__subclasses__() for found in _managers(sub)]
    return [kind, *below]


def _restore(instances: dict[Any, dict]) -> None:
    for kind in _managers():
        before = instances.get(kind, {})
        for name, instance in kind._instance_dict.items():
            if name not in before and isinstance(instance, logging.Logger):
                for handler in instance.handlers:
                    handler.close()
        kind._instance_dict.clear()
        kind._instance_dict.update(before)
