"""What the hooks see is what the models compute."""

import numpy as np
import pytest
import torch
from torch import nn

from mmhybrid.inspect import (
    attention_maps,
    central_side,
    exchanges,
    feature_maps,
    pca_colors,
    receptive_fields,
    sampling_points,
)
from mmhybrid.inspect.attention import attention_row, guess_grid, key_grid
from mmhybrid.models.backbones import CMT, SPACH, ConvStemViT, CvT, ViT, ViTAdapter, ViTCoMer
from mmhybrid.models.kernels import deformable_attention
from mmhybrid.models.layers import MSDeformAttention

VIT = dict(embed_dims=24, depth=4, num_heads=2)
ADAPTER = VIT | dict(deform_heads=2, stem_channels=8)
BACKBONES = dict(
    vit=lambda: ViT(VIT | dict(num_registers=2)),
    beit=lambda: ViT(VIT | dict(position='relative')),
    rope=lambda: ViT(VIT | dict(position='rope', mask_key_bias=True)),
    comer=lambda: ViTCoMer(ADAPTER | dict(extra_cti=1), windows=(0, 3, 0, 3)),
    adapter=lambda: ViTAdapter(ADAPTER | dict(extra_extractors=1), windows=0),
    stem=lambda: ConvStemViT(
        VIT | dict(stem_channels=(4, 8, 8, 16), stem_strides=(2, 2, 2, 2)),
    ),
    cmt=lambda: CMT(
        dict(
            embed_dims=(8, 16), depths=(1, 1), num_heads=(1, 2), sr_ratios=(4, 2), stem_channels=4,
            pretrain_size=64,
        )
    ),
    cvt=lambda: CvT(dict(embed_dims=(8, 8, 16), depths=(1, 1, 1), num_heads=(1, 1, 2))),
    spach=lambda: SPACH(
        dict(embed_dims=8, num_heads=2, stages=((('conv', 1),), (('attn', 1),)))
    ),
)  # fmt: skip


def build(name, seed=0):
    torch.manual_seed(seed)
    model = BACKBONES[name]().eval()
    for parameter in model.parameters():  # gammas of zero would hide what is read
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model


@pytest.mark.parametrize('name', BACKBONES)
def test_attention_weighs_every_key_once(name):
    model = build(name)
    maps = attention_maps(model, torch.randn(1, 3, 64, 96), at=(0.8, 0.3))
    assert maps
    for one in maps:
        total = one.weights.nansum((1, 2)) + one.prefix.sum(1)
        heads, h, w = one.weights.shape
        if getattr(model.get_submodule(one.name), 'window', 0):  # zero keys beyond the border
            assert (total < 1 + 1e-5).all() and one.weights.isnan().any()
        else:
            assert torch.allclose(total, torch.ones(heads), atol=1e-5)
        assert one.cell == (int(0.3 * one.grid[0]), int(0.8 * one.grid[1]))
        assert one.grid[1] / one.grid[0] == w / h == 1.5
    prefix = dict(vit=3, beit=1, rope=1, stem=1).get(name, 0)
    assert all(one.prefix.shape[1] == prefix for one in maps) or name == 'cvt'
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_attention_is_that_of_the_module():
    """The module's output at a token is the weighted sum of its values."""
    model = build('vit')
    seen = {}
    handle = model.blocks[2].attn.register_forward_hook(
        lambda module, args, output: seen.update(x=args[0], out=output)
    )
    one = attention_maps(model, torch.randn(1, 3, 64, 96), at=(0.8, 0.3))[2]
    handle.remove()
    attn = model.blocks[2].attn
    value = attn.qkv(seen['x'])[..., 48:].view(-1, 2, 12)  # (tokens, heads, D)
    weights = torch.cat((one.prefix, one.weights.flatten(1)), dim=1)
    token = torch.einsum('hk,khd->hd', weights, value).flatten()
    row = 3 + one.cell[0] * one.grid[1] + one.cell[1]
    assert torch.allclose(attn.proj(token), seen['out'][0, row], atol=1e-5)


def test_attention_in_windows_is_that_of_the_module():
    model = build('comer')
    seen = {}
    handle = model.vit.blocks[1].attn.register_forward_hook(
        lambda module, args, output: seen.update(x=args[0], out=output)
    )
    # A grid of 6 x 6 with windows of 3: nothing is padded.
    maps = attention_maps(model, torch.randn(1, 3, 96, 96), at=(0.7, 0.2))
    handle.remove()
    one = next(m for m in maps if m.name == 'vit.blocks.1.attn')
    attn = model.vit.blocks[1].attn
    value = attn.qkv(seen['x'])[..., 48:].view(6, 6, 2, 12)
    token = torch.einsum('hyx,yxhd->hd', one.weights.nan_to_num(), value).flatten()
    assert one.weights[0].isnan().sum() == 27
    expected = seen['out'][0, one.cell[0] * 6 + one.cell[1]]
    assert torch.allclose(attn.proj(token), expected, atol=1e-5)


def test_attention_row_with_masks():
    q, k, v = torch.randn(3, 1, 2, 5, 4)
    for mask in (None, torch.rand(5, 5) > 0.3, torch.randn(1, 2, 5, 5), torch.randn(1, 1, 1, 5)):
        if mask is not None and mask.dtype == torch.bool:
            mask[:, 0] = True
        whole = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        row = attention_row(q, k, mask, None, 3)
        assert torch.allclose((row[:, :, None] @ v)[:, :, 0], whole[:, :, 3], atol=1e-5)


