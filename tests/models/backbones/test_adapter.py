"""The parts that ViT-CoMer and ViT-Adapter share."""

import inspect
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from mmhybrid.models.backbones import ViTAdapter, ViTCoMer, adapter
from mmhybrid.models.backbones.arch import option
from mmhybrid.models.backbones.vit import SIZES
from mmhybrid.models.kernels import reference_points
from mmhybrid.registry import MODELS
from tests.models.backbones.contract import BackboneContract
from tests.models.backbones.test_vit_adapter import TestViTAdapter as AdapterContract
from tests.models.backbones.test_vit_comer import TestViTCoMer as CoMerContract
from tests.models.drawn import draw_loss, draw_parameters

TINY = dict(
    embed_dims=32, depth=4, num_heads=2, deform_heads=2, num_points=2, stem_channels=8, windows=2
)


def attend(attn, query, points, tokens, shapes):
    """Multi-scale deformable attention as its paper has it, a level and a head at a time."""
    heads, levels, count = attn.num_heads, attn.num_levels, attn.num_points
    n, length, _ = query.shape
    offsets = attn.sampling_offsets(query).view(n, length, heads, levels, count, 2)
    weights = attn.attention_weights(query).view(n, length, heads, levels * count).softmax(-1)
    weights = weights.view(n, length, heads, levels, count)
    values = attn.value_proj(tokens).split([h * w for h, w in shapes], dim=1)
    outs = []
    for head in range(heads):
        total = 0
        for level, (h, w) in enumerate(shapes):
            # (N, h w, heads D) -> (N, h w, D) -> (N, D, h, w)
            value = values[level].chunk(heads, dim=2)[head].transpose(1, 2).unflatten(2, (h, w))
            places = points[:, None] + offsets[:, :, head, level] / torch.tensor([w, h])
            samples = F.grid_sample(value, 2 * places - 1, align_corners=False)  # (N, D, Q, points)
            total = total + (samples * weights[:, None, :, head, level]).sum(-1)
        outs.append(total.transpose(1, 2))  # (N, D, Q) -> (N, Q, D)
    return attn.output_proj(torch.cat(outs, dim=2))


def sum_levels(tokens, shapes):
    """All levels bilinearly resized to the middle one."""
    levels = tokens.split([h * w for h, w in shapes], dim=1)
    maps = [m.transpose(1, 2).unflatten(2, s) for m, s in zip(levels, shapes, strict=True)]
    total = sum(F.interpolate(m, shapes[1], mode='bilinear', align_corners=False) for m in maps)
    return total.flatten(2).transpose(1, 2)  # (N, C, h, w) -> (N, h w, C)


def mix(ffn, tokens, shapes):
    """Linear, depth-wise convolution of each level, GELU, linear."""
    outs = []
    for level, shape in zip(tokens.split([h * w for h, w in shapes], dim=1), shapes, strict=True):
        maps = ffn.fc1(level).transpose(1, 2).unflatten(2, shape)
        outs.append(ffn.fc2(F.gelu(ffn.dwconv(maps).flatten(2).transpose(1, 2))))
    return torch.cat(outs, dim=1)


def cti_to_vit(part, pyramid, points, shapes):
    x = attend(part.attn, part.query_norm(pyramid), points, part.value_norm(pyramid), shapes)
    return part.gamma * sum_levels(x + mix(part.ffn, part.ffn_norm(x), shapes), shapes)


def cti_to_cnn(part, pyramid, patches, points, shapes):
    fine, middle, coarse = pyramid.split([h * w for h, w in shapes], dim=1)
    x = torch.cat((fine, middle + patches, coarse), dim=1)
    x = x + mix(part.ffn, part.ffn_norm(x), shapes)
    part = part.interaction
    query, value = part.outer_query_norm(x), part.outer_value_norm(x)
    x = query + attend(part.attn, part.query_norm(query), points, part.value_norm(value), shapes)
    return x + mix(part.ffn, part.ffn_norm(x), shapes)


def inject(part, patches, points, pyramid, shapes):
    return part.gamma * attend(
        part.attn, part.query_norm(patches), points, part.value_norm(pyramid), shapes
    )


def extract(part, pyramid, points, patches, grid, shapes):
    query, value = part.query_norm(pyramid), part.value_norm(patches)
    x = pyramid + attend(part.attn, query, points, value, [grid])
    return x + mix(part.ffn, part.ffn_norm(x), shapes)


PARTS = {
    'CTI to the ViT': (ViTCoMer, 'to_vit', cti_to_vit),
    'CTI to the CNN': (ViTCoMer, 'extra.0', cti_to_cnn),
    'injector': (ViTAdapter, 'injector', inject),
    'extractor': (ViTAdapter, 'extractor', extract),
}


