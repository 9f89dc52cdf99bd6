"""Models of Hugging Face's transformers, saved as it saves them: they load, with its features."""

import json
import re

import pytest
import torch
from torch import nn

from mmhybrid.checkpoints import CheckpointError, load_pretrained
from mmhybrid.checkpoints.config_json import check_config
from mmhybrid.models.backbones import CvT, ViT, ViTAdapter

transformers = pytest.importorskip('transformers')
# The OpenMMLab stack bears an older one.
HAS_DINOV3 = hasattr(transformers, 'DINOv3ViTModel')

WIDTH, DEPTH, HEADS, PATCH, SIZE = 48, 3, 3, 8, 32
COMMON = dict(
    hidden_size=WIDTH,
    num_hidden_layers=DEPTH,
    num_attention_heads=HEADS,
    image_size=SIZE,
    patch_size=PATCH,
)
MLP = dict(intermediate_size=4 * WIDTH)
OURS = dict(
    arch=dict(embed_dims=WIDTH, depth=DEPTH, num_heads=HEADS),
    patch_size=PATCH,
    pretrain_size=SIZE,
    final_norm=True,
)
# transformers' own default of most of these models, which it then computes with.
SMALL_EPS = dict(norm_cfg=dict(type='LN', eps=1e-12))
REGISTERS = dict(layer_scale=1.0, num_registers=4)
DINOV3 = REGISTERS | dict(position='rope', mask_key_bias=True, norm_cfg=dict(type='LN', eps=1e-5))
BEIT = SMALL_EPS | dict(position='relative', layer_scale=0.1, mask_key_bias=True)
GATED = dict(use_gated_mlp=True, hidden_act='silu')

# name of a class, arguments of its config, arguments of the ViT, source in the report
VITS = [
    ('Dinov2Model', COMMON, dict(layer_scale=1.0), 'DINOv2'),
    ('Dinov2ForImageClassification', COMMON, dict(layer_scale=1.0), 'DINOv2'),
    ('Dinov2Backbone', COMMON, dict(layer_scale=1.0), 'DINOv2'),
    (
        'Dinov2Model',
        COMMON | dict(use_swiglu_ffn=True, qkv_bias=False),
        dict(layer_scale=1.0, ffn='swiglu', qkv_bias=False),
        'DINOv2',
    ),
    ('Dinov2WithRegistersModel', COMMON, REGISTERS, 'DINOv2'),
    ('Dinov2WithRegistersForImageClassification', COMMON, REGISTERS, 'DINOv2'),
    ('DINOv3ViTModel', COMMON | MLP | dict(num_register_tokens=4), DINOV3, 'DINOv3'),
    (
        'DINOv3ViTModel',
        COMMON | GATED | dict(num_register_tokens=4, intermediate_size=2 * WIDTH),
        DINOV3 | dict(ffn='swiglu', arch=OURS['arch'] | dict(mlp_ratio=3)),
        'DINOv3',
    ),
    ('ViTModel', COMMON | MLP, SMALL_EPS, 'ViT'),
    ('ViTForImageClassification', COMMON | MLP, SMALL_EPS, 'ViT'),
    ('ViTForMaskedImageModeling', COMMON | MLP | dict(encoder_stride=PATCH), SMALL_EPS, 'ViT'),
    ('DeiTModel', COMMON | MLP, SMALL_EPS | dict(dist_token=True), 'DeiT'),
    (
        'DeiTForImageClassificationWithTeacher',
        COMMON | MLP,
        SMALL_EPS | dict(dist_token=True),
        'DeiT',
    ),
    (
        'BeitModel',
        COMMON | MLP | dict(use_relative_position_bias=True, use_mean_pooling=False),
        BEIT,
        'BEiT',
    ),
    (
        'BeitForMaskedImageModeling',
        COMMON
        | MLP
        | dict(use_shared_relative_position_bias=True, use_mask_token=True, vocab_size=5),
        BEIT | dict(final_norm=False),
        'BEiT',
    ),
    (
        'BeitForImageClassification',
        COMMON | MLP | dict(use_relative_position_bias=True),
        BEIT | dict(final_norm=False),
        'BEiT',
    ),
    (
        'BeitForSemanticSegmentation',
        COMMON
        | MLP
        | dict(num_hidden_layers=4, use_relative_position_bias=True, out_indices=[1, 2, 3, 4]),
        BEIT | dict(final_norm=False, arch=OURS['arch'] | dict(depth=4)),
        'BEiT',
    ),
    (
        'BeitModel',
        COMMON
        | MLP
        | dict(use_absolute_position_embeddings=True),
        SMALL_EPS | dict(mask_key_bias=True, layer_scale=1.0, final_norm=False),
        'BEiT',
    ),
    ('ViTMAEModel', COMMON | MLP | dict(mask_ratio=0.0), SMALL_EPS, 'ViT'),
    (
        'ViTMAEForPreTraining',
        COMMON
        | MLP
        | dict(
            mask_ratio=0.0,
            decoder_num_hidden_layers=1,
            decoder_hidden_size=24,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=24,
        ),
        SMALL_EPS,
        'MAE',
    ),
]  # fmt: skip


