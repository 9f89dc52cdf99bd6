"""Each module of a model is called, whole, in every mode; what stands in its place runs."""

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils.parametrize import register_parametrization

from mmhybrid.models.backbones import (
    BACKBONES,
    CMT,
    SPACH,
    STA,
    Backbone,
    ConvStemViT,
    CvT,
    ViT,
    ViTAdapter,
    ViTCoMer,
)
from mmhybrid.models.layers import PairBias, RelativePositionBias
from tests.models.drawn import draw_loss, draw_parameters
from tests.models.families import tiny_models

PLAIN = dict(embed_dims=16, depth=2, num_heads=2, pretrain_size=32)
DINOV2 = dict(PLAIN, patch_size=14, pretrain_size=28, num_registers=2, layer_scale=1e-5)
STEM = dict(stem_channels=(4, 8), stem_strides=(4, 4), stem_kernels=(5, 5))
ADAPTED = dict(embed_dims=16, depth=1, num_heads=2, deform_heads=2, num_points=2, stem_channels=4)
ONE_STAGE = dict(interaction_indexes=[(0, 0)], vit=dict(pretrain_size=32))
STAGES = dict(
    depth=4, windows=0, vit_features='stages', ffn_ratio=0.5, deform_ratio=0.5, deform_heads=1
)
WITH_TOKENS = dict(pretrain_size=32, class_token=True, num_registers=2)
CMT_ARCH = dict(
    embed_dims=(8, 16), depths=(1, 2), num_heads=(1, 2), sr_ratios=(2, 1), stem_channels=4
)
CVT_ARCH = dict(
    embed_dims=(8, 16),
    depths=(1, 1),
    num_heads=(1, 2),
    patch_sizes=(7, 3),
    patch_strides=(4, 2),
    patch_paddings=(2, 1),
)


def spach(*stages, **settings) -> Callable[[], SPACH]:
    return lambda: SPACH(dict(embed_dims=8, num_heads=2, stages=stages, **settings))


# One of each family, smaller than that of the contract, and others in which other modules run.
FAMILIES = tiny_models() | {
    'vit': lambda: ViT(PLAIN, out_indices=(0, 1), final_norm=True),
    'vit, windows': lambda: ViT(PLAIN, windows=(3, 0), class_token=False),
    'deit, distilled': lambda: ViT(PLAIN, dist_token=True),
    'beit': lambda: ViT(dict(PLAIN, position='relative', mask_key_bias=True, layer_scale=0.1)),
    'beit, windows': lambda: ViT(
        dict(PLAIN, position='relative', mask_key_bias=True), windows=3, class_token=False
    ),
    'dinov2': lambda: ViT(dict(DINOV2, ffn='swiglu')),
    'dinov3': lambda: ViT(
        dict(PLAIN, position='rope', mask_key_bias=True, num_registers=2, layer_scale=1e-5)
    ),
    'vit, not to its end': lambda: ViT(PLAIN, out_indices=(0,)),
    'convstemvit': lambda: ConvStemViT(dict(PLAIN, **STEM), num_classes=3),
    'convstemvit, patches': lambda: ConvStemViT(
        PLAIN, windows=(3, 0), class_token=False, final_norm=True
    ),
    'vitcomer': lambda: ViTCoMer(dict(ADAPTED, windows=2, extra_cti=1), **ONE_STAGE),
    'vitcomer, segmentation': lambda: ViTCoMer(
        ADAPTED | STAGES | dict(cti_to_vit=(True, False, False, True), extra_cti=0),
        cti_to_cnn=(False, True, False, False),
        vit=WITH_TOKENS,
        norm_cfg=dict(type='GN', num_groups=4),
    ),
    'vitcomer, parts': lambda: ViTCoMer(
        dict(ADAPTED, windows=2, extra_cti=1, cnn_ffn=False, cnn_interaction=False),
        out_indices=(1, 3),
        **ONE_STAGE,
    ),
    'vitadapter': lambda: ViTAdapter(dict(ADAPTED, windows=2, extra_extractors=1), **ONE_STAGE),
    'vitadapter, segmentation': lambda: ViTAdapter(
        ADAPTED | STAGES | dict(extra_extractors=0), vit=WITH_TOKENS
    ),
    'vitadapter, light': lambda: ViTAdapter(
        dict(ADAPTED, windows=2, extra_extractors=0, ffn_ratio=0, vit_features='none'), **ONE_STAGE
    ),
    'sta, published': lambda: STA(
        dict(vit=dict(PLAIN, position='rope'), final_norm=False, stem_channels=4), out_dims=8
    ),
    'cmt': lambda: CMT(CMT_ARCH, pretrain_size=32, num_classes=3, head_dims=8, head_drop=0.0),
    'cmt, options': lambda: CMT(
        CMT_ARCH,
        pretrain_size=48,
        stem='patch',
        lpu=False,
        ffn_shortcut=False,
        norm_cfg=dict(type='LN2d'),
    ),
    'cvt': lambda: CvT(CVT_ARCH, out_indices=(0, 1)),
    'cvt, pooled': lambda: CvT(
        CVT_ARCH, out_indices=(1,), projection=('avg', 'linear'), class_token=False, num_classes=3
    ),
    'cvt, not to its end': lambda: CvT(CVT_ARCH, out_indices=(0,)),
    'spach': spach([('conv', 1)], [('conv', 1)]),
    'spach, attn': spach([('conv', 1)], [('attn', 1)], layer_scale=None, conv_bypass=True),
    'spach, mlp': spach([('mlp', 2)], [('conv', 1)], image_size=(32, 64), shared_mixing=True),
    'spach, hybrid': lambda: SPACH(
        dict(embed_dims=8, num_heads=2, stages=[[('conv', 1), ('attn', 1)], [('attn', 1)]]),
        stem='conv',
        num_classes=3,
    ),
}
every_family = pytest.mark.parametrize('family', FAMILIES)

