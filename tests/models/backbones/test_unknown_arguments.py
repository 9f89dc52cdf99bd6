"""Arguments that a backbone does not have: those of the originals have a place, or a reason."""

import inspect
import re

import pytest

from mmhybrid import build_backbone
from mmhybrid.models.backbones import BACKBONES, CMT, SPACH, STA, CvT, ViT, ViTAdapter, ViTCoMer
from mmhybrid.unknown_arguments import explain_unknown

# Of the original repository's detection config, its own class tokens and weights aside.
VITCOMER_S = dict(
    pretrain_size=224,
    patch_size=16,
    embed_dim=384,
    depth=12,
    num_heads=6,
    mlp_ratio=4,
    drop_path_rate=0.2,
    conv_inplane=64,
    n_points=4,
    deform_num_heads=6,
    cffn_ratio=0.25,
    deform_ratio=1.0,
    interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
    window_attn=[True, True, False] * 4,
    window_size=[14, 14, None] * 4,
)
CMT_TI = dict(
    img_size=160,
    in_chans=3,
    num_classes=10,
    embed_dim=[46, 92, 184, 368],
    stem_channel=16,
    fc_dim=1280,
    num_heads=[1, 2, 4, 8],
    mlp_ratios=[3.6, 3.6, 3.6, 3.6],
    depths=[2, 2, 10, 2],
    sr_ratios=[8, 4, 2, 1],
    dp=0.1,
)
CVT_13 = dict(
    in_chans=3,
    num_classes=10,
    init='trunc_norm',
    spec=dict(
        NUM_STAGES=3,
        PATCH_SIZE=[7, 3, 3],
        PATCH_STRIDE=[4, 2, 2],
        PATCH_PADDING=[2, 1, 1],
        DIM_EMBED=[64, 192, 384],
        NUM_HEADS=[1, 3, 6],
        DEPTH=[1, 2, 10],
        MLP_RATIO=[4.0, 4.0, 4.0],
        ATTN_DROP_RATE=[0.0, 0.0, 0.0],
        DROP_RATE=[0.0, 0.0, 0.0],
        DROP_PATH_RATE=[0.0, 0.0, 0.1],
        QKV_BIAS=[True, True, True],
        CLS_TOKEN=[False, False, True],
        POS_EMBED=[False, False, False],
        QKV_PROJ_METHOD=['dw_bn', 'dw_bn', 'dw_bn'],
        KERNEL_QKV=[3, 3, 3],
        PADDING_KV=[1, 1, 1],
        STRIDE_KV=[2, 2, 2],
        PADDING_Q=[1, 1, 1],
        STRIDE_Q=[1, 1, 1],
    ),
)
DINO_S = dict(
    img_size=[224], patch_size=(16, 16), in_chans=3, embed_dim=384, depth=12, num_heads=6,
    mlp_ratio=4.0, qkv_bias=True, qk_scale=None, drop_rate=0.0, norm_layer=None,
)  # fmt: skip

ADAPTERS = (
    'pretrain_size num_heads conv_inplane n_points deform_num_heads init_values with_cffn '
    'cffn_ratio add_vit_feature pretrained freeze_vit img_size patch_size in_chans num_classes '
    'embed_dim depth mlp_ratio qkv_bias drop_rate attn_drop_rate embed_layer norm_layer act_layer '
    'layer_scale window_attn window_size use_abs_pos_emb use_rel_pos_bias'
)
NAMES = {
    ViTCoMer: f'{ADAPTERS} use_extra_CTI use_CTI_toV use_CTI_toC cnn_feature_interaction dim_ratio',
    ViTAdapter: f'{ADAPTERS} use_extra_extractor',
    STA: 'name embed_dim num_heads weights_path finetune conv_inplane hidden_dim',
    CMT: f'{" ".join(CMT_TI)} qk_scale qk_ratio representation_size drop_rate attn_drop_rate '
    'hybrid_backbone norm_layer',
    CvT: ' '.join([*CVT_13, *CVT_13['spec'], 'act_layer', 'norm_layer']),
    SPACH: 'img_size in_chans hidden_dim net_arch stem_type scaled cpe shared_spatial_func',
    ViT: f'{" ".join(DINO_S)} drop_path_uniform init_values embed_layer act_layer block_fn '
    'ffn_layer block_chunks num_register_tokens channel_adaptive layerscale_init ffn_ratio '
    'n_storage_tokens mask_k_bias untie_cls_and_patch_norms pos_embed_rope_base device dtype '
    'out_type with_cls_token layer_scale_init_value hidden_size num_hidden_layers',
}


