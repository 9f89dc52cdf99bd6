"""Another implementation, Hugging Face's, with random weights: same features.

Its weights are renamed to the form in which the models' authors publish theirs, and go the way of
any checkpoint from there.
"""

import re

import pytest
import torch

from mmhybrid.checkpoints import load_weights
from mmhybrid.models.backbones import ViT

transformers = pytest.importorskip('transformers')

WIDTH, DEPTH, HEADS = 48, 3, 3
SIZE = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS)
ARCH = dict(embed_dims=WIDTH, depth=DEPTH, num_heads=HEADS, layer_scale=1.0)
RENAMED = (
    (r'^embeddings\.patch_embeddings\.(projection\.)?', 'patch_embed.proj.'),
    (r'^embeddings\.position_embeddings', 'pos_embed'),
    (r'^embeddings\.', ''),
    (r'^(encoder\.)?layer\.', 'blocks.'),
    (r'\.attention\.attention\.(q|k|v)\w+', r'.attention.\1_proj'),
    (r'\.attention\.(o_proj|output\.dense)\.', '.attn.proj.'),
    (r'\.layer_scale([12])\.lambda1', r'.ls\1.gamma'),
    (r'\.mlp\.up_proj\.', '.mlp.fc1.'),
    (r'\.mlp\.down_proj\.', '.mlp.fc2.'),
    (r'^layernorm\.', 'norm.'),
)


def as_published(peer):
    """The state dict of a model of transformers, under the names of the authors' files."""
    published = {}
    for key, tensor in peer.state_dict().items():
        for pattern, name in RENAMED:
            key = re.sub(pattern, name, key)
        published[key] = tensor
    for i in range(DEPTH):
        for kind in ('weight', 'bias'):
            parts = [f'blocks.{i}.attention.{part}_proj.{kind}' for part in 'qkv']
            missing = torch.zeros(WIDTH)  # DINOv3 has no key bias
            tensors = [published.pop(part, missing) for part in parts]
            published[f'blocks.{i}.attn.qkv.{kind}'] = torch.cat(tensors)
    return published


def compare(peer, model, published, size):
    report = load_weights(model, published, parts={'vit': ''})
    assert report.percent == 100 and not report.neutral
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        (out,) = model(image)
        tokens = peer(pixel_values=image).last_hidden_state[:, model.num_prefix_tokens :]
    expected = tokens.transpose(1, 2).unflatten(2, out.shape[2:])
    assert (out - expected).abs().max() < 1e-4 * expected.std()


def randomised(peer):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return peer.eval()


def test_dinov2():
    config = transformers.Dinov2Config(**SIZE, image_size=56, patch_size=14)
    peer = randomised(transformers.Dinov2Model(config))
    model = ViT(ARCH, patch_size=14, pretrain_size=56, final_norm=True).eval()
    compare(peer, model, as_published(peer), (56, 56))


@pytest.mark.skipif(
    not hasattr(transformers, 'DINOv3ViTModel'),
    reason='DINOv3 came with transformers 4.56, which the OpenMMLab stack does not bear',
)
def test_dinov3_at_any_size():
    config = transformers.DINOv3ViTConfig(
        **SIZE, intermediate_size=4 * WIDTH, patch_size=16, num_register_tokens=4
    )
    peer = randomised(transformers.DINOv3ViTModel(config))
    published = as_published(peer)
    published['storage_tokens'] = published.pop('register_tokens')
    published['mask_token'] = published['mask_token'][:, 0]
    count = WIDTH // HEADS // 4
    published['rope_embed.periods'] = 100.0 ** (torch.arange(count) / count)
    for i in range(DEPTH):
        mask = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(WIDTH)
        published[f'blocks.{i}.attn.qkv.bias_mask'] = mask
    norm = dict(type='LN', eps=1e-5)
    model = ViT(
        ARCH, position='rope', num_registers=4, mask_key_bias=True, norm_cfg=norm, final_norm=True
    )
    compare(peer, model.eval(), published, (64, 96))
