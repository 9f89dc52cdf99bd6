"""A training that cannot go on says where, with which images, and what is left."""

import math
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmhybrid.registry import HOOKS


class TrainingError(RuntimeError):
    """A training cannot go on; the message says where it was, why, and what to do."""


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends the training with the first loss, or norm of the gradients, that is not a finite number.

    It comes before the hooks that average or save the weights: the last checkpoint is one from
    before. With ``clip_grad`` in the config the norm is known, and a gradient is found out in its
    own step; without it, in the loss of the next. Loss scaling (float16) meets infinite gradients
    as a rule and skips them, so that then only the loss counts.

    Raises:
        TrainingError: says the iteration, the losses and the images of the batch.
    """

    priority = 'HIGH'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        values = {k: float(torch.as_tensor(v).detach()) for k, v in (outputs or {}).items()}
        wrapper = runner.optim_wrapper
        scaler = getattr(wrapper, 'loss_scaler', None)
        norms = runner.message_hub.log_scalars.get('train/grad_norm')
        # Between the steps of an accumulation the last norm is an old one: where a training in
        # float16 goes on in bfloat16, perhaps that of a step which was skipped.
        stepped = not isinstance(wrapper, OptimWrapper) or wrapper.should_update()
        if norms is not None and stepped and (scaler is None or not scaler.is_enabled()):
            values['grad_norm'] = float(norms.current())
        watched = {k: v for k, v in values.items() if 'loss' in k or k == 'grad_norm'}
        bad = [name for name, value in watched.items() if not math.isfinite(value)]
        if not bad:
            return
        rank, world_size = get_dist_info()
        where = f'iteration {runner.iter + 1}, epoch {runner.epoch + 1}'
        where += f', process {rank} of {world_size}' if world_size > 1 else ''
        last = runner.message_hub.runtime_info.get('last_ckpt')
        raise TrainingError(
            f'{", ".join(f"{name} is {values[name]}" for name in bad)} at {where}. Images: '
            f'{", ".join(image_names(data_batch)) or "unknown"}. All: '
            + ', '.join(f'{name} {value:.4g}' for name, value in values.items())
            + f'. Last checkpoint: {last or "none yet"}. Look at these images and their labels; '
            'then try a lower learning rate, a longer warm-up, optim_wrapper.clip_grad.max_norm=5 '
            'or, with float16, --amp bf16'
        )


def image_names(batch: Any) -> list[str]:
    """Return the known paths of the images in a data loader's batch."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    if not isinstance(samples, (list, tuple)):
        return []
    names = [getattr(sample, 'metainfo', {}).get('img_path') for sample in samples]
    return [str(name) for name in names if name]