def build(name, **arguments):
    """Build a model of transformers, with weights that are all drawn."""
    if not hasattr(transformers, name):
        pytest.skip(f'this transformers has no {name}')
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    peer = kind(kind.config_class(**arguments))
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for module in peer.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return peer.eval()


def save(name, folder, **arguments):
    peer = build(name, **arguments)
    peer.save_pretrained(folder)
    return peer


def patches(peer, model, image):
    """The peer's last tokens of patches as a map, in the order of the image."""
    backbone = getattr(peer, peer.base_model_prefix, peer)
    noise = {}
    if type(backbone).__name__.startswith('ViTMAE'):  # it shuffles patches by what is drawn here
        count = (image.shape[2] // PATCH) * (image.shape[3] // PATCH)
        noise = dict(noise=torch.arange(count).float().expand(len(image), -1))
    with torch.no_grad():
        out = backbone(image, **noise)
    if hasattr(out, 'feature_maps'):
        return out.feature_maps[-1]
    tokens = out.last_hidden_state[:, model.num_prefix_tokens :]
    grid = [side // PATCH for side in image.shape[2:]]
    return tokens.transpose(1, 2).unflatten(2, grid)


@pytest.mark.parametrize(
    ('name', 'config', 'arguments', 'source'),
    VITS,
    ids=[f'{i}-{name}' for i, (name, *_) in enumerate(VITS)],
)
def test_features_are_those_of_transformers(name, config, arguments, source, tmp_path):
    peer = save(name, tmp_path, **config)
    model = ViT(**OURS | arguments).eval()
    report = load_pretrained(model, tmp_path, parts={'vit': ''})
    assert re.search(rf'\b{source}\b.*transformers', report.source)
    assert not report.untouched and not report.resized
    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        (out,) = model(image)
    expected = patches(peer, model, image)
    assert (out - expected).abs().max() < 1e-5 * expected.std()


# Sizes whose positions are resized; transformers passes the new size, Meta's DINOv2 a scale.
@pytest.mark.parametrize(
    ('name', 'config', 'arguments'),
    [
        ('Dinov2Model', COMMON, dict(layer_scale=1.0)),
        ('Dinov2WithRegistersModel', COMMON, REGISTERS | dict(interpolate_antialias=True)),
        ('DINOv3ViTModel', COMMON | MLP | dict(num_register_tokens=4), DINOV3),
    ],
)
@pytest.mark.parametrize('size', [(48, 40), (32, 16 + 16 + 8)])
def test_features_at_other_sizes(name, config, arguments, size, tmp_path):
    peer = save(name, tmp_path, **config)
    model = ViT(**OURS | arguments).eval()
    load_pretrained(model, tmp_path, parts={'vit': ''})
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        (out,) = model(image)
    expected = patches(peer, model, image)
    assert (out - expected).abs().max() < 1e-5 * expected.std()


CVT = dict(embed_dim=[16, 24, 32], num_heads=[1, 2, 4], depth=[1, 2, 3])


@pytest.mark.parametrize('name', ['CvtModel', 'CvtForImageClassification'])
def test_cvt_with_the_activation_of_transformers(name, tmp_path):
    peer = save(name, tmp_path, **CVT, num_labels=5)
    classes = 5 if name.endswith('Classification') else 0
    arch = dict(embed_dims=(16, 24, 32), num_heads=(1, 2, 4), depths=(1, 2, 3))
    model = CvT(arch, act='gelu', num_classes=classes).eval()
    report = load_pretrained(model, tmp_path, parts={'cvt': ''})
    assert 'CvT (transformers)' in report.source and "act='gelu'" in report.note
    image = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        outs = model(image)
        expected = peer(image, output_hidden_states=True)
    maps = [*expected.hidden_states[:3], *([expected.logits] if classes else [])]
    for out, reference in zip(outs, maps, strict=True):
        assert (out - reference).abs().max() < 1e-5 * reference.std()


def test_key_of_one_more_layer_is_no_part_of_a_source(tmp_path):
    peer = build('ViTModel', **COMMON | MLP)
    state_dict = peer.state_dict()
    state_dict['encoder.layer.1.adapter.weight'] = torch.ones(3)
    torch.save(state_dict, tmp_path / 'vit.pth')
    with pytest.raises(CheckpointError, match=r'encoder\.layer\.1\.adapter\.weight'):
        load_pretrained(ViT(**OURS), tmp_path / 'vit.pth', parts={'vit': ''})


# Models of transformers that no backbone here computes: small arguments, and the name in the error
VISION = dict(hidden_size=24, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
CONVNEXT = dict(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
OTHERS = [
    ('CLIPVisionModel', VISION | dict(image_size=32, patch_size=8), 'CLIP'),
    ('SiglipVisionModel', VISION | dict(image_size=32, patch_size=8), 'SigLIP'),
    ('VitDetModel', dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
                         image_size=32, pretrain_image_size=32, patch_size=8,
                         use_relative_position_embeddings=True), 'ViTDet'),
    ('SamVisionModel', dict(hidden_size=24, output_channels=8, num_hidden_layers=2,
                            num_attention_heads=2, image_size=32, patch_size=8,
                            global_attn_indexes=[1], mlp_dim=24, window_size=2), 'SAM'),
    ('DINOv3ConvNextModel', CONVNEXT, 'ConvNeXt'),
    ('ConvNextModel', CONVNEXT, 'ConvNeXt'),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'config', 'word'), OTHERS)
def test_others_are_named(name, config, word, tmp_path):
    save(name, tmp_path, **config)
    with pytest.raises(CheckpointError) as error:
        load_pretrained(ViT(**OURS), tmp_path, parts={'vit': ''})
    reason = str(error.value).partition('these weights are of ')[2]
    assert re.search(rf'\b{word}\b', reason) and len(reason) < 300


@pytest.mark.parametrize(
    ('field', 'value', 'advice'),
    [
        ('layer_norm_eps', 1e-12, "norm_cfg=dict(type='LN', eps=1e-12)"),
        ('num_attention_heads', 6, 'num_heads=6'),
        ('hidden_act', 'gelu_new', 'no argument'),
        ('layer_norm_eps', 'small', "'small'"),  # not what it should be at all
    ],
)
@pytest.mark.parametrize('in_adapter', [False, True])
def test_a_config_that_differs_names_the_argument(in_adapter, field, value, advice, tmp_path):
    save('Dinov2Model', tmp_path, **COMMON | dict(num_hidden_layers=4))
    arch = OURS['arch'] | dict(depth=4)
    model, parts = ViT(arch, patch_size=PATCH, pretrain_size=SIZE, layer_scale=1.0), {'vit': ''}
    if in_adapter:
        model, parts = ViTAdapter(arch | dict(deform_heads=HEADS, windows=0)), {'vit': 'vit.'}
    load_pretrained(model, tmp_path, parts=parts)
    path = tmp_path / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_pretrained(model, tmp_path, parts=parts)
    assert field in str(error.value) and advice in str(error.value)
    if advice.startswith('norm_cfg'):
        assert (f'vit=dict({advice})' in str(error.value)) == in_adapter
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize('size', [None, 'big', [32], [32, 0], 32.0, True])
def test_a_size_that_is_none_is_not_asked(size, tmp_path):
    save('Dinov2Model', tmp_path, **COMMON)
    path = tmp_path / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(image_size=size)))
    load_pretrained(ViT(**OURS, layer_scale=1.0), tmp_path, parts={'vit': ''})


