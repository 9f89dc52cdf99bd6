"""A GPU that is not there: what a model would ask of it, and how long that takes at least.

Tensors are fake: they have a shape, a dtype and the device 'cuda', and no memory. Models, torch and
autograd take their ways for GPUs. Known cards have their bandwidth and throughput here.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from mmhybrid.inspect.backward import gradients
from mmhybrid.inspect.launches import Launch
from mmhybrid.models.kernels import pyramid

LAUNCH = 2e-6
"""Seconds of the shortest kernel, from its start to that of the next one: an assumption, not a
vendor's figure. The host takes longer for an operator of eager mode, and may run ahead."""


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet.

    Attributes:
        title: its name.
        bandwidth: of its memory, in bytes a second.
        throughput: floating point operations a second, a multiply-add is two, of matrix products
            without sparsity, by dtype; ``'tf32'`` is what torch lets convolutions of float32 use.
        capability: compute capability of CUDA.
        processors: number of its streaming multiprocessors.
        source: NVIDIA's paper with the figures.
    """

    title: str
    bandwidth: float
    throughput: dict[str, float]
    capability: tuple[int, int]
    processors: int
    source: str

    def supports(self, dtype: str) -> bool:
        """Return True if it computes products in a dtype, such as ``'bf16'``."""
        return dtype in self.throughput


def _rates(half: float, tf32: float, fp32: float) -> dict[str, float]:
    """Return throughput from that in TFLOPS."""
    return dict(bf16=half * 1e12, fp16=half * 1e12, tf32=tf32 * 1e12, fp32=fp32 * 1e12)


CARDS = dict(
    h200=Card('H200 SXM', 4.8e12, _rates(989, 494, 67), (9, 0), 132, 'H200 data sheet'),
    h100=Card('H100 SXM', 3.35e12, _rates(989, 494, 67), (9, 0), 132, 'H100 data sheet'),
    a100=Card('A100 SXM 80GB', 2.039e12, _rates(312, 156, 19.5), (8, 0), 108, 'A100 data sheet'),
    l4=Card('L4', 0.3e12, _rates(121, 60, 30.3), (8, 9), 58, 'L4 data sheet'),
    rtx4090=Card(
        'GeForce RTX 4090', 1.008e12, _rates(165.2, 82.6, 82.6), (8, 9), 128,
        'Ada GPU architecture, appendix A',
    ),
    t4=Card(
        'T4', 0.32e12, dict(fp16=65e12, tf32=8.1e12, fp32=8.1e12), (7, 5), 40, 'T4 data sheet'
    ),
)  # fmt: skip
"""Data sheets count sparse products twice; here they are dense. T4 has no bfloat16 products, and
its convolutions of float32 are of float32."""
NAMES = {torch.float32: 'fp32', torch.bfloat16: 'bf16', torch.float16: 'fp16'}


def least_time(
    launches: Iterable[Launch], card: Card, launch_time: float = LAUNCH
) -> dict[str, float]:
    """Compute the seconds that a card needs at least for operators one after the other.

    Each takes the longest of three: to move its bytes at the memory's bandwidth, to compute its
    products at the card's throughput, and to be launched. Caches, which may hold what the operator
    before has written, would be faster than that.

    Returns:
        Seconds of the operators that each of ``memory``, ``products`` and ``launch`` bounds.
    """
    seconds = dict(memory=0.0, products=0.0, launch=0.0)
    for launch in launches:
        dtype = NAMES.get(launch.dtype or torch.float32, 'fp32')
        if dtype == 'fp32' and 'convolution' in launch.name:
            dtype = 'tf32'
        if 'sample' in launch.name:  # by no matrix product
            dtype = 'fp32'
        needed = dict(
            memory=(launch.read + launch.written) / card.bandwidth,
            products=2 * launch.macs / card.throughput[dtype],
            launch=launch_time,
        )
        bound = max(needed, key=lambda kind: needed[kind])
        seconds[bound] += needed[bound]
    return seconds


@contextlib.contextmanager
def imagined_gpu(card: Card, *, compiling: bool = False) -> Iterator[FakeTensorMode]:
    """Make tensors on the device 'cuda' without one, for code that runs on a card like this.

    Args:
        card: its compute capability decides on kernels.
        compiling: let models compute as they do in a graph of torch's compiler.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    pyramid._kept_sizes.cache_clear()
    with contextlib.ExitStack() as stack:
        for name, value in (
            ('torch.cuda.get_device_capability', card.capability),
            ('torch.cuda.is_bf16_supported', card.supports('bf16')),
            ('torch.cuda.amp.common.amp_definitely_not_available', False),
        ):
            stack.enter_context(mock.patch(name, return_value=value))
        if compiling:
            stack.enter_context(mock.patch('torch.compiler.is_compiling', return_value=True))
        else:  # sizes of levels stay on a GPU from one call to the next
            stack.enter_context(mock.patch.object(pyramid, '_is_fake', return_value=False))
        stack.callback(pyramid._kept_sizes.cache_clear)
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(mode)
        stack.enter_context(_WithoutDevice())
        yield mode


def to_imagined_gpu(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Put fake tensors on 'cuda' in place of a model's; to be called in :func:`imagined_gpu`.

    Args:
        dtype: of those of floating point; as they are if not given.
    """
    fakes: dict[int, Tensor] = {}  # parameters that two modules share stay one

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in fakes:
            shape, steps = tensor.shape, tensor.stride()
            kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
            empty = torch.empty_strided(shape, steps, dtype=kind, device='cuda')
            is_parameter = isinstance(tensor, nn.Parameter)
            fakes[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
        return fakes[id(tensor)]

    groups: list[dict[str, Any]] = []
    for module in model.modules():
        groups += [module._parameters, module._buffers]
    originals = [*model.parameters(), *model.buffers()]  # keeps their ids from being used again
    for tensors in groups:
        for name, tensor in tensors.items():
            if tensor is not None:
                tensors[name] = fake(tensor)
    del originals
    return model


class _WithoutDevice(TorchFunctionMode):
    """Does what torch asks a device for: it chooses the kernel of fused attention, in float32 and
    with a mask the memory-efficient one, else flash attention, and computes gradients.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        if func is torch.autograd.grad:
            return gradients(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """See ``F.scaled_dot_product_attention``; heads are padded as torch pads them."""
    if torch.is_autocast_enabled('cuda'):
        dtype = torch.get_autocast_dtype('cuda')
        query, key, value = (t.to(dtype) for t in (query, key, value))
        attn_mask = attn_mask if attn_mask is None else attn_mask.to(dtype)
    width = query.shape[-1]
    scale = width**-0.5 if scale is None else scale
    if attn_mask is None and query.dtype != torch.float32:
        if width % 8:
            query, key, value = (F.pad(t, (0, -width % 8)) for t in (query, key, value))
        out = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, False, scale=scale
        )
        return out[0][..., :width]
    if attn_mask is not None:
        if any(stride % 16 for stride in attn_mask.stride()[:-1]):
            last = attn_mask.shape[-1]
            attn_mask = F.pad(attn_mask, (0, -last % 16))[..., :last]
        # (N, heads, queries, keys)
        attn_mask = attn_mask.expand(*query.shape[:3], key.shape[2])
    needs_gradient = torch.is_grad_enabled() and any(
        t.requires_grad for t in (query, key, value, attn_mask) if t is not None
    )
    out = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, needs_gradient, dropout_p, is_causal, scale=scale
    )
    return out[0]