# What is documented not to run: blocks and stages after the last that comes out, and of a ViT what
# its adapter does not ask for: it takes the tokens of groups of blocks, not the ViT's maps.
IDLE = {
    'vit, not to its end': r'blocks\.1(\.|$)',
    'cvt, not to its end': r'stages\.1(\.|$)',
    'vitcomer': r'vit(\.norm)?$',
    'vitadapter': r'vit(\.norm)?$',
}

# Parts of large models that are built as others of them are, and need not be changed in turn.
REPEATED = {
    'vitcomer, segmentation': r'(vit\.blocks\.[12]|stages\.3)\.',
    'vitadapter, segmentation': r'(vit\.blocks|stages)\.[12]\.',
}


def build(family: str) -> Backbone:
    """A tiny model in double precision, in which every module has something to say."""
    torch.manual_seed(0)
    model = draw_parameters(FAMILIES[family]()).double().eval()
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model


def draw_image() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 32, 64, generator=generator, dtype=torch.float64)


def modules_of(family: str, model: nn.Module) -> dict[str, nn.Module]:
    """All that is to be called: what has a forward of its own, and is not documented idle."""
    idle = re.compile(IDLE.get(family, IDLE.get(family.split(',')[0], r'(?!)')))
    containers = nn.Module.forward, nn.ModuleList.forward, nn.ModuleDict.forward
    return {
        name: module
        for name, module in model.named_modules()
        if type(module).forward not in containers and not idle.match(name)
    }


def run(model: nn.Module, *, gradients: bool) -> list[Tensor]:
    with torch.set_grad_enabled(gradients):
        return [level.detach() for level in model(draw_image())]


def differ(some: list[Tensor], others: list[Tensor]) -> float:
    """Largest difference, over the largest value of its map."""
    return max(
        ((one - other).abs().max() / other.abs().max()).item()
        for one, other in zip(some, others, strict=True)
    )


SAME, OTHER = 1e-6, 1e-4  # deformable attention places its samples in single precision


@every_family
def test_every_module_is_called_equally_often_in_every_mode(family):
    model = build(family)
    modules = modules_of(family, model)
    counts = []
    for training, gradients in ((False, False), (False, True), (True, True)):
        model.train(training)
        calls = Counter()
        handle = register_module_forward_hook(lambda module, *_: calls.update([module]))  # noqa: B023
        try:
            run(model, gradients=gradients)
        finally:
            handle.remove()
        counts.append({name: calls[module] for name, module in modules.items()})
    evaluation, recorded, training = counts
    assert not [name for name, count in evaluation.items() if count == 0]
    assert recorded == evaluation
    assert training == evaluation


@every_family
def test_what_is_idle_is_not_called(family):
    model = build(family)
    idle = set(model.modules()) - set(modules_of(family, model).values())
    called = []
    for module in idle:
        module.register_forward_hook(lambda *_: called.append(1))
    run(model, gradients=False)
    assert not called


def alter(value):
    """Another value of the same shape, whose difference no norm and no softmax takes away."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return torch.sin(2 * value) + 0.5 * value
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return type(value)(map(alter, value))
    return value


class Altered(nn.Module):
    """Stands in a module's place, as wrappers of libraries do, and changes what it returns."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)

    def forward(self, *args, **kwargs):
        return alter(self.module(*args, **kwargs))


