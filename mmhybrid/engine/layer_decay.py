"""Layer-wise learning rates for detectors and segmentors."""

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS

from mmhybrid.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Learning rates that shrink towards the image, as in BEiT and ViTDet.

    A parameter at layer ``i`` of ``n`` gets ``lr * layer_decay_rate ** (n - 1 - i)``. Layers are
    told by the backbone's ``get_layer_depth(name, prefix)``; everything outside the backbone gets
    ``lr``. Norms, biases and other one-dimensional parameters get no weight decay. mmpretrain's
    constructor does the same for classifiers only; those of mmdet and mmseg know few backbones.

    Arguments, in ``paramwise_cfg``:
        layer_decay_rate (float): in (0, 1].
        no_decay (sequence of str): name parts of further parameters without weight decay.

    Raises:
        ValueError: a rate missing or out of range, or an option this constructor does not have.
        TypeError: the model's backbone has no ``get_layer_depth``.
    """

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        options = dict(paramwise_cfg or {})
        self.rate = options.pop('layer_decay_rate', 1.0)
        self.no_decay = tuple(options.pop('no_decay', ()))
        if options:
            raise ValueError(
                f'paramwise_cfg has {sorted(options)}: expected layer_decay_rate and no_decay only'
            )
        if not 0 < self.rate <= 1:
            raise ValueError(f'layer_decay_rate={self.rate}: expected a number in (0, 1]')
        super().__init__(optim_wrapper_cfg, {})
        if self.base_lr is None:
            raise ValueError(f'optimizer={self.optimizer_cfg}: expected lr, the rate of the heads')

    def __call__(self, model):
        model = getattr(model, 'module', model)  # out of a distributed wrapper
        backbone = getattr(model, 'backbone', model)
        depth = getattr(backbone, 'get_layer_depth', None)
        if depth is None:
            raise TypeError(
                f'{type(backbone).__name__} has no get_layer_depth: layer-wise learning '
                'rates need a backbone that tells the layer of each parameter'
            )
        groups = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            scale = 1.0
            if name.startswith('backbone.'):
                layer, num_layers = depth(name, 'backbone.')
                scale = self.rate ** (num_layers - 1 - layer)
            decays = parameter.ndim > 1 and not any(part in name for part in self.no_decay)
            group = groups.setdefault((scale, decays), dict(params=[], lr=self.base_lr * scale))
            group['params'].append(parameter)
            if not decays:
                group['weight_decay'] = 0.0
        optimizer = dict(self.optimizer_cfg, params=list(groups.values()))
        wrapper = dict(type='OptimWrapper') | self.optim_wrapper_cfg
        wrapper = dict(wrapper, optimizer=OPTIMIZERS.build(optimizer))
        return OPTIM_WRAPPERS.build(wrapper)
