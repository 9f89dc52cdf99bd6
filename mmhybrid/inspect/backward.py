"""Autograd's backward pass in Python, for fake tensors of a GPU that is not there.

Torch's own engine asks the device for its streams. This one calls the same nodes in the same order:
those made last first.
"""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

_current: list[str] = []


def current_node() -> str | None:
    """Return the name of the node that runs, of either engine."""
    node = torch._C._current_autograd_node()
    return node.name() if node is not None else _current[-1] if _current else None


def backward(losses: list[Tensor]) -> None:
    """Add up the gradients of parameters; takes the loss out of its list.

    A node is freed, with the tensors that it keeps, as soon as it has run. Nothing else may hold
    the loss, which holds them all.
    """
    loss = losses.pop()
    roots = [(get_gradient_edge(loss), torch.ones_like(loss))]
    del loss
    _run(roots, {})


def gradients(
    outputs: Sequence[Tensor] | Tensor,
    inputs: Sequence[Tensor] | Tensor,
    grad_outputs: Any = None,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """See ``torch.autograd.grad``, without its options."""
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    grads = [grad_outputs] if isinstance(grad_outputs, Tensor) else grad_outputs
    grads = [None] * len(outputs) if grads is None else grads
    roots = [
        (get_gradient_edge(out), torch.ones_like(out) if grad is None else grad)
        for out, grad in zip(outputs, grads, strict=True)
        if out.requires_grad
    ]
    edges = [get_gradient_edge(x) if x.requires_grad else None for x in inputs]
    found: dict[tuple, Tensor | None] = {(e.node, e.output_nr): None for e in edges if e}
    _run(roots, found)
    return tuple(None if e is None else found[e.node, e.output_nr] for e in edges)


def _run(roots: list, wanted: dict[tuple, Tensor | None]) -> None:
    """Run the nodes below the roots.

    Args:
        roots: pairs of an edge and its gradient; is emptied.
        wanted: by node and number of its input, takes the gradients; without any, they are added
            to those of the leaves.
    """
    waiting = _dependencies([edge.node for edge, _ in roots])
    needed = _above(waiting, {node for node, _ in wanted}) if wanted else None
    buffers: dict[Any, dict[int, Tensor]] = {}
    ready: list[tuple[int, int, Any]] = []
    owners: dict[Any, list] = {}  # a function in Python goes with the nodes that lead to it
    pushed = 0

    def give(node: Any, place: int, grad: Tensor | None) -> None:
        held = buffers.setdefault(node, {})
        if grad is not None:
            expected = node._input_metadata[place]
            if grad.shape != expected.shape:  # of what was broadcast
                grad = grad.sum_to_size(expected.shape)
            grad = grad.to(expected.dtype)
            held[place] = held[place] + grad if place in held else grad

    def push(node: Any) -> None:
        nonlocal pushed
        pushed += 1  # of nodes with the same number the first comes first
        heapq.heappush(ready, (-node._sequence_nr(), pushed, node))

    for edge, grad in roots:
        give(edge.node, edge.output_nr, grad)
    for node in {edge.node: None for edge, _ in roots}:
        if not waiting[node]:
            push(node)
    roots.clear()
    node = edge = grad = None
    with torch.no_grad(), _one_graph():
        while ready:
            node = heapq.heappop(ready)[2]
            held = buffers.pop(node)
            del waiting[node]
            above = owners.pop(node, [])
            for place, grad in held.items():
                if (node, place) in wanted:
                    wanted[node, place] = grad
            below = node.next_functions
            is_needed = held and (needed is None or node in needed)
            grads = _call(node, held) if is_needed else [None] * len(below)
            held = grad = None
            for i, (next_node, place) in enumerate(below):
                if next_node is None:
                    continue
                give(next_node, place, grads[i])
                grads[i] = None
                if isinstance(next_node, torch._C._FunctionBase):
                    owners.setdefault(next_node, []).extend([node, *above])
                waiting[next_node] -= 1
                if not waiting[next_node]:
                    push(next_node)
            node = below = next_node = above = None


def _dependencies(roots: list) -> dict[Any, int]:
    """Count the edges that lead to each node."""
    counts: dict[Any, int] = dict.fromkeys(roots, 0)
    stack = list(counts)
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None:
                if node not in counts:
                    counts[node] = 0
                    stack.append(node)
                counts[node] += 1
    return counts


def _above(nodes: dict[Any, int], below: set) -> set:
    """Return the nodes that lead to some of those below."""
    parents: dict[Any, list] = {}
    for node in nodes:
        for next_node, _ in node.next_functions:
            parents.setdefault(next_node, []).append(node)
    found: set = set()
    stack = list(below)
    while stack:
        new = set(parents.get(stack.pop(), [])) - found
        found |= new
        stack.extend(new)
    return found


def _call(node: Any, held: dict[int, Tensor]) -> list[Tensor | None]:
    """Return the gradients of a node's inputs."""
    if hasattr(node, 'variable'):  # of a leaf
        leaf, grad = node.variable, held[0].detach()
        leaf.grad = grad if leaf.grad is None else leaf.grad + grad
        return []
    grads = [held.get(place) for place in range(len(node._input_metadata))]
    held.clear()
    _current.append(node.name())
    try:
        # Nodes of functions in Python are called by another name.
        found = node.apply(*grads) if hasattr(node, 'apply') else node(*grads)
    finally:
        _current.pop()
    return list(found) if isinstance(found, (tuple, list)) else [found]


@contextmanager
def _one_graph() -> Iterator[None]:
    """Let recomputation know that all nodes are of one backward pass."""
    with mock.patch.object(torch._C, '_current_graph_task_id', return_value=1):
        yield
