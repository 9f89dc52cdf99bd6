"""Weights, gradients and optimizer state spread over all processes (FSDP), for models that one GPU
cannot train."""

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from mmhybrid.registry import RUNNERS


@RUNNERS.register_module()
class ShardedRunner(Runner):
    """mmengine's ``Runner`` with torch's fully sharded data parallelism instead of DDP.

    Each process keeps its part of every weight, and gathers a block of the model at a time to
    compute with it. Checkpoints are those of an ordinary training: whole, written by the first
    process, and read by every tool; a training may go on with or without sharding.

    Every process must have room for the whole model once, at the start, to initialise it.

    Its ``model_wrapper_cfg`` has ``min_block``, the weights of the smallest block that is gathered
    by itself (100,000 if not given); smaller ones come together with what surrounds them.

    Raises:
        ValueError: options that do not go together with sharding.
    """

    def wrap_model(self, model_wrapper_cfg: dict | None, model: BaseModel) -> BaseModel:
        min_block = dict(model_wrapper_cfg or {}).get('min_block', 100_000)
        if not self.distributed:
            raise ValueError('ShardedRunner needs several processes: give a launcher')
        if is_model_wrapper(model):
            raise ValueError(f'ShardedRunner wraps the model itself, but got a {type(model)}')
        model = model.to(get_device())
        model.init_weights()  # parts of weights could not be initialised
        for tensor in model.state_dict().values():
            broadcast(tensor)
        shard(model, min_block)
        return model

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled():
            raise ValueError(
                'ShardedRunner does not scale losses: use bfloat16, '
                "optim_wrapper=dict(type='mmhybrid.Bf16OptimWrapper')"
            )
        return wrapper

    def register_hooks(
        self, default_hooks: dict | None = None, custom_hooks: list | None = None
    ) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(_TakeParts())

    def _init_model_weights(self):
        pass  # done before they were spread

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        # Every process takes part in gathering; mmengine lets only the first one write.
        parts = [self.model, self.optim_wrapper]
        gathered = [tree_map_only(DTensor, whole, part.state_dict()) for part in parts]
        for part, state in zip(parts, gathered, strict=True):
            part.state_dict = lambda state=state: state
        try:
            super().save_checkpoint(*args, **kwargs)
        finally:
            for part in parts:
                del part.state_dict


class _TakeParts(Hook):
    """Replaces the whole tensors of a checkpoint by this process's parts of them."""

    priority = 'LOWEST'

    def after_load_checkpoint(self, runner, checkpoint):
        # Not named_parameters: with LoRA a state dict has other names.
        parameters = {k: v for k, v in runner.model.state_dict().items() if isinstance(v, DTensor)}
        state = {k.removeprefix('module.'): v for k, v in checkpoint['state_dict'].items()}
        checkpoint['state_dict'] = {
            name: part_like(value, parameters[name]) if name in parameters else value
            for name, value in state.items()
        }
        if 'optimizer' not in checkpoint or not runner._resume:
            return
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        groups = runner.optim_wrapper.param_groups
        ordered = [parameter for group in groups for parameter in group['params']]
        for index, values in checkpoint['optimizer']['state'].items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == ordered[index].shape:
                    values[name] = part_like(value, ordered[index])


def shard(model: nn.Module, min_block: int) -> None:
    """Spread the model over all processes: its blocks one by one, then what is left.

    Blocks are the innermost members of module lists that have ``min_block`` weights and are called
    themselves: a stage that only holds its parts has no ``forward``.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = torch.device(get_device()).type
    mesh = init_device_mesh(device, (get_world_size(),))
    taken: set[nn.Parameter] = set()

    def visit(module: nn.Module, is_block: bool) -> None:
        for child in module.children():
            called = type(child).forward is not nn.Module.forward
            visit(child, called and isinstance(module, nn.ModuleList))
        own = {p: p.numel() for p in module.parameters() if p not in taken}
        if is_block and sum(own.values()) >= min_block:
            fully_shard(module, mesh=mesh)
            taken.update(own)

    visit(model, False)
    fully_shard(model, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """Gather all of a tensor on the CPU; call it in every process at once."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def part_like(tensor: Tensor, example: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, spread as ``example`` is."""
    if not isinstance(example, DTensor):
        return tensor.to(example.device)
    tensor = tensor.to(device=example.device, dtype=tensor.dtype)
    return distribute_tensor(tensor, example.device_mesh, example.placements, src_data_rank=None)
