"""Weights of STA's authors, and of plain ViTs for the one in it."""

import json
import re

import pytest
import torch

from mmhybrid.checkpoints import CheckpointError, load_weights
from mmhybrid.models.backbones import STA, ViT
from mmhybrid.testing import Golden, build_original
from tests.checkpoints import published
from tests.checkpoints.published import ARCH, DINOV3, copy_state, same_state

OVER_DINOV3 = dict(ARCH, **DINOV3)
OVER_ROPE = dict(ARCH, position='rope')


def build(vit, **options):
    arch = dict(vit=vit, interaction_indexes=(0, 1, 2), stem_channels=4, out_dims=8)
    return STA(arch, **options)


def in_parts(state_dict):
    """With the two matrices of a gated feed-forward network that DINOv3 has."""
    parts = {}
    for name, value in state_dict.items():
        halves = value.chunk(2) if '.mlp.w12.' in name else [value]
        for i, half in enumerate(halves, 1):
            parts[name.replace('.w12.', f'.w{i}.')] = half
    return parts


def authors_names(model, vit='dinov3.', heads=published.HEADS, width=published.WIDTH):
    """A model's weights in the form that its authors publish."""
    state_dict = {}
    for name, value in model.state_dict().items():
        name = re.sub(r'^vit\.', vit, name).replace('register_tokens', 'storage_tokens')
        name = re.sub(r'^cnn\.stages\.(\d)', lambda m: f'sta.conv{int(m[1]) + 2}', name)
        name = re.sub(r'^cnn\.', 'sta.', name)
        name = re.sub(r'^fusions\.(\d)\.0', lambda m: f'convs.{int(m[1]) - 1}', name)
        name = re.sub(r'^fusions\.(\d)\.1', lambda m: f'norms.{int(m[1]) - 1}', name)
        state_dict[name] = value.clone()
    count = width // heads // 4
    return state_dict | {f'{vit}rope_embed.periods': 100.0 ** (torch.arange(count) / count)}


@pytest.mark.parametrize(
    ('vit', 'final_norm', 'prefix'),
    [
        (OVER_DINOV3, True, 'dinov3.'),
        (OVER_DINOV3 | dict(ffn='swiglu'), True, 'dinov3.'),
        (OVER_ROPE, False, 'dinov3._model.'),
    ],
)
def test_the_whole_adapter(vit, final_norm, prefix):
    one, other = build(vit, final_norm=final_norm), build(vit, final_norm=final_norm)
    state_dict = in_parts(authors_names(one, prefix))
    state_dict[f'{prefix}mask_token'] = torch.zeros(1, 32)
    # As a training of the whole detector leaves it.
    file = {'model': {f'backbone.{name}': value for name, value in state_dict.items()}}
    file['model']['decoder.layers.0.norm1.weight'] = torch.ones(8)
    for checkpoint, found in ((state_dict, ''), (file, 'model backbone.')):
        torch.nn.init.zeros_(other.fusions['1'][0].weight)
        report = load_weights(other, checkpoint, parts=other.pretrained_parts)
        assert (report.source, report.percent, report.found) == ('STA', 100.0, found)
        assert f'{prefix}mask_token' in report.unused
        assert same_state(other, one.state_dict())


@pytest.mark.parametrize(
    ('name', 'vit', 'prefix', 'arch'),
    [
        ('dinov3_vits16plus', dict(ffn='swiglu', mlp_ratio=6), 'dinov3.', dict(hidden_dim=24)),
        ('dinov3_vits16', {}, 'dinov3.', dict(interaction_indexes=[2])),
        ('vit_tinyplus', {}, 'dinov3._model.', dict(embed_dim=64, num_heads=1, conv_inplane=8)),
    ],
)
def test_the_originals_arguments_make_the_model_of_its_weights(name, vit, prefix, arch, tmp_path):
    """Each reference run of the family that may be made has its backbone here."""
    is_dinov3 = name.startswith('dinov3')
    vit = dict(embed_dims=64, depth=3, num_heads=1) | (DINOV3 if is_dinov3 else {}) | vit
    vit |= dict(position='rope')
    arch = dict(name=name, interaction_indexes=[0, 1, 2]) | arch
    model = STA(
        dict(vit=vit, interaction_indexes=arch['interaction_indexes'], final_norm=is_dinov3),
        stem_channels=arch.get('conv_inplane', 16),
        out_dims=arch.get('hidden_dim'),
    )
    state_dict = in_parts(authors_names(model, prefix, heads=1, width=64))
    shapes = {key: dict(shape=list(value.shape)) for key, value in state_dict.items()}
    spec = dict(name='made', source='Intellindust-AI-Lab/DEIMv2, engine', arch=arch)
    spec |= dict(state_dict=shapes, input=dict(shape=[1, 3, 64, 64]), outputs=[])
    (tmp_path / 'made.json').write_text(json.dumps(spec))
    built = build_original(Golden(tmp_path / 'made.json'))
    load_weights(built, state_dict, parts=built.pretrained_parts)
    assert same_state(built, model.state_dict())
    assert built.blocks == model.blocks and built.vit.num_heads == 1
    norm = built.vit.blocks[0].norm1
    assert norm.eps == (1e-5 if is_dinov3 else 1e-6)
    assert built.vit.blocks[0].attn.qkv.mask_key_bias == is_dinov3