@pytest.mark.parametrize('gradients', [False, True])
@pytest.mark.parametrize('name', PARTS)
def test_a_part_computes_what_its_paper_says(name, gradients):
    """Values and gradients are those of the formula, written without its layers' forwards."""
    backbone, part, formula = PARTS[name]
    torch.manual_seed(0)
    model = draw_parameters(backbone(TINY, vit=dict(pretrain_size=64))).double().eval()
    part = model.stages[-1].get_submodule(part)
    grid, shapes = (4, 6), [(8, 12), (4, 6), (2, 3)]
    points, centres = (reference_points(s, torch.device('cpu')) for s in (shapes, [grid]))
    pyramid = torch.randn(2, 126, 32, dtype=torch.float64, requires_grad=True)
    patches = torch.randn(2, 24, 32, dtype=torch.float64, requires_grad=True)
    arguments = {
        'CTI to the ViT': (pyramid, points, shapes),
        'CTI to the CNN': (pyramid, patches, points, shapes),
        'injector': (patches, centres, pyramid, shapes),
        'extractor': (pyramid, points, patches, grid, shapes),
    }[name]
    with torch.set_grad_enabled(gradients):
        got, expected = part(*arguments), formula(part, *arguments)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    if gradients:
        wanted = [pyramid, *part.parameters()]
        wanted += [] if name == 'CTI to the ViT' else [patches]
        got, expected = (torch.autograd.grad(draw_loss([out]), wanted) for out in (got, expected))
        for one, other in zip(got, expected, strict=True):
            assert other.any()
            assert (one - other).abs().max() < 1e-4 * other.abs().max()


@pytest.mark.parametrize('contract', [CoMerContract, AdapterContract])
def test_patches_get_what_is_returned_for_them(contract):
    """Each stage's first block is given the tokens before it plus what the adapter returns."""
    model = contract().build(vit=dict(pretrain_size=64, class_token=True), windows=0).eval()
    given, returned, added = [], [], []
    for (first, last), stage in zip(model.groups, model.stages, strict=True):
        model.vit.blocks[first].register_forward_pre_hook(lambda _, args: given.append(args[0]))
        model.vit.blocks[last].register_forward_hook(lambda _, __, out: returned.append(out))
        part = stage.to_vit if contract is CoMerContract else stage.injector
        part.register_forward_hook(lambda _, __, out: added.append(out))
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        model(image)
        before = [model.vit.embed(image)[0], *returned[:-1]]
    assert len(given) == len(added) == len(before) == 4
    for tokens, earlier, change in zip(given, before, added, strict=True):
        assert change.std() > 0.01
        torch.testing.assert_close(tokens[:, :1], earlier[:, :1])
        torch.testing.assert_close(tokens[:, 1:], earlier[:, 1:] + change)


SCRAMBLED = {
    'tokens': lambda out: out.flip(1),
    'images': lambda out: out.flip(0),
    'channels': lambda out: out.roll(1, 2),
}


@pytest.mark.parametrize('scramble', SCRAMBLED.values(), ids=SCRAMBLED)
@pytest.mark.parametrize('contract', [CoMerContract, AdapterContract])
def test_the_contract_compares_what_is_added_to_patches(contract, scramble):
    """In the models that it builds, outputs and gradients change when that is scrambled."""
    results = []
    for change in (lambda out: out, scramble):
        model = contract().build().train()
        for stage in model.stages:
            part = stage.to_vit if contract is CoMerContract else stage.injector
            part.register_forward_hook(lambda _, __, out, change=change: change(out))
        maps = model(contract().image(64, 96, n=2))
        draw_loss(maps).backward()
        results.append([*maps, *(p.grad for p in model.vit.parameters())])
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() > 0.01 * one.abs().max()


@pytest.mark.parametrize(
    ('depth', 'given', 'expected'),
    [
        (8, None, ((0, 1), (2, 3), (4, 5), (6, 7))),
        (5, [[0, 1], [2, 4]], ((0, 1), (2, 4))),
        (3, [(0,), (1, 2)], ((0, 0), (1, 2))),
    ],
)
def test_groups_of_blocks(depth, given, expected):
    assert adapter.group_blocks(depth, given) == expected


@pytest.mark.parametrize(
    ('depth', 'given', 'message'),
    [
        (6, None, r'6 blocks do not make four equal stages'),
        (4, [(0, 1)], r'do not cover the 4 blocks .* \[\(0, 1\), \(2, 3\)\]'),
        (4, [(0, 2), (2, 3)], r'do not cover the 4 blocks'),
    ],
)
def test_groups_that_do_not_fit(depth, given, message):
    with pytest.raises(ValueError, match=message):
        adapter.group_blocks(depth, given)


@dataclass(frozen=True, kw_only=True)
class SumArch(adapter.PyramidArch):
    """Architecture of a :class:`Sum`."""

    factor: float = option('of the patches', 1.0)


