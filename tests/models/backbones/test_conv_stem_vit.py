import pytest
import torch

from mmhybrid.checkpoints import load_weights
from mmhybrid.models.backbones import ConvStemViT, build_backbone
from tests.models.backbones.contract import BackboneContract
from tests.models.drawn import draw_parameters, names_without_gradient

PATCHIFY = dict(embed_dims=32, depth=4, num_heads=2, pretrain_size=64)
TINY = {**PATCHIFY, 'stem_channels': (8, 8, 16, 16), 'stem_strides': (2, 2, 2, 2)}


class TestConvStem(BackboneContract):
    backbone = ConvStemViT
    arguments = dict(arch=TINY, out_indices=(1, 3))
    channels = (32, 32)
    strides = (16, 16)
    stages = 4


class TestPatchifyStem(TestConvStem):
    arguments = dict(arch=PATCHIFY, out_indices=(1, 3))


class TestWindows(TestConvStem):
    arguments = dict(
        arch=TINY, out_indices=(1, 3), windows=(2, 2, 0, 2), class_token=False, final_norm=True
    )


# With the head of 1000 classes, counted on the original's code; it has no code for S1 to S4.
@pytest.mark.parametrize(
    ('arch', 'count'),
    [
        ('c_1gf', 4_567_936),
        ('c_4gf', 17_754_136),
        ('c_18gf', 81_573_160),
        ('c_36gf', 167_796_008),
        ('p_1gf', 4_830_376),
        ('p_4gf', 18_507_112),
        ('p_18gf', 86_567_656),
        ('p_36gf', 178_364_392),
    ],
)
def test_parameter_counts_are_the_originals(arch, count):
    with torch.device('meta'):
        model = ConvStemViT(arch, num_classes=1000)
    assert sum(p.numel() for p in model.parameters()) == count


# Table 3 of the paper: multiply-adds at 224 x 224 pixels and parameters of each stem, in millions.
@pytest.mark.parametrize(
    ('stem', 'flops', 'parameters'),
    [
        ('p', 58, 0.3),
        ('c', 435, 1.0),
        ('s1', 422, 0.8),
        ('s2', 422, 0.7),
        ('s3', 458, 0.7),
        ('s4', 407, 0.6),
    ],
)
def test_stems_cost_what_the_paper_says(stem, flops, parameters):
    with torch.device('meta'):
        stem = ConvStemViT(f'{stem}_4gf').stem
    total = 0

    def count(conv, _, out):
        nonlocal total
        total += out[0, 0].numel() * conv.weight.numel()

    for module in stem.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    tokens, grid = stem(torch.empty(1, 3, 224, 224, device='meta'))
    assert grid == (14, 14) and tokens.shape == (1, 196, 384)
    assert round(total / 1e6) == flops
    assert round(sum(p.numel() for p in stem.parameters()) / 1e6, 1) == parameters


@pytest.mark.parametrize(
    'arguments',
    [
        dict(stem_norm_cfg=dict(type='LN2d'), num_classes=5),
        dict(stem_channels=(8, 8), stem_kernels=(3, 4), stem_strides=(2, 4)),
        dict(stem_channels=(8, 8), stem_kernels=(3, 16), stem_strides=(1, 16), num_classes=5),
        dict(class_token=False, num_classes=5),
        dict(patch_size=32, final_norm=True),
    ],
)
def test_options_train(arguments):
    model, image = draw_parameters(ConvStemViT(TINY, **arguments)), torch.randn(2, 3, 70, 61)
    outs = model(image)
    assert outs[0].shape[2:] == ((3, 2) if 'patch_size' in arguments else (5, 4))
    assert not names_without_gradient(model, image)