def test_rotary_base_and_activation_of_gates(tmp_path):
    save('DINOv3ViTModel', tmp_path, **COMMON | GATED | dict(intermediate_size=2 * WIDTH))
    arch = OURS['arch'] | dict(mlp_ratio=3)
    model = ViT(**OURS | DINOV3 | dict(arch=arch, ffn='swiglu', num_registers=0))
    load_pretrained(model, tmp_path, parts={'vit': ''})
    path = tmp_path / 'config.json'
    config = json.loads(path.read_text())
    for field, value in (('rope_theta', 10000.0), ('hidden_act', 'gelu')):
        path.write_text(json.dumps(config | {field: value}))
        with pytest.raises(CheckpointError, match=field):
            load_pretrained(model, tmp_path, parts={'vit': ''})


@pytest.mark.parametrize(
    ('config', 'differs'),
    [
        (dict(rope_theta=10000.0), True),
        (dict(rope_parameters=dict(rope_theta=10000.0, rope_type='default')), True),
        (dict(rope_parameters=dict(rope_theta=10000.0), rope_theta=100.0), True),
        (dict(rope_parameters=dict(rope_theta=100.0, rope_type='default')), False),
        (dict(rope_parameters=None), False),
        ({}, False),
    ],
)
def test_the_rotary_base_in_both_places(config, differs):
    problems = check_config(config, ViT(**OURS | DINOV3 | dict(norm_cfg=dict(type='LN', eps=1e-6))))
    assert ['rope_theta=10000.0' in problem for problem in problems] == [True] * differs


def test_positions_of_a_grid_that_is_no_square(tmp_path):
    """16 x 4 positions are as many as 8 x 8: the config tells."""
    state_dict = build('ViTModel', **COMMON | MLP | dict(image_size=64)).state_dict()
    torch.save(state_dict, tmp_path / 'pytorch_model.bin')
    config = dict(model_type='vit', image_size=[128, 32], patch_size=PATCH)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    model = ViT(**OURS | dict(pretrain_size=(128, 32)))
    load_pretrained(model, tmp_path, parts={'vit': ''})
    assert torch.equal(model.pos_embed, state_dict['embeddings.position_embeddings'])
    square = ViT(**OURS | dict(pretrain_size=64))
    report = load_pretrained(square, tmp_path, parts={'vit': ''})
    assert '16x4' in report.resized['pos_embed']
