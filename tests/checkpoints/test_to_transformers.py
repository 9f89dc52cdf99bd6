"""Plain ViTs back in the form of transformers: it computes the same from them, and so do we."""

import re

import pytest
import torch

from mmhybrid.checkpoints import CheckpointError, load_pretrained
from mmhybrid.checkpoints.to_transformers import _ratio, to_transformers, write_transformers
from mmhybrid.models.backbones import ViT
from tests.models.drawn import draw_parameters

transformers = pytest.importorskip('transformers')

ARCH = dict(embed_dims=48, depth=2, num_heads=3)
OURS = dict(patch_size=8, pretrain_size=32, final_norm=True)
DINOV3 = dict(position='rope', num_registers=4, layer_scale=1.0, mask_key_bias=True)
BEIT = dict(position='relative', layer_scale=1.0, mask_key_bias=True)
SWIGLU = dict(arch=ARCH | dict(mlp_ratio=6), ffn='swiglu')

VITS = [
    ({}, 'ViTModel'),
    (dict(qkv_bias=False), 'ViTModel'),
    (dict(dist_token=True), 'DeiTModel'),
    (BEIT, 'BeitModel'),
    (BEIT | dict(qkv_bias=False), 'BeitModel'),
    (BEIT | dict(layer_scale=None), 'BeitModel'),
    (dict(layer_scale=1.0), 'Dinov2Model'),
    (dict(layer_scale=1.0) | SWIGLU, 'Dinov2Model'),
    (dict(layer_scale=1.0, num_registers=4), 'Dinov2WithRegistersModel'),
    (DINOV3, 'DINOv3ViTModel'),
    (DINOV3 | dict(mask_key_bias=False), 'DINOv3ViTModel'),
    (DINOV3 | SWIGLU | dict(qkv_bias=False, num_registers=2), 'DINOv3ViTModel'),
    (DINOV3 | SWIGLU | dict(ffn_bias=False), 'DINOv3ViTModel'),
    (DINOV3 | dict(ffn_bias=False), 'DINOv3ViTModel'),
]


def patches(peer, model, image):
    with torch.no_grad():
        tokens = peer(image).last_hidden_state[:, model.num_prefix_tokens :]
    return tokens.transpose(1, 2).unflatten(2, [side // 8 for side in image.shape[2:]])


@pytest.mark.parametrize(('arguments', 'name'), VITS)
def test_transformers_computes_the_same(arguments, name, tmp_path):
    if not hasattr(transformers, name):
        pytest.skip(f'this transformers has no {name}')
    model = draw_parameters(ViT(**dict(arch=ARCH) | OURS | arguments)).eval()
    masked = arguments.get('mask_key_bias', False)
    facts = dict(num_heads=3, norm_eps=1e-6, mask_key_bias=masked)
    write_transformers(tmp_path / 'out', *to_transformers(model.state_dict(), **facts))

    peer, info = transformers.AutoModel.from_pretrained(tmp_path / 'out', output_loading_info=True)
    assert type(peer).__name__ == name
    assert not info['unexpected_keys'] and not info['mismatched_keys']
    assert all(key.startswith('pooler.') for key in info['missing_keys'])
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        (expected,) = model(image)
    out = patches(peer.eval(), model, image)
    assert (out - expected).abs().max() < 1e-5 * expected.std()

    if name == 'BeitModel':  # its projections always have biases
        arguments = arguments | dict(qkv_bias=True)
    again = ViT(**dict(arch=ARCH) | OURS | arguments).eval()
    load_pretrained(again, tmp_path / 'out', parts={'vit': ''})
    with torch.no_grad():
        (out,) = again(image)
    assert (out - expected).abs().max() < 1e-6 * expected.std()


@pytest.mark.parametrize(
    ('arguments', 'fact'),
    [
        (dict(class_token=False), 'cls_token'),
        (dict(final_norm=False), 'norm.weight'),
        (dict(dist_token=True, layer_scale=1.0), 'Dinov2Model'),
        (dict(num_registers=4), 'Dinov2WithRegistersModel'),
        (BEIT | SWIGLU, 'BeitModel'),
        (dict(ffn_bias=False), 'mlp.fc2.bias'),
    ],
)
def test_what_transformers_has_not(arguments, fact):
    model = ViT(**dict(arch=ARCH) | OURS | arguments)
    with pytest.raises(CheckpointError, match=re.escape(fact)):
        to_transformers(model.state_dict(), num_heads=3, norm_eps=1e-6)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('blocks.0.mlp.fc1.weight', None),
        ('blocks.1.attn.qkv.bias', None),
        ('blocks.1.norm2.bias', None),
        ('patch_embed.proj.bias', None),
        ('blocks.0.attn.qkv.weight', torch.ones(())),
        ('patch_embed.proj.weight', torch.ones(3, 3)),
        ('pos_embed', torch.ones(1, 16)),
    ],
)
def test_weights_that_are_not_of_a_vit(name, value):
    state_dict = ViT(ARCH, **OURS).state_dict()
    del state_dict[name]
    if value is not None:
        state_dict[name] = value
    with pytest.raises(CheckpointError) as error:
        to_transformers(state_dict, num_heads=3, norm_eps=1e-6)
    assert value is not None or name in str(error.value)