def test_what_lacks_a_key_is_refused():
    model = build(OVER_DINOV3)
    before, state_dict = copy_state(model), authors_names(build(OVER_DINOV3))
    del state_dict['convs.1.weight']
    with pytest.raises(CheckpointError, match=r'missing 1: fusions\.2\.0\.weight'):
        load_weights(model, state_dict, parts=model.pretrained_parts)
    assert same_state(model, before)


def test_a_vit_of_other_norms_is_advised():
    state_dict = authors_names(build(OVER_ROPE, final_norm=False), 'dinov3._model.')
    with pytest.raises(CheckpointError, match=r'try final_norm=False'):
        load_weights(build(OVER_ROPE), state_dict, parts=STA.pretrained_parts)


def test_levels_that_do_not_come_out_are_dropped_and_stride_4_is_left_as_it_is():
    state_dict = authors_names(build(OVER_DINOV3))
    model = build(OVER_DINOV3, out_indices=(1,))
    report = load_weights(model, state_dict, parts=model.pretrained_parts)
    assert {name[:11] for name in report.dropped} == {'cnn.stages.', 'fusions.2.0', 'fusions.2.1',
                                                      'fusions.3.0', 'fusions.3.1'}  # fmt: skip
    model = build(OVER_DINOV3, out_indices=(0, 1, 2, 3))
    with pytest.raises(CheckpointError, match=r'(?s)missing 6: fusions\.0.* try out_indices'):
        load_weights(model, state_dict, parts=model.pretrained_parts)
    before = copy_state(model.fusions['0'])
    report = load_weights(model, state_dict, parts=model.pretrained_parts, fresh=r'fusions\.0\.')
    assert same_state(model.fusions['0'], before)
    assert len(report.untouched) == 6


@pytest.mark.parametrize('form', ['dinov3', 'dinov3_swiglu', 'dinov2_registers', 'deit'])
def test_a_plain_vit_fills_the_vit_alone(form):
    make, source, options = published.FORMS[form]
    options = dict(patch_size=16, pretrain_size=64) | options
    model, vit = build(dict(ARCH, **options)), ViT(ARCH, **options, final_norm=True)
    state_dict = make(patch=16)
    before = copy_state(model)
    load_weights(vit, state_dict, parts=vit.pretrained_parts)
    report = load_weights(model, state_dict, parts=model.pretrained_parts)
    assert report.source.startswith(source)
    assert report.part == 'vit.' and same_state(model.vit, vit.state_dict())
    assert all(name.startswith(('cnn.', 'fusions.')) for name in report.untouched)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in report.untouched)


def test_the_vit_of_a_published_adapter_alone():
    state_dict = authors_names(build(OVER_ROPE, final_norm=False), 'dinov3._model.')
    vit = ViT(ARCH, position='rope')
    report = load_weights(vit, state_dict, parts=vit.pretrained_parts, prefix='dinov3._model')
    assert report.percent == 100.0
    assert torch.equal(vit.cls_token, state_dict['dinov3._model.cls_token'])


def test_its_own_form():
    one, other = build(OVER_ROPE), build(OVER_ROPE)
    report = load_weights(other, one.state_dict(), parts=other.pretrained_parts)
    assert report.source == 'mmhybrid' and same_state(other, one.state_dict())
