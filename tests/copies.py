"""Copies between devices, for which a program waits."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Copies(TorchDispatchMode):
    """Notes copies between devices, for which a program waits.

    It waits for numbers that it reads, too; here there are none, and reading one is an error.
    """

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            if len({t.device.type for t in (*args, out) if isinstance(t, torch.Tensor)}) > 1:
                self.found.append(str(func))
        return out
