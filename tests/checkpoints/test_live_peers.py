"""The living originals, with random weights: same file, same features."""

import pytest
import torch

from mmhybrid.checkpoints import OFFICIAL_FILES, load_pretrained, load_weights
from mmhybrid.checkpoints.plain_vit import convert_timm_dinov3
from mmhybrid.models.backbones import ViT
from tests.checkpoints import published

timm = pytest.importorskip('timm')

TINY = dict(embed_dim=48, depth=3, num_heads=3, img_size=64)
ARCH = dict(embed_dims=48, depth=3, num_heads=3)
DINOV3 = dict(
    position='rope',
    num_registers=4,
    layer_scale=1.0,
    mask_key_bias=True,
    norm_cfg=dict(type='LN', eps=1e-5),
)
PEERS = {
    'vit_tiny_patch16_224': {},
    'deit_tiny_distilled_patch16_224': dict(dist_token=True),
    'deit3_small_patch16_224': dict(layer_scale=1.0),
    'vit_base_patch14_dinov2': dict(layer_scale=1.0, patch_size=14, pretrain_size=56),
    'vit_base_patch14_reg4_dinov2': dict(
        layer_scale=1.0, patch_size=14, pretrain_size=56, num_registers=4
    ),
    'vit_giant_patch14_dinov2': dict(
        layer_scale=1.0, patch_size=14, pretrain_size=56, ffn='swiglu'
    ),
    'vit_small_patch16_dinov3': DINOV3 | dict(qkv_bias=False),
    'vit_small_patch16_dinov3_qkvb': DINOV3,
    'vit_small_plus_patch16_dinov3_qkvb': DINOV3 | dict(ffn='swiglu', mlp_ratio=6),
    'beit_base_patch16_224': dict(layer_scale=1.0, position='relative', mask_key_bias=True),
    'beitv2_base_patch16_224': dict(layer_scale=1.0, position='relative', mask_key_bias=True),
}


@pytest.mark.parametrize('name', PEERS)
def test_timm(name):
    torch.manual_seed(0)
    options = dict(patch_size=16, pretrain_size=64) | PEERS[name]
    arguments = TINY | dict(img_size=options['pretrain_size'])
    arch = ARCH | dict(mlp_ratio=options.pop('mlp_ratio', 4))
    if 'ffn' in options and arch['mlp_ratio'] == 4:
        arguments['mlp_ratio'] = 8 / 3 * 2  # timm's ratio counts both halves
    peer = timm.create_model(name, pretrained=False, **arguments).eval()
    with torch.no_grad():
        for parameter in peer.parameters():  # timm starts tokens and biases at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    model = ViT(arch, out_indices=(0, 2), **options).eval()
    report = load_weights(model, peer.state_dict(), parts={'vit': ''})
    assert report.percent == 100 and not report.neutral
    image = torch.randn(2, 3, *[options['pretrain_size']] * 2)
    with torch.no_grad():
        expected = peer.forward_intermediates(
            image, indices=[0, 2], norm=False, intermediates_only=True
        )
        outputs = model(image)
    for output, reference in zip(outputs, expected, strict=True):
        assert (output - reference).abs().max() < 1e-4 * reference.std()


def test_augreg_as_google_publishes_it(tmp_path):
    numpy = pytest.importorskip('numpy')
    path = tmp_path / 'Ti_16-i21k-300ep.npz'
    arrays = published.augreg(width=48, patch=16).items()
    # Heads of timm's 16 numbers each, not of published's 24.
    heads = {(2, 24): (3, 16), (48, 2, 24): (48, 3, 16), (2, 24, 48): (3, 16, 48)}
    numpy.savez(path, **{k: v.reshape(heads.get(tuple(v.shape), v.shape)) for k, v in arrays})
    peer = timm.create_model('vit_tiny_patch16_224', num_classes=5, **TINY).eval()
    peer.load_pretrained(str(path))
    model = ViT(ARCH, pretrain_size=64).eval()
    load_pretrained(model, path, parts={'vit': ''})
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (expected,) = peer.forward_intermediates(
            image, indices=[2], norm=False, intermediates_only=True
        )
        (output,) = model(image)
    assert (output - expected).abs().max() < 1e-4 * expected.std()


# What timm publishes of DINOv3 and EUPE, by the beginning of its names: the arch of ours
DINOV3_SIZES = {
    'vit_tiny_': 'dinov3_t',
    'vit_small_patch': 'dinov3_s',
    'vit_small_plus': 'dinov3_splus',
    'vit_base_': 'dinov3_b',
    'vit_large_': 'dinov3_l',
    'vit_huge_plus': 'dinov3_hplus',
    'vit_7b_': 'dinov3_7b',
}


@pytest.mark.parametrize(
    'name', sorted({name.partition('.')[0] for name in OFFICIAL_FILES if '_dinov3' in name})
)
def test_presets_have_the_parameters_of_timm(name):
    with torch.device('meta'):
        peer = timm.create_model(name).state_dict()
        arch = next(arch for start, arch in DINOV3_SIZES.items() if name.startswith(start))
        model = ViT(arch, qkv_bias='qkvb' in name, final_norm=True).state_dict()
    # Beside rotary positions, which timm may keep.
    peer = {key: tensor for key, tensor in peer.items() if not key.startswith('rope.')}
    shapes = {key: tensor.shape for key, tensor in convert_timm_dinov3(peer).items()}
    assert shapes == {key: tensor.shape for key, tensor in model.items()}


def test_7b_has_no_bias_of_queries_by_itself():
    with torch.device('meta'):
        assert 'blocks.0.attn.qkv.bias' not in ViT('dinov3_7b').state_dict()


def test_files_are_where_timm_has_them():
    names = [name for name, official in OFFICIAL_FILES.items() if '/timm/' in str(official.url)]
    assert len(names) == 8 + 18 + 3
    for name in names:
        repository = OFFICIAL_FILES[name].url.removesuffix('/resolve/main/model.safetensors')
        model = repository.rpartition('/')[2]
        assert model.startswith(name.removeprefix('augreg_'))
        hub = timm.models.get_pretrained_cfg(model, allow_unregistered=False).hf_hub_id
        assert repository == f'https://huggingface.co/{hub}'