def test_positions_that_are_no_square():
    state_dict = ViT(ARCH, **OURS).state_dict()
    state_dict['pos_embed'] = state_dict['pos_embed'][:, :-2]
    with pytest.raises(CheckpointError, match='square'):
        to_transformers(state_dict, num_heads=3, norm_eps=1e-6)


def test_deit3_has_no_positions_of_tokens(tmp_path):
    model = draw_parameters(ViT(ARCH, **OURS)).eval()
    with torch.no_grad():
        model.pos_embed[:, :1] = 0
    state_dict = model.state_dict()
    state_dict['pos_embed'] = state_dict['pos_embed'][:, 1:]
    write_transformers(tmp_path / 'out', *to_transformers(state_dict, num_heads=3, norm_eps=1e-6))
    image = torch.randn(1, 3, 32, 32)
    peer = transformers.AutoModel.from_pretrained(tmp_path / 'out').eval()
    with torch.no_grad():
        (expected,) = model(image)
    assert (patches(peer, model, image) - expected).abs().max() < 1e-5 * expected.std()


def test_a_hidden_width_that_a_quotient_loses(tmp_path):
    arch = dict(embed_dims=224, depth=1, num_heads=4, mlp_ratio=2.1786)
    model = ViT(**OURS | dict(arch=arch, layer_scale=1.0))
    assert model.blocks[0].mlp.fc1.out_features == 488  # int(224 * (488 / 224)) is 487
    weights, config = to_transformers(model.state_dict(), num_heads=4, norm_eps=1e-6)
    write_transformers(tmp_path / 'out', weights, config)
    peer = transformers.AutoModel.from_pretrained(tmp_path / 'out')
    assert peer.encoder.layer[0].mlp.fc1.out_features == 488


def test_gates_that_transformers_would_round():
    state_dict = ViT(**OURS | dict(layer_scale=1.0) | SWIGLU).state_dict()
    for i in range(2):
        for name in ('w12.weight', 'w12.bias'):
            value = state_dict[f'blocks.{i}.mlp.{name}']
            state_dict[f'blocks.{i}.mlp.{name}'] = value[: len(value) - 4]
        value = state_dict[f'blocks.{i}.mlp.w3.weight']
        state_dict[f'blocks.{i}.mlp.w3.weight'] = value[:, :-2]
    with pytest.raises(CheckpointError, match='multiples of 8'):
        to_transformers(state_dict, num_heads=3, norm_eps=1e-6)


@pytest.mark.parametrize('width', [7, 48, 192, 224, 384, 1000])
def test_ratios_give_the_hidden_width(width):
    hidden = range(1, 9 * width)
    assert [int(width * _ratio(value, width)) for value in hidden] == list(hidden)


def test_a_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(TypeError):
        write_transformers(tmp_path / 'new/out', {'a': torch.ones(2)}, {'no JSON': object()})
    assert not list((tmp_path / 'new').iterdir())


def test_a_folder_that_is_there_stays(tmp_path):
    with pytest.raises(FileExistsError):
        write_transformers(tmp_path, {}, {})