@contextmanager
def replaced(model: nn.Module, name: str) -> Iterator[None]:
    module = model.get_submodule(name)
    parent, _, attribute = name.rpartition('.')
    parent = model.get_submodule(parent)
    setattr(parent, attribute, Altered(module))
    try:
        yield
    finally:
        setattr(parent, attribute, module)


@contextmanager
def hooked(model: nn.Module, name: str) -> Iterator[None]:
    module = model.get_submodule(name)
    handle = module.register_forward_hook(lambda module, args, out: alter(out))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def hooked_before(model: nn.Module, name: str) -> Iterator[None]:
    module = model.get_submodule(name)
    handle = module.register_forward_pre_hook(lambda module, args: alter(args))
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize('change', [replaced, hooked, hooked_before])
@every_family
def test_a_changed_module_is_what_runs(family, change):
    """Without and with gradients alike, be it norm, activation, attention or Sequential."""
    model = build(family)
    before = run(model, gradients=False)
    assert differ(run(model, gradients=True), before) < SAME
    ignored, modes_differ = [], []
    for name, module in modules_of(family, model).items():
        takes_sizes_alone = isinstance(module, (PairBias, RelativePositionBias))
        if not name or (change is hooked_before and takes_sizes_alone):
            continue
        if re.match(REPEATED.get(family, r'(?!)'), name):
            continue
        with change(model, name):
            without, recorded = (run(model, gradients=mode) for mode in (False, True))
        if differ(without, before) < OTHER or differ(recorded, before) < OTHER:
            ignored.append(name)
        if differ(recorded, without) > SAME:
            modes_differ.append(name)
    assert not ignored, ignored
    assert not modes_differ, modes_differ
    assert differ(run(model, gradients=False), before) < SAME  # nothing of it was kept


# A module that makes a bias of sizes alone has no input to differentiate.
@pytest.mark.filterwarnings('ignore:Full backward hook is firing when gradients are computed')
@every_family
def test_backward_hooks_fire_once_for_each_call(family):
    model = build(family).train()
    calls, fired, modules = Counter(), Counter(), modules_of(family, model)
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
        module.register_full_backward_hook(lambda *_, name=name: fired.update([name]))
    draw_loss(model(draw_image().requires_grad_())).backward()
    assert not {name: (calls[name], fired[name]) for name in calls if calls[name] != fired[name]}
    assert fired


class Scaled(nn.Module):
    """A parametrization: each weight by a factor of its own."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight * factors(weight)


def factors(weight: Tensor) -> Tensor:
    count = torch.arange(weight.numel(), dtype=weight.dtype)
    return 1 + 0.5 * count.cos().view_as(weight)


LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@every_family
def test_parametrizations_take_effect(family):
    model = build(family)
    plain = copy.deepcopy(model)
    names = [n for n, m in modules_of(family, model).items() if isinstance(m, LAYERS)]
    assert names
    for name in names:
        weight = plain.get_submodule(name).weight
        weight.data *= factors(weight)
        register_parametrization(model.get_submodule(name), 'weight', Scaled())
    for training in (False, True):
        model.train(training), plain.train(training)
        for gradients in (False, True):
            got, expected = (run(m, gradients=gradients) for m in (model, plain))
            assert differ(got, expected) < SAME
    for one in (model, plain):
        draw_loss(one(draw_image())).backward()
    for name in names:
        weight = plain.get_submodule(name).weight
        got = model.get_submodule(name).parametrizations.weight.original.grad
        scale = weight.grad.abs().max()
        assert scale > 0, name
        assert (got - factors(weight) * weight.grad).abs().max() < 1e-5 * scale, name


@every_family
def test_lora_takes_effect(family):
    peft = pytest.importorskip('peft')
    model = build(family)
    names = [n for n, m in modules_of(family, model).items() if isinstance(m, nn.Linear)]
    if not names:
        pytest.skip('has no linear layer')
    before, merged = run(model, gradients=False), copy.deepcopy(model)
    config = peft.LoraConfig(r=2, target_modules=names, init_lora_weights=False)
    peft.inject_adapter_in_model(config, model)
    for name in names:
        layer = model.get_submodule(name)
        change = layer.get_delta_weight('default')
        assert change.any()
        merged.get_submodule(name).weight.data += change
    for training in (False, True):
        model.train(training), merged.train(training)
        for gradients in (False, True):
            got, expected = (run(m, gradients=gradients) for m in (model, merged))
            assert differ(got, expected) < SAME
            assert differ(got, before) > OTHER
    draw_loss(model(draw_image())).backward()
    for name, parameter in model.named_parameters():
        if '.lora_' in name:
            assert parameter.grad.any(), name
        else:
            assert parameter.grad is None, name


def test_every_family_is_here():
    assert {type(build(family)) for family in FAMILIES} == set(BACKBONES)
