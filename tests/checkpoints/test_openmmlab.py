"""Plain ViTs of mmpretrain and mmsegmentation: their files load, with their features."""

import pytest
import torch

from mmhybrid.checkpoints import CheckpointError, load_pretrained, load_weights
from mmhybrid.models.backbones import ViT

mmpretrain = pytest.importorskip('mmpretrain.models.backbones')
mmseg = pytest.importorskip('mmseg.models.backbones')

WIDTH, DEPTH, HEADS, PATCH, SIZE = 48, 3, 3, 8, 32
ARCH = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=HEADS, feedforward_channels=4 * WIDTH)
OURS = dict(embed_dims=WIDTH, depth=DEPTH, num_heads=HEADS)
PRETRAIN = dict(arch=ARCH, img_size=SIZE, patch_size=PATCH, out_type='featmap')
SEG = dict(
    img_size=SIZE,
    patch_size=PATCH,
    embed_dims=WIDTH,
    num_layers=DEPTH,
    num_heads=HEADS,
    mlp_ratio=4,
    out_indices=DEPTH - 1,
)
SCALED = dict(layer_scale=1.0)
BEIT = SCALED | dict(position='relative', mask_key_bias=True)
FINAL = dict(final_norm=True)
EPS = dict(norm_cfg=dict(type='LN', eps=1e-5))  # mmsegmentation's, where its config names none


# host, class, its arguments beside the common ones, arguments of ours
MODELS = [
    (mmpretrain, 'VisionTransformer', {}, FINAL),
    (mmpretrain, 'VisionTransformer', dict(final_norm=False, qkv_bias=False), dict(qkv_bias=False)),
    (mmpretrain, 'VisionTransformer', dict(layer_scale_init_value=0.1), SCALED | FINAL),
    (
        mmpretrain,
        'VisionTransformer',
        dict(layer_scale_init_value=0.1, layer_cfgs=dict(ffn_type='swiglu_fused')),
        SCALED | FINAL | dict(ffn='swiglu'),
    ),
    (mmpretrain, 'DistilledVisionTransformer', {}, FINAL | dict(dist_token=True)),
    (mmpretrain, 'DeiT3', {}, SCALED | FINAL),
    (mmpretrain, 'BEiTViT', dict(final_norm=False), BEIT),
    (mmpretrain, 'BEiTViT', dict(final_norm=True), BEIT | FINAL),
    (
        mmpretrain,
        'BEiTViT',
        dict(final_norm=False, use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        BEIT,
    ),
    (mmseg, 'VisionTransformer', {}, EPS),
    (mmseg, 'VisionTransformer', dict(final_norm=True, patch_bias=True), FINAL | EPS),
    (mmseg, 'VisionTransformer', dict(with_cls_token=False), EPS | dict(class_token=False)),
    (mmseg, 'BEiT', dict(init_values=0.1), BEIT | EPS),
    (
        mmseg,
        'BEiT',
        dict(init_values=0.1, final_norm=True, qv_bias=False),
        BEIT | FINAL | EPS | dict(qkv_bias=False),
    ),
]


def build(host, name, **arguments):
    torch.manual_seed(0)
    common = PRETRAIN if host is mmpretrain else SEG
    peer = getattr(host, name)(**common | arguments)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    if name == 'DeiT3':  # it calls ln1 in the place of ln2, unlike DeiT III's authors
        for layer in peer.layers:
            layer.ln2.load_state_dict(layer.ln1.state_dict())
    peer.eval()
    return peer


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize(
    ('host', 'name', 'theirs', 'arguments'),
    MODELS,
    ids=[f'{i}-{host.__name__[:5]}-{name}' for i, (host, name, *_) in enumerate(MODELS)],
)
def test_features_are_those_of_the_host(host, name, theirs, arguments, prefix, tmp_path):
    peer = build(host, name, **theirs)
    state_dict = {f'{prefix}{key}': value for key, value in peer.state_dict().items()}
    if prefix:
        state_dict['head.layers.head.weight'] = torch.ones(5, WIDTH)
    torch.save({'state_dict': state_dict, 'meta': {}}, tmp_path / 'epoch_1.pth')
    model = ViT(OURS, patch_size=PATCH, pretrain_size=SIZE, **arguments).eval()
    report = load_pretrained(model, tmp_path / 'epoch_1.pth', parts={'vit': ''})
    assert 'mmpretrain, mmsegmentation' in report.source
    assert 'bicubic' not in ' '.join(report.resized.values())  # but rows of tokens
    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        (out,) = model(image)
        (expected,) = peer(image)
    assert (out - expected).abs().max() < 1e-5 * expected.std()


@pytest.mark.parametrize(
    ('host', 'name', 'arguments', 'word'),
    [
        (mmpretrain, 'VisionTransformer', dict(pre_norm=True), 'CLIP'),
        (mmpretrain, 'ViTEVA02', {}, 'EVA-02'),
        (
            mmpretrain,
            'ViTSAM',
            dict(arch=ARCH | dict(global_attn_indexes=[1]), use_rel_pos=True, out_type='featmap'),
            'SAM',
        ),
        (mmseg, 'VisionTransformer', dict(pre_norm=True), 'CLIP'),
        (mmseg, 'MAE', dict(init_values=1.0), 'MAE'),
    ],
)
def test_others_are_named(host, name, arguments, word):
    peer = build(host, name, **arguments)
    with pytest.raises(CheckpointError) as error:
        load_weights(ViT(OURS), peer.state_dict(), parts={'vit': ''})
    assert word in str(error.value).partition('these weights are of ')[2]