def test_grids_are_guessed_where_they_are_not_told():
    assert guess_grid(197, (224, 224)) == ((14, 14), 1)
    assert guess_grid(12 * 20 + 5, (192, 320)) == ((12, 20), 5)
    assert guess_grid(49, (224, 224)) == ((7, 7), 0)
    assert guess_grid(7, (64, 640)) == (None, 0)
    assert key_grid(35, (10, 14)) == (5, 7) and key_grid(36, (10, 14)) is None
    timm = pytest.importorskip('timm')
    model = timm.create_model('test_vit', dynamic_img_size=True).eval()
    maps = attention_maps(model, torch.randn(1, 3, 64, 96))
    assert [one.grid for one in maps] == [(4, 6)] * len(model.blocks)
    assert all(one.prefix.shape[1] == 1 for one in maps)


@pytest.mark.parametrize('name', ['comer', 'adapter'])
def test_exchanges_add_up(name):
    model = build(name)
    image = torch.randn(1, 3, 64, 96)
    rows = exchanges(model, image)
    assert {row.stage for row in rows} == {1, 2, 3, 4}
    for row in rows:
        assert abs(row.before - row.added) - 1e-4 <= row.after <= row.before + row.added + 1e-4
    by_key = {(row.stage, row.part, row.stream): row for row in rows}
    inward = 'CTI to ViT' if name == 'comer' else 'injector'
    for stage in (2, 3, 4):  # the tokens that a group of blocks leaves reach the next stage
        blocks = by_key[stage - 1, f'block {stage - 2}', 'ViT tokens']
        assert by_key[stage, inward, 'ViT tokens'].before == pytest.approx(blocks.after, rel=1e-4)
    assert by_key[1, inward, 'ViT tokens'].added > 0.01
    for stream in (f'pyramid, stride {stride}' for stride in (8, 16, 32)):
        chain = [row for row in rows if row.stream == stream]
        for one, following in zip(chain, chain[1:], strict=False):
            assert following.before == pytest.approx(one.after, rel=1e-4)
    for stage in model.stages:
        (stage.to_vit if name == 'comer' else stage.injector).gamma.data.zero_()
    assert all(row.added < 1e-6 for row in exchanges(model, image) if row.part == inward)
    last = rows[-1]
    assert last.part.startswith('extra') and last.stream == 'pyramid, stride 32'


def test_exchanges_of_one_stream_are_refused():
    with pytest.raises(TypeError, match='CMT has no ViT and pyramid'):
        exchanges(build('cmt'), torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize('name', ['comer', 'adapter'])
def test_sampling_points_give_the_modules_output(name):
    model = build(name)
    values, outputs = {}, {}
    for path, module in model.named_modules():
        if isinstance(module, MSDeformAttention):
            for part, kept in ((module.value_proj, values), (module.output_proj, outputs)):
                part.register_forward_hook(
                    lambda module, args, output, kept=kept, path=path: kept.update({path: output})
                )
    found = sampling_points(model, torch.randn(1, 3, 64, 96), at=(0.3, 0.6))
    assert [one.name for one in found] == list(outputs)
    for one in found:
        module = model.get_submodule(one.name)
        value = values[one.name].unflatten(-1, (module.num_heads, -1))
        sampled = deformable_attention(
            value, one.shapes, one.locations[None, None], one.weights[None, None]
        )
        expected = outputs[one.name][0, one.row]
        assert torch.allclose(module.output_proj(sampled)[0, 0], expected, atol=1e-4)
        assert max(abs(one.query[0] - 0.3), abs(one.query[1] - 0.6)) <= 0.13  # stride 16
    fine = sampling_points(model, torch.randn(1, 3, 64, 96), at=(0.3, 0.6), level=0)
    assert any(a.row != b.row for a, b in zip(fine, found, strict=True))


def test_receptive_field_of_convolutions():
    model = nn.Sequential(nn.Conv2d(3, 2, 5, padding=2), nn.Conv2d(2, 4, 3, padding=1))
    (field,) = receptive_fields(model, torch.randn(2, 3, 21, 31), at=(0.5, 0.5))
    rows, columns = np.nonzero(field)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 13, 12, 18)
    assert field.sum() == pytest.approx(1)
    assert central_side(field, 1.0) == 7 and 1 <= central_side(field, 0.5) <= 5


def test_receptive_fields_of_levels_grow():
    model = build('cmt')
    fields = receptive_fields(model, torch.randn(1, 3, 64, 64))
    assert [field.shape for field in fields] == [(64, 64)] * 2
    assert central_side(fields[0], 0.5) < central_side(fields[1], 0.5)


def test_colours_of_features():
    level = torch.zeros(5, 4, 6)
    level[3, :, 3:] = 7.0  # two halves, told apart by one channel
    colors, share = pca_colors(level)
    assert colors.shape == (4, 6, 3) and share == pytest.approx(1)
    assert (colors[:, :3, 0] == 0).all() and (colors[:, 3:, 0] == 1).all()
    assert (colors[..., 1:] == 0.5).all()
    colors, share = pca_colors(torch.ones(2, 3, 3))
    assert (colors == 0.5).all() and share == 0
    colors, share = pca_colors(torch.randn(64, 8, 8))
    assert 0 < share < 0.5 and colors.min() == 0 and colors.max() == 1


def test_what_is_no_map_is_left_out():
    class Classifier(nn.Module):
        def forward(self, x):
            return x[:, :, ::4, ::4], x.mean((2, 3))

    maps = feature_maps(Classifier(), torch.randn(1, 3, 32, 32))
    assert [tuple(level.shape) for level in maps] == [(3, 8, 8)]
    with pytest.raises(ValueError, match=r'no maps .* but \[\(1, 3\)\]'):
        feature_maps(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.randn(1, 3, 32, 32)
        )
