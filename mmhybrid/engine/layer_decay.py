"""Layer-wise learning rates for detectors and segmentors."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from mmhybrid.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Learning rates that shrink towards the image, as in BEiT and ViTDet.

    A parameter at layer ``i`` of ``n`` gets ``lr * layer_decay_rate ** (n - 1 - i)``. Layers are
    told by ``get_layer_depth(name, prefix)`` of every ``backbone`` in the model, or of the model
    itself if it has none, and ``backbone_lr_mult`` scales them all; everything else gets ``lr``.
    Norms, biases and other one-dimensional parameters get no weight decay. mmpretrain's constructor
    does the same for classifiers only; those of mmdet and mmseg know few backbones.

    Arguments, in ``paramwise_cfg``:
        layer_decay_rate (float): in (0, 1].
        backbone_lr_mult (float): above 0, below 1 where the heads bear a higher rate.
        vit_lr_mult (float): above 0; scales the ViT of an adapter, or its LoRA, once more.
        no_decay (sequence of str): name parts of further parameters without weight decay.

    Raises:
        ValueError: a rate missing or out of range, or an option this constructor does not have.
        TypeError: a backbone has no ``get_layer_depth``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        options = dict(paramwise_cfg or {})
        self.rate = options.pop('layer_decay_rate', 1.0)
        self.backbone_rate = options.pop('backbone_lr_mult', 1.0)
        self.vit_rate = options.pop('vit_lr_mult', 1.0)
        self.no_decay = tuple(options.pop('no_decay', ()))
        if options:
            raise ValueError(
                f'paramwise_cfg has {sorted(options)}: expected layer_decay_rate, '
                'backbone_lr_mult, vit_lr_mult and no_decay only'
            )
        if not 0 < self.rate <= 1:
            raise ValueError(f'layer_decay_rate={self.rate}: expected a number in (0, 1]')
        for key, rate in dict(backbone=self.backbone_rate, vit=self.vit_rate).items():
            if not 0 < rate < float('inf'):
                raise ValueError(f'{key}_lr_mult={rate}: expected a number above 0')
        super().__init__(optim_wrapper_cfg, {})
        if self.base_lr is None:
            raise ValueError(f'optimizer={self.optimizer_cfg}: expected lr, the rate of the heads')

    def __call__(self, model: nn.Module) -> Any:
        model = getattr(model, 'module', model)  # out of a distributed wrapper
        backbones = _backbones(model)
        if self.backbone_rate != 1 and '' in backbones:
            raise ValueError(
                f'backbone_lr_mult={self.backbone_rate}: {type(model).__name__} has no backbone: '
                'expected one, or lower the lr of all'
            )
        vits = tuple(f'{prefix}vit.' for prefix in backbones)
        learning = [name for name, it in model.named_parameters() if it.requires_grad]
        if self.vit_rate != 1 and not any(name.startswith(vits) for name in learning):
            raise ValueError(
                f'vit_lr_mult={self.vit_rate}: nothing learns in a ViT in the backbone of '
                f'{type(model).__name__}: expected an adapter whose ViT is not frozen; '
                'backbone_lr_mult scales all of a backbone'
            )
        groups: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            scale = 1.0
            for prefix, backbone in backbones.items():
                if name.startswith(prefix):
                    layer, num_layers = _layer_depth(backbone, name, prefix)
                    scale = self.backbone_rate * self.rate ** (num_layers - 1 - layer)
                    scale *= self.vit_rate if name.startswith(vits) else 1.0
            decays = parameter.ndim > 1 and not any(part in name for part in self.no_decay)
            group = groups.setdefault((scale, decays), dict(params=[], lr=self.base_lr * scale))
            group['params'].append(parameter)
            if not decays:
                group['weight_decay'] = 0.0
        optimizer = dict(self.optimizer_cfg, params=list(groups.values()))
        wrapper = dict(type='OptimWrapper') | self.optim_wrapper_cfg
        wrapper = dict(wrapper, optimizer=OPTIMIZERS.build(optimizer))
        return OPTIM_WRAPPERS.build(wrapper)


def _backbones(model: nn.Module) -> dict[str, nn.Module]:
    """Find every ``backbone`` by the prefix of its names; without any, the model is one."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():  # deep in a model for semi-supervised detection
        if name.rpartition('.')[2] == 'backbone' and not name.startswith(tuple(found)):
            found[f'{name}.'] = module
    return found or {'': model}


def _layer_depth(backbone: Any, name: str, prefix: str) -> tuple[int, int]:
    if not hasattr(backbone, 'get_layer_depth'):
        raise TypeError(
            f'{type(backbone).__name__} has no get_layer_depth: layer-wise learning '
            'rates need a backbone that tells the layer of each parameter'
        )
    return backbone.get_layer_depth(name, prefix)
