"""Kernels that torch's compiler makes of a model, for a GPU that is not there.

The compiler takes a model apart, fuses and schedules as for the card; it is stopped before it
writes code. It reaches into parts of torch that no promise covers: another version of torch may
need changes here.
"""

import contextlib
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mmhybrid.inspect.gpu import Card
from mmhybrid.inspect.launches import Launch, macs_of


class _Scheduled(BaseException):  # which the compiler does not wrap in an error of its own
    def __init__(self, graph: Any):
        super().__init__()
        self.graph = graph


def count_compiled(model: nn.Module, image: Tensor, card: Card) -> list[Launch]:
    """Return the kernels of a compiled model, those of its backward pass too if it has gradients.

    Args:
        model: its forward takes the image and returns a tensor or several; fake, on 'cuda', in
            :func:`.imagined_gpu`.
        image: fake, too.
    """
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner
    from torch._inductor.virtualized import V

    launches: list[Launch] = []

    def schedule(gm: Any, inputs: Sequence, **options: Any) -> Any:
        forward = gm.forward  # the compiler changes the graph
        try:
            compile_fx_inner(gm, inputs, **options)
        except _Scheduled as done:
            with V.set_graph_handler(done.graph):
                launches.extend(_kernels(done.graph))
        return forward

    with _stopped(card):
        compile_fx(model, [image], inner_compile=schedule)  # type: ignore[arg-type]
    return launches


@contextlib.contextmanager
def _stopped(card: Card) -> Iterator[None]:
    """Let the compiler end where the kernels are scheduled, and tell it of the card."""
    from torch._inductor import compile_fx, config, scheduler
    from torch._inductor.graph import GraphLowering
    from torch._inductor.runtime.hints import DeviceProperties

    major, minor = card.capability
    facts = dict(
        type='cuda',
        index=0,
        multi_processor_count=card.processors,
        cc=10 * major + minor,
        major=major,
        regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=2048,
        max_threads_per_block=1024,
        warp_size=32,
    )
    properties: Any = DeviceProperties(**facts)  # type: ignore[arg-type]
    by_torch = SimpleNamespace(**facts, minor=minor, name=card.title)

    def stop(graph: Any) -> None:
        graph.init_wrapper_code()
        graph._update_scheduler()
        raise _Scheduled(graph)

    with (
        config.patch(
            compile_threads=1, force_disable_caches=True, joint_graph_constant_folding=False
        ),
        torch._functorch.config.patch(force_non_lazy_backward_lowering=True),
        mock.patch.object(GraphLowering, 'compile_to_module', stop),
        mock.patch.object(DeviceProperties, 'create', lambda device: properties),
        mock.patch.object(scheduler, 'has_triton', lambda: True),
        mock.patch.object(compile_fx, '_check_triton_bf16_support', lambda graph: None),
        mock.patch('torch.cuda.get_device_properties', lambda *args: by_torch),
        mock.patch('torch.cuda.current_device', lambda: 0),
    ):
        yield


def _kernels(graph: Any) -> Iterator[Launch]:
    from torch._inductor import ir
    from torch._inductor.scheduler import ExternKernelSchedulerNode, NopKernelSchedulerNode

    for node in graph.scheduler.nodes:
        if isinstance(node, NopKernelSchedulerNode) or isinstance(node.node, ir.MultiOutput):
            continue
        name, macs, dtype = 'triton', 0, None
        if isinstance(node, ExternKernelSchedulerNode):
            origins = [node.node.get_origin_node(), *node.node.get_origins()]
            name, macs, dtype = max(
                (_call(origin) for origin in origins if origin is not None),
                key=lambda call: call[1],
                default=('extern', 0, None),
            )
        yield Launch(name, node.get_read_write_buffers_sizes(), 0, macs, dtype)


def _call(origin: torch.fx.Node) -> tuple[str, int, torch.dtype | None]:
    """Return name, multiply-adds and dtype of the operator that a node of a graph calls."""
    schema = getattr(origin.target, '_schema', None)
    if schema is None:
        return str(origin.target), 0, None
    args, kwargs = tree_map(
        lambda arg: arg.meta.get('val') if isinstance(arg, torch.fx.Node) else arg,
        (origin.args, origin.kwargs),
    )
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    dtype = next((t.dtype for t in tensors if t.dtype.is_floating_point), None)
    return schema.name, macs_of(origin.target, args, kwargs, origin.meta.get('val')), dtype