def test_logits_come_after_the_maps_and_last_block():
    model = ConvStemViT(TINY, out_indices=(0, 2), num_classes=7)
    torch.nn.init.normal_(model.head.weight)
    *maps, logits = model(torch.randn(1, 3, 64, 64))
    assert len(maps) == 2 and logits.shape == (1, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_an_adapter_can_wrap_it():
    """It answers as the plain ViT does: embed, then blocks."""
    model = ConvStemViT(TINY).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        tokens, grid = model.embed(image)
        assert tokens.shape == (1, model.num_prefix_tokens + 24, model.embed_dims)
        tokens = model.run_blocks(tokens, grid, 0, model.depth)[:, model.num_prefix_tokens :]
        (out,) = model(image)
    # The outputs leave by other paths, whose sums differ by a rounding on some processors.
    expected = tokens.transpose(1, 2).unflatten(2, grid)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def published(**arguments):
    """A state dict in the original's names."""
    model = ConvStemViT(TINY, num_classes=4, **arguments)
    names = {
        'stem.proj': 'stem.cstem_last_conv', 'norm1': 'ln_1', 'norm2': 'ln_2',
        'attn.qkv.': 'self_attention.block.in_proj_', 'attn.proj': 'self_attention.block.out_proj',
        'mlp.fc': 'mlp_block.linear_', 'cls_token': 'class_token', 'head.': 'head.head_fc.',
        'blocks.': 'encoder.block_',
    }  # fmt: skip
    state_dict = {}
    for name, tensor in model.state_dict().items():
        if name.startswith('stem.layers.'):
            _, _, index, part, leaf = name.split('.')
            name = f'stem.cstem{index}_{("conv", "bn")[int(part)]}.{leaf}'
        elif name.startswith('norm.'):
            name = f'encoder.ln.{name.removeprefix("norm.")}'
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state_dict[name] = torch.rand_like(tensor.float())
    state_dict['pos_embedding'] = state_dict.pop('pos_embed').transpose(0, 1)
    return state_dict


def test_original_files_load():
    file = published()
    model = ConvStemViT(TINY, num_classes=4)
    report = load_weights(model, {'model_state': 0, 'model': file}, parts=model.pretrained_parts)
    assert report.source == 'ViT_C and ViT_P' and report.percent == 100 and not report.dropped
    assert torch.equal(model.pos_embed[0], file['pos_embedding'][:, 0])

    model = ConvStemViT(TINY, class_token=False, pretrain_size=96)
    report = load_weights(model, file, parts=model.pretrained_parts)
    assert report.percent == 100 and '4x4 -> 6x6' in report.resized['pos_embed']
    assert set(report.dropped) == {
        'cls_token', 'norm.weight', 'norm.bias', 'head.weight', 'head.bias'
    }  # fmt: skip


def test_own_files_are_not_taken_for_a_plain_vits():
    saved, model = ConvStemViT(TINY, num_classes=4), ConvStemViT(TINY)
    state_dict = {f'backbone.{name}': t for name, t in saved.state_dict().items()}
    report = load_weights(model, state_dict, parts=model.pretrained_parts)
    assert report.source == 'mmhybrid' and report.percent == 100
    assert torch.equal(model.stem.proj.weight, saved.stem.proj.weight)


def test_names():
    assert build_backbone('vit_c_1gf').depth == 11
    assert build_backbone('vit_p_1gf').depth == 12


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(stem_strides=(2, 2)), r'differ in length'),
        (dict(stem_strides=(2, 2, 2, 3)), r'multiply to 24, which does not divide patch_size=16'),
        (dict(stem_kernels=(3, 3, 3, 4)), r'kernel 4 and stride 2; expected an odd kernel'),
        (dict(stem_kernels=(3, 3, 3, 1)), r'kernel 1 and stride 2; expected an odd kernel'),
        (dict(windows=2), r'no place for class_token=True; set class_token=False, or windows=0'),
        (dict(windows=(2, 2), class_token=False), r'windows has 2 entries for 4 blocks'),
        (dict(arch={**TINY, 'num_heads': 5}), r'num_heads=5 does not divide embed_dims=32'),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvStemViT(**{'arch': TINY, **arguments})
