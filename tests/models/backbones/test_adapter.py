"""What ViT-CoMer and ViT-Adapter share."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmhybrid.engine.flops import count_macs
from mmhybrid.models.backbones import ViTAdapter, ViTCoMer, adapter, vit_adapter, vit_comer
from mmhybrid.models.layers import blocks, reference_points
from tests.models.backbones.test_vit_adapter import TestViTAdapter as AdapterContract
from tests.models.backbones.test_vit_comer import TestViTCoMer as CoMerContract
from tests.models.drawn import draw_loss, draw_parameters

TINY = dict(
    embed_dims=32, depth=4, num_heads=2, deform_heads=2, num_points=2, stem_channels=8, windows=2
)
ADAPTERS = [(ViTCoMer, vit_comer), (ViTAdapter, vit_adapter)]


class Sizes(TorchDispatchMode):
    """Notes how many values every result has."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.seen += [out.numel()] if isinstance(out, torch.Tensor) else []
        return out


@pytest.mark.parametrize(('backbone', 'module'), ADAPTERS)
@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_the_finest_map_is_whole_but_once(backbone, module, norm, monkeypatch):
    norm_cfg = dict(type=norm, num_groups=4) if norm == 'GN' else dict(type=norm)
    model = backbone(TINY, vit=dict(pretrain_size=64), norm_cfg=norm_cfg).eval()
    for buffer in model.norms.buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 2)
    given = []

    def merge(*arguments):
        given[:] = arguments
        return adapter.merge_maps(*arguments)

    monkeypatch.setattr(module, 'merge_maps', merge)
    expected = model(torch.randn(2, 3, 70, 100))
    monkeypatch.setattr(blocks, 'BLOCK', 1)
    with torch.no_grad(), Sizes() as sizes:
        outs = adapter.merge_maps(*given)
    torch.testing.assert_close(outs, expected)
    assert outs[0].shape == (2, 32, 18, 25)
    assert outs[0].is_contiguous()
    large = [count for count in sizes.seen if count >= outs[0].numel()]
    if norm == 'BN':
        assert len(large) == 1
    else:  # group norm has to see the whole map
        assert len(large) > 1


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
@pytest.mark.parametrize('values', [1, 2000])
def test_the_stem_in_bands(backbone, values, monkeypatch):
    cnn = backbone(TINY, vit=dict(pretrain_size=64)).cnn.eval()
    for buffer in cnn.buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 2)
    for norm in cnn.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.bias, -1, 1)
    image = torch.randn(2, 3, 122, 75)
    whole = 2 * 8 * 61 * 38  # values of a map of stride 2
    with Sizes() as sizes:
        expected = cnn.stem(image)
    assert whole in sizes.seen
    macs = count_macs(cnn, image)
    monkeypatch.setattr('mmhybrid.models.layers.conv_pyramid.BLOCK', values)
    with torch.no_grad(), Sizes() as sizes:
        finest, *_ = cnn(image)
    torch.testing.assert_close(finest, expected)
    assert finest.shape[2:] == (31, 19)
    assert finest.is_contiguous(memory_format=torch.channels_last)
    assert whole not in sizes.seen
    assert count_macs(cnn, image) == macs  # bands overlap, which is not counted


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
@pytest.mark.parametrize('prepare', ['train', 'eval', 'fuse'])
def test_the_stem_keeps_its_convolutions_alone(backbone, prepare):
    model = backbone(TINY, vit=dict(pretrain_size=64))
    getattr(model, prepare)()
    plain, thrifty = copy.deepcopy(model.cnn), model.cnn
    image = torch.randn(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    expected = plain.stem(image)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.data_ptr(), tensor), lambda tensor: tensor
    ):
        out = thrifty(image)[0]
    assert [tensor.numel() for tensor in kept.values()].count(2 * 8 * 32 * 48) == 3  # of stride 2
    torch.testing.assert_close(out, expected)
    grad = torch.randn(out.shape)
    expected.backward(grad)
    out.backward(grad)
    for ours, theirs in zip(thrifty.stem.parameters(), plain.stem.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(thrifty.stem.state_dict(), plain.stem.state_dict())


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
