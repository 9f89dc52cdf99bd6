"""Parameters, multiply-adds, activations and memory of each module of a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from mmhybrid.engine.flops import formulas


@dataclass
class Cost:
    """The costs of a module and all within it.

    Attributes:
        name: its own, without its parents'.
        kind: its class.
        params: number of parameters; those shared with a module before count there.
        frozen: how many of them get no gradient in training.
        macs: multiply-adds of an inference, see :func:`mmhybrid.engine.flops.count_macs`.
        activations: values that its matrix products, convolutions and attentions put out.
        kept: bytes that a training step keeps for the backward pass, without the parameters and
            without what a part recomputed by ``with_cp='light'`` keeps, which torch holds apart.
        children: in the order they are defined.
    """

    name: str
    kind: str
    params: int = 0
    frozen: int = 0
    macs: int = 0
    activations: int = 0
    kept: int = 0
    children: list['Cost'] = field(default_factory=list)

    def walk(self, path: str = '') -> Iterator[tuple[str, 'Cost']]:
        """Yield this and all costs within, with their full names; a parent before its children."""
        yield path, self
        for child in self.children:
            yield from child.walk(f'{path}.{child.name}' if path else child.name)

    def as_dict(self) -> dict:
        """Return itself and its children, for JSON."""
        numbers = {key: getattr(self, key) for key in NUMBERS}
        children = [child.as_dict() for child in self.children]
        return dict(name=self.name, kind=self.kind, **numbers, children=children)


NUMBERS = ('params', 'frozen', 'macs', 'activations', 'kept')


def measure_costs(
    model: nn.Module, infer: Callable[[], object], loss: Callable[[], object] | None = None
) -> Cost:
    """Measure a model on one inference and the forward pass of one training step.

    Operations outside of any submodule's forward count for the module that runs them.

    Args:
        infer: runs the model once; it is in evaluation mode then.
        loss: runs the forward pass of a training step and returns what is to be differentiated;
            it is in training mode then. Without it nothing is ``kept``.
    """
    was_training = model.training
    try:
        model.eval()
        outputs, counter = _Outputs(), FlopCounterMode(display=False, custom_mapping=formulas())
        with torch.no_grad(), counter, outputs:
            macs, activations = _own_shares(
                model, infer, lambda: (counter.get_total_flops() // 2, outputs.total)
            )
        model.train()
        frozen = {id(p) for p in model.parameters() if not p.requires_grad}
        kept: dict[str, int] = {}
        if loss is not None:
            saved = _Saved(model)
            with torch.enable_grad(), saved_tensors_hooks(saved.pack, lambda tensor: tensor):
                (kept,) = _own_shares(model, loss, lambda: (saved.total,))
    finally:
        model.train(was_training)
    return _tree(model, dict(macs=macs, activations=activations, kept=kept), frozen)


def _own_shares(
    model: nn.Module, run: Callable[[], object], totals: Callable[[], tuple[int, ...]]
) -> list[dict[str, int]]:
    """Compute the growth of running totals in each module's own part of a run: name -> growth."""
    shares: list[dict[str, int]] = [{} for _ in totals()]
    names, last = [''], list(totals())

    def credit():
        for i, total in enumerate(totals()):
            share = shares[i]
            share[names[-1]] = share.get(names[-1], 0) + total - last[i]
            last[i] = total

    paths = {module: path for path, module in model.named_modules() if path}

    def enter(module, args):
        if module in paths:
            credit()
            names.append(paths[module])

    def leave(module, args, output):
        if module in paths:
            credit()
            names.pop()

    with (
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ):
        result = run()
        credit()
        del result  # until here: what autograd keeps must not make room for other tensors
    return shares


class _Outputs(TorchDispatchMode):
    """Counts the values that the operators with multiply-adds put out."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry or packet in formulas():
            first = tree_leaves(out)[0]  # fused operators also give statistics
            self.total += first.numel()
        return out


class _Saved:
    """Counts the bytes of the memory that autograd keeps, each piece once."""

    def __init__(self, model: nn.Module):
        tensors = [*model.parameters(), *model.buffers()]
        self.seen = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self.total = 0

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor


def _tree(model: nn.Module, own: dict[str, dict[str, int]], frozen: set[int]) -> Cost:
    counted: set[int] = set()

    def build(path: str, name: str, module: nn.Module) -> Cost:
        cost = Cost(name, type(module).__name__)
        for key, shares in own.items():
            setattr(cost, key, shares.get(path, 0))
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in counted:
                counted.add(id(parameter))
                cost.params += parameter.numel()
                cost.frozen += parameter.numel() * (id(parameter) in frozen)
        for child_name, child in module.named_children():
            child_path = f'{path}.{child_name}' if path else child_name
            below = build(child_path, child_name, child)
            cost.children.append(below)
            for key in NUMBERS:
                setattr(cost, key, getattr(cost, key) + getattr(below, key))
        return cost

    return build('', '', model)