def refuse(backbone, **arguments):
    """The message about arguments that a class does not have."""
    with pytest.raises(TypeError, match=f'{backbone.__name__} has no argument ') as caught:
        backbone(**arguments)
    assert len(str(caught.value)) <= 800
    return str(caught.value)


def follow(backbone, arguments):
    """Build a backbone with what the message says to write in the place of unknown arguments."""
    message = refuse(backbone, **arguments)
    assert 'did you mean' not in message
    assert 'it takes arch' not in message
    written = re.search(r'write (.*)', message)[1]
    taken = inspect.signature(backbone).parameters
    kept = {name: value for name, value in arguments.items() if name in taken}
    return backbone(**kept | eval(f'dict({written})'))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize('arch', ['s', 'vitcomer_s', None])
def test_the_original_config_of_vit_comer(arch):
    named = build_backbone('vitcomer_s')
    model = follow(ViTCoMer, VITCOMER_S if arch is None else dict(VITCOMER_S, arch=arch))
    assert count(model) == count(named)
    assert round(count(model) / 1e6, 1) == 30.0
    assert model.arch.deform_heads == named.arch.deform_heads == 6
    assert model.vit.windows == named.vit.windows
    assert model.vit.position_grid == (14, 14)


@pytest.mark.parametrize(
    ('backbone', 'arguments', 'name'),
    [
        (CMT, CMT_TI, 'cmt_ti'),
        (CvT, CVT_13, 'cvt_13'),
        (ViT, DINO_S, 'vit_s'),
        (ViTAdapter, VITCOMER_S, 'vitadapter_s'),
    ],
)
def test_other_originals(backbone, arguments, name):
    classes = {key: value for key, value in arguments.items() if key == 'num_classes'}
    named, model = build_backbone(name, **classes), follow(backbone, arguments)
    assert count(model) == count(named)
    assert model.out_channels == named.out_channels


@pytest.mark.parametrize('backbone', NAMES)
def test_every_argument_of_an_original_is_known(backbone):
    taken = inspect.signature(backbone).parameters
    unknown = [name for name in NAMES[backbone].split() if name not in taken]
    assert len(unknown) > 5
    for name in unknown:
        message = explain_unknown(backbone, 'any', {name: {} if name == 'spec' else 1})
        assert name == 'spec' or re.search('; write |; leave out ', message), message


@pytest.mark.parametrize('backbone', [ViT, ViTAdapter])
def test_every_argument_of_timm_is_known(backbone):
    timm = pytest.importorskip('timm')
    names = list(inspect.signature(timm.models.VisionTransformer).parameters)
    assert 'embed_dim' in names
    for name in set(names) - set(inspect.signature(backbone).parameters):
        assert re.search('; write |; leave out ', explain_unknown(backbone, 'b', {name: 1})), name


def test_settings_of_the_named_arch():
    assert "arch='s' says so" in refuse(ViTCoMer, arch='s', mlp_ratio=4, num_heads=6)
    message = refuse(ViTCoMer, arch='s', mlp_ratio=3)
    assert 'arch=dict(embed_dims=384, depth=12, num_heads=6, mlp_ratio=3)' in message
    assert follow(ViTCoMer, dict(arch='t', mlp_ratio=3)).arch.mlp_ratio == 3
    arch = dict(ViTCoMer.arch_settings['t'], mlp_ratio=3)
    assert build_backbone('vitcomer_t', arch=arch).arch.mlp_ratio == 3


