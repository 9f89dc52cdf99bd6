"""Weights are told from those of the same names that compute something else."""

import re

import pytest
import torch

from mmhybrid.checkpoints import SOURCES, CheckpointError, load_weights
from mmhybrid.checkpoints.forms import told_by
from mmhybrid.checkpoints.sources import FOREIGN
from mmhybrid.checkpoints.unsupported import UNSUPPORTED
from mmhybrid.models.backbones import BACKBONES, ViT
from tests.checkpoints import published
from tests.checkpoints.published import copy_state, same_state

timm = pytest.importorskip('timm')

TINY = dict(embed_dim=48, depth=2, num_heads=3, img_size=64)
ARCH = dict(embed_dims=48, depth=2, num_heads=3)
ROPE = dict(position='rope', layer_scale=1.0, mask_key_bias=True, class_token=False)
# timm's model -> its name, and the options of a ViT that has all of its keys, where there is one.
OTHERS = {
    'vit_medium_patch16_rope_reg1_gap_256': ('RoPE', ROPE | dict(num_registers=1)),
    'vit_mediumd_patch16_rope_reg1_gap_256': (
        'RoPE', ROPE | dict(num_registers=1, qkv_bias=False, mask_key_bias=False),
    ),
    'vit_betwixt_patch16_rope_reg4_gap_256': ('RoPE', ROPE | dict(num_registers=4)),
    'vit_small_patch16_rope_224': ('RoPE', ROPE | dict(class_token=True, mask_key_bias=False)),
    'vit_small_patch16_rope_mixed_224': ('rotary frequencies', None),
    'vit_small_patch16_rope_mixed_ape_224': ('rotary frequencies', None),
    'vit_base_patch16_rpn_224': ('rpn', dict(class_token=False, qkv_bias=False)),
    'vit_relpos_small_patch16_224': ('relative positions', None),
    'vit_dwee_patch16_reg1_gap_256': ('differential', None),
    'eva02_tiny_patch14_224': ('EVA-02', None),
    'eva02_base_patch14_224': ('EVA-02', None),
    'eva_giant_patch14_clip_224': ('EVA-CLIP', dict(mask_key_bias=True, patch_size=14)),
    'beit3_base_patch16_224': ('BEiT-3', None),
    'vit_base_patch16_clip_224': ('CLIP', None),
    'vit_base_patch16_clip_quickgelu_224': ('CLIP', None),
    'vit_base_patch16_siglip_224': ('SigLIP', dict(class_token=False)),
    'vit_pe_core_tiny_patch16_384': ('Perception Encoder', None),
    'vit_pe_spatial_tiny_patch16_512': ('Perception Encoder', None),
    'samvit_base_patch16': ('SAM', None),
    'aimv2_1b_patch14_224': ('AIMv2', None),
}  # fmt: skip
WHOLE = {  # models whose widths their names set; their keys alone are looked at
    'hiera_tiny_224': 'Hiera',
    'sam2_hiera_tiny': 'SAM 2',
    'vitamin_small_224': 'ViTamin',
    'xcit_nano_12_p8_224': 'XCiT',
    'cait_xxs24_224': 'CaiT',
    'convit_tiny': 'ConViT',
    'twins_svt_small': 'Twins',
    'vit_tiny_r_s16_p8_224': 'ResNet before it',
    'naflexvit_base_patch16_gap': 'NaFlexViT',
    'swin_tiny_patch4_window7_224': 'Swin',
    'convnext_tiny': 'ConvNeXt',
    'resnet18': 'ResNet',
}
SAME = {
    'vit_base_patch16_reg4_gap_256': ('registers', dict(class_token=False, num_registers=4)),
    'vit_medium_patch16_reg1_gap_256': (
        'registers', dict(class_token=False, num_registers=1, layer_scale=1.0),
    ),
    'vit_base_patch16_gap_224': ('no class token', dict(class_token=False)),
    'vit_base_patch16_siglip_gap_224': ('no class token', dict(class_token=False)),
    'vit_base_patch16_radio_v3': ('timm', dict(num_registers='reg_token', layer_scale=1.0)),
    'eva_giant_patch14_224': (
        'EVA', dict(mask_key_bias=True, patch_size=14, pretrain_size=56, hidden=True),
    ),
    'vit_small_patch16_lingbot': (
        'DINOv3', dict(position='rope', num_registers=4, layer_scale=1.0, mask_key_bias=True,
                       norm_cfg=dict(type='LN', eps=1e-5)),
    ),
}  # fmt: skip


def create(name, **arguments):
    torch.manual_seed(0)
    peer = timm.create_model(name, pretrained=False, **TINY | arguments).eval()
    with torch.no_grad():
        for parameter in peer.parameters():  # timm starts tokens and biases at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    return peer


