from contextlib import nullcontext

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmhybrid.engine import Bf16OptimWrapper
from mmhybrid.models.backbones import BACKBONES


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.block = nn.Linear(4, 4)

    def forward(self, x):
        self.seen = self.embed(x).dtype
        return (self.block(self.embed(x)),)

    def get_layer_depth(self, name, prefix=''):
        return (0 if name.startswith(prefix + 'embed') else 1), 3


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        (x,) = self.backbone(x)
        self.seen = x.dtype
        return self.head(x).mean()


def wrapper(model, **paramwise):
    return build_optim_wrapper(
        model,
        dict(
            constructor='mmhybrid.LayerDecayOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
            paramwise_cfg=paramwise,
        ),
    )


def test_rates_shrink_towards_the_image():
    model = Detector()
    optimizer = wrapper(model, layer_decay_rate=0.5, no_decay=('block',)).optimizer
    found = {
        id(p): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert len(found) == len(list(model.parameters()))
    assert found[id(model.backbone.embed.weight)] == (0.25, 0.1)
    assert found[id(model.backbone.embed.bias)] == (0.25, 0.0)
    assert found[id(model.backbone.block.weight)] == (0.5, 0.0)
    assert found[id(model.head.weight)] == (1.0, 0.1)


def test_a_backbone_learns_at_a_lower_rate_than_the_head():
    model = Detector()
    groups = wrapper(model, layer_decay_rate=0.5, backbone_lr_mult=0.1).optimizer.param_groups
    found = {id(p): group['lr'] for group in groups for p in group['params']}
    assert found[id(model.backbone.embed.weight)] == pytest.approx(0.025)
    assert found[id(model.backbone.block.weight)] == pytest.approx(0.05)
    assert found[id(model.head.weight)] == 1.0


def test_the_vit_of_an_adapter_learns_at_a_lower_rate_than_what_is_around_it():
    model = Detector()
    model.backbone.vit = nn.Linear(4, 4)
    rates = dict(layer_decay_rate=0.5, backbone_lr_mult=0.2, vit_lr_mult=0.1)
    groups = wrapper(model, **rates).optimizer.param_groups
    found = {id(p): group['lr'] for group in groups for p in group['params']}
    assert found[id(model.backbone.vit.weight)] == pytest.approx(0.01)
    assert found[id(model.backbone.block.weight)] == pytest.approx(0.1)
    assert found[id(model.head.weight)] == 1.0


def test_rates_shrink_in_any_model_that_has_backbones():
    semi_supervised = nn.ModuleDict(dict(student=Detector(), teacher=Detector()))
    semi_supervised.teacher.backbone = nn.Linear(4, 4).requires_grad_(False)
    for model, expected in ((semi_supervised, {0.25, 0.5, 1.0}), (Backbone(), {0.25, 0.5})):
        groups = wrapper(model, layer_decay_rate=0.5).optimizer.param_groups
        assert {group['lr'] for group in groups} == expected


def test_frozen_parameters_are_left_out():
    model = Detector()
    model.backbone.requires_grad_(False)
    groups = wrapper(model, layer_decay_rate=0.5).optimizer.param_groups
    assert sum(len(group['params']) for group in groups) == 2


def test_wrong_settings():
    with pytest.raises(ValueError, match='layer_decay_rate=1.5'):
        wrapper(Detector(), layer_decay_rate=1.5)
    with pytest.raises(ValueError, match='backbone_lr_mult=0'):
        wrapper(Detector(), backbone_lr_mult=0)
    with pytest.raises(ValueError, match='backbone_lr_mult=0.5: Backbone has no backbone'):
        wrapper(Backbone(), backbone_lr_mult=0.5)
    with pytest.raises(ValueError, match='vit_lr_mult=0: expected a number above 0'):
        wrapper(Detector(), vit_lr_mult=0)
    frozen = Detector()
    frozen.backbone.vit = nn.Linear(4, 4).requires_grad_(False)
    for model in (Detector(), frozen):
        with pytest.raises(ValueError, match='vit_lr_mult=0.5: nothing learns in a ViT'):
            wrapper(model, vit_lr_mult=0.5)
    with pytest.raises(ValueError, match='norm_decay_mult'):
        wrapper(Detector(), norm_decay_mult=0.0)
    model = Detector()
    model.backbone = nn.Linear(4, 4)
    with pytest.raises(TypeError, match='Linear has no get_layer_depth'):
        wrapper(model)
    with pytest.raises(TypeError, match='Sequential has no get_layer_depth'):
        wrapper(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match='AdamW.*expected lr'):
        build_optim_wrapper(
            Detector(),
            dict(
                constructor='mmhybrid.LayerDecayOptimWrapperConstructor',
                optimizer=dict(type='AdamW'),
            ),
        )


def test_bf16_is_for_features_alone():
    model = Detector()
    wrapper = Bf16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        loss = model(torch.randn(2, 4))
    wrapper.update_params(loss)
    assert model.backbone.seen == torch.bfloat16
    assert model.seen == loss.dtype == torch.float32
    assert 'forward' not in vars(model.backbone)
    model(torch.randn(2, 4))
    assert model.backbone.seen == torch.float32


def test_bf16_is_asked_of_the_device_of_the_weights(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, 'autocast', lambda *args: asked.append(args) or nullcontext())
    with torch.device('meta'):
        model = Detector()
        model.neck = nn.Flatten()  # without weights
        wrapper = Bf16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        with wrapper.optim_context(model):
            model.neck(model.backbone(torch.randn(2, 4))[0])
    assert asked == [('meta', torch.bfloat16)] * 2


def test_bf16_finds_the_features_of_a_model_in_a_wrapper():
    outer = nn.Module()
    outer.student = model = Detector()
    wrapper = Bf16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(outer):
        model(torch.randn(2, 4))
    assert (model.backbone.seen, model.seen) == (torch.bfloat16, torch.float32)


def test_bf16_leaves_whole_numbers_alone():
    model = nn.Module()
    model.backbone = nn.Linear(4, 4)
    model.neck = nn.MaxPool1d(2, return_indices=True)
    wrapper = Bf16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        values, indices = model.neck(model.backbone(torch.randn(2, 4)))
    assert (values.dtype, indices.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize('backbone', BACKBONES, ids=lambda backbone: backbone.__name__)
def test_mmpretrains_constructor_takes_every_backbone(backbone):
    optimizers = pytest.importorskip('mmpretrain.engine.optimizers')
    from mmpretrain.models import ImageClassifier

    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        arch = next(iter(backbone.arch_settings))
        model = ImageClassifier(
            backbone=dict(type=f'mmhybrid.{backbone.__name__}', arch=arch),
            head=dict(type='ClsHead'),
        )
    constructor = optimizers.LearningRateDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05)), dict(layer_decay_rate=0.5)
    )
    groups = constructor(model).param_groups
    # The optimizer has a group of its own beside the model's.
    rate = {id(p): group['lr'] for group in groups for p in group['params']}
    rates = sorted({rate[id(p)] for p in model.parameters()}, reverse=True)
    # Each depth halves the rate; the last one is a head's or an adapter's.
    assert rates[0] in (1.0, 0.5)
    assert rates == [rates[0] * 2.0**-depth for depth in range(len(rates))]
    assert len(rates) > 3
