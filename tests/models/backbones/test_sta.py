import pytest
import torch
import torch.nn.functional as F

from mmhybrid.models.backbones import STA, ViT
from tests.models.backbones.contract import BackboneContract
from tests.models.drawn import draw_loss, draw_parameters

VIT = dict(
    embed_dims=16, depth=3, num_heads=2, position='rope', num_registers=2, mask_key_bias=True
)
ARCH = dict(vit=VIT, interaction_indexes=(0, 1, 2), stem_channels=4, out_dims=24)


class TestSTA(BackboneContract):
    """With a level of stride 4, which the published models do not have."""

    backbone = STA
    arguments = dict(arch=ARCH, out_indices=(0, 1, 2, 3))
    channels = (24, 24, 24, 24)
    strides = (4, 8, 16, 32)
    stages = 3
    without_gradient = r'^(vit\.norm|cnn\.stages\.2\.2)\.bias$'


# From the original code; those over DINOv3 have its mask token besides.
@pytest.mark.parametrize(
    ('arch', 'total', 'mask_token'),
    [('s', 5_689_360, 0), ('m', 9_974_032, 0), ('l', 22_173_408, 384), ('x', 30_119_360, 384)],
)
def test_parameter_counts_are_the_originals(arch, total, mask_token):
    with torch.device('meta'):
        model = STA(arch)
    assert sum(p.numel() for p in model.parameters()) == total - mask_token


@pytest.mark.parametrize(
    ('arch', 'channels', 'blocks', 'final_norm'),
    [
        ('s', 192, (3, 7, 11), False),
        ('m', 256, (3, 7, 11), False),
        ('l', 224, (5, 8, 11), True),
        ('x', 256, (5, 8, 11), True),
    ],
)
def test_named_models(arch, channels, blocks, final_norm):
    with torch.device('meta'):
        model = STA(arch)
    assert model.out_strides == (8, 16, 32)
    assert model.out_channels == (channels,) * 3
    assert model.vit.levels == model.blocks[1:] == blocks
    assert isinstance(model.vit.norm, torch.nn.LayerNorm) == final_norm


def formula(model, image):
    """The maps of strides 8, 16 and 32, as paper and published models have them."""
    norm = [stage[-1] for stage in model.cnn.stages]
    conv = [stage[-2] for stage in model.cnn.stages]
    stem, bn = model.cnn.stem[0], model.cnn.stem[1]
    fine = F.max_pool2d(F.gelu(bn(stem(image))), 3, 2, 1)
    maps = [norm[0](conv[0](fine))]
    for level in (1, 2):
        maps.append(norm[level](conv[level](F.gelu(maps[-1]))))
    tokens, (h, w) = model.vit.embed(image)
    outs, count = [None] * 3, model.vit.num_prefix_tokens
    for i in range(model.vit.depth):
        tokens = model.vit.run_blocks(tokens, (h, w), i, i + 1)
        for level, block in enumerate(model.blocks[1:]):
            if block == i:
                patches = model.vit.norm(tokens[:, count:])
                patches = patches.transpose(1, 2).reshape(len(image), -1, h, w)
                scale = (2, 1, 0.5)[level]
                patches = F.interpolate(patches, scale_factor=scale, mode='bilinear')
                projection, last = model.fusions[str(level + 1)]
                outs[level] = last(projection(torch.cat((patches, maps[level]), dim=1)))
    return outs


@pytest.mark.parametrize(
    'arguments',
    [
        dict(arch=ARCH),
        dict(arch=ARCH, final_norm=False, interaction_indexes=(0, 2, 2)),
        dict(arch=ARCH, interaction_indexes=[1], out_dims=None),  # one block serves all levels
        dict(arch=ARCH, interaction_indexes=-2, vit=dict(ffn='swiglu', layer_scale=1e-5)),
        dict(arch=ARCH, interaction_indexes=(2, 0, 1), vit=dict(position='absolute')),
        dict(arch=ARCH, vit=dict(position='relative', num_registers=0, class_token=False)),
    ],
)
def test_computes_what_its_paper_says(arguments):
    torch.manual_seed(0)
    model = draw_parameters(STA(**arguments)).double()
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    for mode in (False, True):
        model.train(mode)
        got, expected = model(image), formula(model, image)
        torch.testing.assert_close(got, tuple(expected), rtol=1e-6, atol=1e-6)


def test_a_frozen_vit_has_no_graph_and_stays_in_evaluation_mode():
    model = STA(ARCH, freeze='vit', drop_path_rate=0.5, with_cp=True).train()
    assert not any(module.training for module in model.vit.modules())
    maps = []
    model.vit.register_forward_hook(lambda _, __, out: maps.extend(out))
    image = torch.randn(2, 3, 64, 64)
    draw_loss(model(image)).backward()
    draw_loss(model(image)).backward()
    assert len(maps) == 6 and not any(m.requires_grad for m in maps)
    assert all(map(torch.equal, maps[:3], maps[3:]))  # no path is dropped
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith('vit.')


def test_over_another_vit():
    with torch.device('meta'):
        model = STA('l', vit=dict(arch='dinov3_l'))
        dinov2 = STA('x', vit=dict(arch='dinov2_b_reg', patch_size=16), out_dims=128)
    assert model.vit.levels == (11, 17, 23)
    assert model.out_channels == (224,) * 3
    assert dinov2.vit.num_prefix_tokens == 5
    assert dinov2.out_channels == (128,) * 3
    assert STA(dict(vit='t')).out_channels == (192,) * 3


def test_blocks_after_the_last_that_is_taken_are_not_trained():
    model = STA(ARCH, interaction_indexes=(0, 0, 1)).train()
    draw_loss(model(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith('vit.blocks.2.')
        assert (parameter.grad is not None) == parameter.requires_grad


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(interaction_indexes=(0, 1)), r'interaction_indexes has 2 entries for 3 levels'),
        (dict(interaction_indexes=(0, 1, 3)), r'\(0, 1, 3\): expected blocks of the ViT, 0 to 2'),
        (dict(vit=dict(out_indices=(0,))), r'out_indices=\(0,\) in vit=.*: STA sets it'),
        (dict(vit=dict(patch_size=14)), r'STA joins a ViT of patch size 16 .*, got 14'),
        (dict(vit=dict(arch='dinov3')), r"ViT has no arch 'dinov3'"),
        (dict(freeze='cnn'), r"freeze='cnn': expected None or 'vit'"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        STA(ARCH, **arguments)


def test_layer_depths_are_the_vits_and_the_adapter_is_last():
    model = STA(ARCH)
    assert model.get_layer_depth('backbone.vit.cls_token', 'backbone.') == (0, 5)
    assert model.get_layer_depth('backbone.vit.blocks.0.norm1.bias', 'backbone.') == (1, 5)
    assert model.get_layer_depth('backbone.cnn.stem.0.weight', 'backbone.') == (4, 5)
    assert model.get_layer_depth('backbone.fusions.1.0.weight', 'backbone.') == (4, 5)


def test_its_authors_vits_have_rotary_positions_and_a_class_token_alone():
    with torch.device('meta'):
        models = ViT('rope_t'), ViT('rope_tplus')
    for model, heads, width in zip(models, (3, 4), (192, 256), strict=True):
        assert (model.num_heads, model.embed_dims, model.depth) == (heads, width, 12)
        assert model.pos_embed is None and model.num_prefix_tokens == 1
        assert isinstance(model.blocks[0].ls1, torch.nn.Identity)
        assert model.blocks[0].attn.qkv.bias is not None and model.blocks[0].norm1.eps == 1e-6