def refused(model, state_dict, **options):
    before = copy_state(model)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, state_dict, parts={'vit': ''}, **options)
    assert same_state(model, before)
    return str(error.value)


def named(message):
    """The kind that a refusal names, which advises no option."""
    match = re.fullmatch(r'the state dict: these weights are of (.*), which mm.*: .*', message)
    assert match, message
    assert not re.search(r'\w=|\btry\b|[Oo]ption', message), message
    return match[1]


@pytest.mark.parametrize('name', OTHERS)
def test_another_model_is_called_by_its_name(name):
    kind, options = OTHERS[name]
    model = ViT(ARCH, **dict(pretrain_size=64) | (options or {}))
    assert kind in named(refused(model, create(name).state_dict()))


@pytest.mark.parametrize('name', WHOLE)
def test_another_architecture_is_called_by_its_name(name):
    with torch.device('meta'):
        state_dict = timm.create_model(name).state_dict()
    assert WHOLE[name] in named(refused(ViT(ARCH), state_dict))


@pytest.mark.parametrize(
    ('keys', 'kind'),
    [
        (('visual.transformer.resblocks.0.ln_1.weight', 'visual.class_embedding'), 'CLIP'),
        (('image_encoder.blocks.0.attn.rel_pos_h', 'mask_decoder.x'), 'SAM'),
        (('backbone.net.blocks.0.attn.rel_pos_w', 'proposal_generator.x'), 'ViTDet'),
        (('backbone.layers.0.blocks.0.attn.relative_position_bias_table',), 'Swin'),
        (('backbone.stages.0.blocks.0.attn.w_msa.relative_position_index',), 'Swin'),
        (('module.conv1.weight', 'module.layer1.0.conv1.weight'), 'ResNet'),
    ],
)
def test_files_of_other_projects_are_called_by_their_names(keys, kind):
    assert kind in named(refused(ViT(ARCH), dict.fromkeys(keys, torch.ones(1))))


@pytest.mark.parametrize('name', SAME)
def test_models_that_are_the_same_still_load(name):
    source, options = SAME[name]
    options = dict(pretrain_size=64) | options
    arch = dict(ARCH)
    peer = create(name, img_size=options['pretrain_size'])
    if options.pop('hidden', False):
        arch['mlp_ratio'] = peer.blocks[0].mlp.fc1.out_features / 48
    if options.get('num_registers') == 'reg_token':
        options['num_registers'] = peer.reg_token.shape[1]
    model = ViT(arch, out_indices=(0, 1), **options).eval()
    report = load_weights(model, peer.state_dict(), parts={'vit': ''})
    assert source in report.source
    image = torch.randn(1, 3, *[options['pretrain_size']] * 2)
    with torch.no_grad():
        expected = peer.forward_intermediates(
            image, indices=[0, 1], norm=False, intermediates_only=True
        )
        outputs = model(image)
    for output, reference in zip(outputs, expected, strict=True):
        assert (output - reference).abs().max() < 1e-4 * reference.std()


def test_each_form_is_of_one_source_and_no_other_model():
    for form, (state_dict, name, _) in published.FORMS.items():
        keys = told_by(state_dict())
        fits = [source.name for source in SOURCES if source.fits(keys)]
        assert fits[0].startswith(name), (form, fits)
        # Encoders of MAE and DINOv2 are timm's ViT besides, and their mask tokens the same.
        assert len(fits) == dict(mae=3, dinov2=2).get(form, 1), (form, fits)


@pytest.mark.parametrize(
    ('backbone', 'options'),
    [*((backbone, {}) for backbone in BACKBONES), (ViT, dict(arch='beit_b')),
     (ViT, dict(arch='dinov3_splus')), (ViT, dict(arch='dinov2_g_reg'))],
)  # fmt: skip
def test_our_own_names_are_no_other_model(backbone, options):
    with torch.device('meta'):
        keys = told_by(backbone(**options).state_dict())
    assert not [form.name for form in UNSUPPORTED if form.fits(keys)]
    assert not [key for key in keys if re.match(FOREIGN, key)]


def test_the_nearest_source_is_named():
    state_dict = published.dinov3_timm() | {'fc_norm.weight': torch.ones(published.WIDTH)}
    message = refused(published.build_vit('dinov3_timm'), state_dict)
    assert 'no known source' in message
    assert 'DINOv3 (timm), but fc_norm.weight is not part of it' in message
    assert 'prefix' not in message


def test_names_of_what_is_not_supported_are_unique():
    names = [form.name for form in (*SOURCES, *UNSUPPORTED)]
    assert len(set(names)) == len(names) > 40
