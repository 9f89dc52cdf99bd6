import pytest
import torch

from mmhybrid.models.backbones import ViT
from tests.models.backbones.contract import BackboneContract

TINY = dict(embed_dims=32, depth=4, num_heads=2, pretrain_size=64)


class TestViT(BackboneContract):
    backbone = ViT
    arguments = dict(arch=TINY, out_indices=(1, 3))
    channels = (32, 32)
    strides = (16, 16)
    stages = 4


class TestWindowedViT(TestViT):
    arguments = dict(arch=TINY, out_indices=(1, 3), windows=(2, 2, 0, 2), class_token=False)


class TestBEiT(TestViT):
    arguments = dict(
        arch={**TINY, 'position': 'relative', 'layer_scale': 0.1, 'mask_key_bias': True},
        out_indices=(1, 3),
    )


class TestDINOv2(TestViT):
    arguments = dict(
        arch={
            **TINY,
            'patch_size': 14,
            'pretrain_size': 56,
            'num_registers': 4,
            'interpolate_antialias': True,
            'ffn': 'swiglu',
            'layer_scale': 1.0,
        },
        out_indices=(1, 3),
        final_norm=True,
    )
    strides = (14, 14)


class TestDINOv3(TestViT):
    arguments = dict(
        arch={**TINY, 'position': 'rope', 'num_registers': 4, 'mask_key_bias': True},
        out_indices=(1, 3),
    )


def test_windows_that_cover_the_grid_are_global_attention():
    torch.manual_seed(0)
    globally = ViT(TINY, class_token=False).eval()
    windowed = ViT(TINY, class_token=False, windows=4).eval()
    windowed.load_state_dict(globally.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(globally(image), windowed(image))


def test_negative_out_indices_count_from_the_last_block():
    assert ViT(TINY, out_indices=(-1, 0)).levels == (0, 3)


def test_key_bias_stays_out_of_the_arithmetic():
    model = ViT(TINY, mask_key_bias=True, position='rope').eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(image)
        for block in model.blocks:
            block.attn.qkv.bias[32:64] += 1
        torch.testing.assert_close(model(image), before)


def test_prefix_tokens_do_not_fit_in_windows():
    with pytest.raises(
        ValueError, match=r'class_token=True, num_registers=4; set class_token=False, num_reg'
    ):
        ViT(TINY, windows=2, num_registers=4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(windows=(0, 0)), r'windows has 2 entries for 4 blocks'),
        (dict(position='learned'), r"position='learned': expected 'absolute'"),
        (dict(position='relative', num_registers=1), r'num_registers=0'),
        (dict(ffn='glu'), r"ffn='glu': expected 'mlp' or 'swiglu'"),
        (dict(norm_cfg=dict(type='IN')), r"unknown norm type 'IN'"),
        (dict(arch={**TINY, 'num_heads': 5}), r'num_heads=5 does not divide embed_dims=32'),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        ViT(**{'arch': TINY, **arguments})


def test_layer_depths_go_from_embedding_to_head():
    model = ViT(TINY)
    assert model.get_layer_depth('vit.pos_embed', 'vit.') == (0, 6)
    assert model.get_layer_depth('vit.blocks.2.norm1.weight', 'vit.') == (3, 6)
    assert model.get_layer_depth('neck.weight', 'vit.') == (5, 6)