def test_of_several_names_the_nearest():
    sizes = dict(embed_dim=384, depth=12, num_heads=6)
    assert "write arch='s_seg'" in refuse(ViTCoMer, arch='b_seg', **sizes)
    assert "arch='s_seg' says so" in refuse(ViTCoMer, arch='vitcomer_s_seg', **sizes)
    assert "write arch='dinov2_s_reg'" in refuse(ViT, arch='dinov2_b_reg', **sizes)


def test_values_in_other_words():
    switched = dict(freeze_vit=True, with_cffn=False, use_extra_CTI=False, add_vit_feature=False)
    message = refuse(ViTCoMer, **switched)
    assert "write freeze='vit', cnn_ffn=0, extra_cti=0, vit_features='none'" in message
    assert 'write windows=0' in refuse(ViTCoMer, window_attn=False, window_size=14)
    assert 'ffn_ratio=0' in refuse(ViTAdapter, with_cffn=False)
    assert 'leave out' in refuse(ViTAdapter, with_cffn=True)
    assert "write vit=dict(position='relative')" in refuse(ViTAdapter, use_rel_pos_bias=True)
    message = refuse(ViTAdapter, vit=dict(), img_size=512, pretrain_size=384)
    assert 'write vit=dict(pretrain_size=384)' in message
    message = refuse(ViT, pretrained='deit.pth')
    assert "init_cfg=dict(type='Pretrained', checkpoint='deit.pth')" in message


def test_the_options_of_a_resnet():
    resnet = dict(depth=50, num_stages=4, style='pytorch', dilations=(1, 1, 1, 1))
    message = refuse(ViTCoMer, **resnet, pretrained='open-mmlab://resnet50_v1c')
    assert '_delete_=True' in message
    assert 'pretrained=None in the model' in message
    assert 'write arch' not in message
    assert 'pretrained=None' in refuse(CMT, pretrained='torchvision://resnet50')


def test_settings_in_arch():
    with pytest.raises(ValueError, match=r"^arch of ViT has no 'embed_dim', 'n_points'") as caught:
        ViT(dict(embed_dim=32, depth=1, num_heads=1, n_points=4))
    assert 'arch=dict(depth=1, num_heads=1, embed_dims=32)' in str(caught.value)
    with pytest.raises(ValueError, match='has no 3; it takes arch, '):
        ViT({3: 1})


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('value', ['y' * 9999, list(range(9999)), {'z' * 999: {'a': [1] * 999}}])
def test_messages_are_short(backbone, value):
    names = ['x' * 9999, 'img_size', 'pretrained', 'embed_dim', 'num_layers', 'window_size']
    message = refuse(backbone, **dict.fromkeys([*names, *map('a{}'.format, range(99))], value))
    assert 'and 89 more' in message
    for name in names:
        refuse(backbone, **{name: value})
        with pytest.raises(ValueError, match='arch of') as caught:
            backbone({name: value, 'depth': value})
        assert len(str(caught.value)) <= 800


def test_sides_of_squares():
    assert ViT('t', patch_size=(16, 16)).patch_size == 16
    assert build_backbone('vitcomer_t', vit=dict(patch_size=[16, 16])).vit.patch_size == 16
    assert ViT('t', pretrain_size=(144, 256)).position_grid == (9, 16)
    assert CMT('ti', pretrain_size=(160, 160)).arch.pretrain_size == 160
    for sides in ((16, 14), ()):
        with pytest.raises(ValueError, match=r'patch_size=\(.*\): expected one side'):
            ViT('t', patch_size=sides)


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('value', ['y' * 9999, list(range(1, 9999)), {'z' * 999: [1] * 999}])
def test_messages_about_values_are_short(backbone, value):
    arch = next(iter(backbone.arch_settings.values()))
    for name in ('arch', 'out_indices', 'with_cp', *backbone.arch_type.options()):
        if name in ('patch_size', 'pretrain_size', 'layer_scale') and not isinstance(value, list):
            continue  # torch's and Python's own errors about types
        try:
            backbone(**{'arch': arch, name: value})
        except (ValueError, TypeError) as error:
            assert len(str(error)) <= 800, name