@MODELS.register_module(force=True)
class Sum(adapter.PyramidAdapter):
    """An adapter that adds patch tokens to its pyramid: what a third one has to write.

    Args:
        arch: ``'t'``, or a dict.
    """

    family = 'sum'
    arch_type = SumArch
    arch_settings = {'t': SIZES['t']}
    pretrained_parts = {'vit': 'vit.', 'sum': ''}

    def __init__(self, arch='t', **options):
        super().__init__(arch, **options)

    def build_stages(self, attention, norm_cfg, drop_path_rate):
        return [torch.nn.Linear(self.arch.embed_dims, self.arch.embed_dims) for _ in self.groups]

    def forward(self, x):
        self.check_image(x)
        image = self.pad_image(x, 32)
        stem, pyramid, shapes = self.embed_pyramid(image)
        pyramid = list(pyramid.split([h * w for h, w in shapes], dim=1))
        tokens, grid = self.vit.embed(image)
        features = []
        for stage, (first, last) in zip(self.stages, self.groups, strict=True):
            tokens = self.vit.run_blocks(tokens, grid, first, last + 1)
            patches = tokens[:, self.vit.num_prefix_tokens :]
            pyramid[1] = pyramid[1] + self.arch.factor * stage(patches)
            features.append(patches)
        pyramid = torch.cat(pyramid, dim=1)
        return self.output_maps(stem, pyramid, shapes, features, grid, tuple(x.shape[2:]))


class TestThirdAdapter(BackboneContract):
    """The contract of every backbone, of an adapter that has nothing but the base."""

    backbone = Sum
    arguments = dict(arch=TINY, vit=dict(pretrain_size=64))
    channels = (32, 32, 32, 32)
    strides = (4, 8, 16, 32)
    stages = 4
    without_gradient = (  # biases that a batch norm takes away
        r'^(cnn\.projections\.[023]|upsample|stages\.\d|vit\.blocks\.3\.mlp\.fc2)\.bias$'
    )


def test_a_third_adapter_has_the_options_of_all():
    parameters = inspect.signature(Sum).parameters
    assert {'vit', 'freeze', 'windows', 'factor', 'with_cp'} <= set(parameters)
    assert all(f'    {name}: ' in Sum.__doc__ for name in parameters)
    one, other = (Sum(TINY, vit=dict(pretrain_size=64), factor=factor) for factor in (1, 2))
    other.load_state_dict(one.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert not torch.equal(one(image)[2], other(image)[2])
    frozen = Sum(TINY, vit=dict(pretrain_size=64), freeze='vit').train()
    assert not any(p.requires_grad for p in frozen.vit.parameters())
    with pytest.raises(ValueError, match="freeze='all': expected None or 'vit'"):
        Sum(TINY, freeze='all')
    with pytest.raises(ValueError, match=r"vit_features='stages' .* but there are 2 stages"):
        Sum(TINY, vit_features='stages', interaction_indexes=[(0, 1), (2, 3)])


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
def test_outputs_that_begin_as_the_maps_of_the_vit(backbone):
    options = dict(vit=dict(pretrain_size=64), final_norm=True, pyramid_scale=0.0, cti_to_vit=False)
    if backbone is ViTAdapter:
        options = options | dict(injectors=False)
        del options['cti_to_vit']
    torch.manual_seed(0)
    model = backbone(TINY, **options).eval()
    torch.nn.init.normal_(model.vit.norm.weight)
    torch.nn.init.normal_(model.vit.norm.bias)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        tokens, grid = model.vit.embed(image)
        tokens = model.vit.norm(model.vit.run_blocks(tokens, grid, 0, 4))
        feature = tokens.transpose(1, 2).unflatten(2, grid)  # (N, h w, C) -> (N, C, h, w)
        for out, level in zip(model(image), '0123', strict=True):
            size = tuple(out.shape[2:])
            wanted = F.interpolate(feature, size, mode='bilinear', align_corners=False)
            torch.testing.assert_close(out, model.norms[level](wanted), rtol=1e-4, atol=1e-5)

    model.train()
    draw_loss(model(image)).backward()
    assert all(scale.grad.abs().min() > 0 for scale in model.scales.values())
    scales = {name: p for name, p in model.named_parameters() if name.startswith('scales.')}
    assert len({p.untyped_storage().data_ptr() for p in scales.values()}) == 4
    assert len(backbone(TINY, **options, out_indices=(1, 3)).scales) == 2


def test_a_norm_and_a_scale_of_what_is_not_added():
    kept = ViTCoMer(TINY, vit=dict(final_norm=False), final_norm=True).state_dict()
    assert 'vit.norm.weight' in kept
    plain = ViTCoMer(TINY).state_dict()
    assert not any(key.startswith(('vit.norm.', 'scales.')) for key in plain)
    for setting in (dict(final_norm=True), dict(pyramid_scale=0.1)):
        with pytest.raises(ValueError, match="vit_features='none' adds none"):
            ViTCoMer(TINY, vit_features='none', **setting)
