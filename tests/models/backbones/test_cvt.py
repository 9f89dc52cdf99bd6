import re

import pytest
import torch

from mmhybrid.checkpoints import CheckpointError, load_weights
from mmhybrid.models.backbones import CvT
from tests.models.backbones.contract import BackboneContract
from tests.models.drawn import draw_parameters, names_without_gradient

TINY = dict(embed_dims=(8, 16, 32), depths=(1, 2, 2), num_heads=(1, 2, 4))


class TestCvT(BackboneContract):
    backbone = CvT
    arguments = dict(arch=TINY)
    channels = (8, 16, 32)
    strides = (4, 8, 16)
    stages = 3
    # The class token of the last stage passes no convolution, whose norm shifts the other keys.
    without_gradient = r'(proj_k|stages\.[01]\..*conv_proj_k\.norm)\.bias$'


class TestAveragePooling(TestCvT):
    arguments = dict(arch=TINY, projection='avg')


class TestLinear(TestCvT):
    arguments = dict(arch=TINY, projection='linear', class_token=False)


# With the head of 1000 classes, counted on the original's code.
@pytest.mark.parametrize(
    ('arch', 'count'), [('13', 19_997_480), ('21', 31_622_696), ('w24', 277_196_392)]
)
def test_parameter_counts_are_the_originals(arch, count):
    with torch.device('meta'):
        model = CvT(arch, num_classes=1000)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(
    'arguments',
    [
        dict(projection=('dw_bn', 'avg', 'linear')),
        dict(class_token=(True, False, True), qkv_bias=(True, False, True)),
        dict(qkv_kernel=5, kv_stride=(4, 2, 1), proj_norm_cfg=dict(type='GN', num_groups=2)),
        dict(patch_paddings=(3, 1, 1), num_classes=5),
        dict(class_token=False, num_classes=5),
    ],
)
def test_options_train(arguments):
    model, image = draw_parameters(CvT(TINY, **arguments)), torch.randn(2, 3, 70, 61)
    outs = model(image)
    assert [tuple(out.shape[2:]) for out in outs[:3]] == [(18, 16), (9, 8), (5, 4)]
    without = names_without_gradient(model, image)
    shifts_all_keys = r'proj_k(\.norm)?\.bias$'
    assert not [name for name in without if not re.search(shifts_all_keys, name)]


def test_logits_come_after_the_maps():
    model = CvT(TINY, out_indices=(0, 2), num_classes=7)
    *maps, logits = model(torch.randn(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == [8, 32] and logits.shape == (1, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_earlier_stages_have_no_drop_path():
    rates = [[b.drop_path.rate for b in s.blocks] for s in CvT(TINY, drop_path_rate=0.3).stages]
    assert rates == [[0.0], [0.0, 0.0], [0.0, 0.3]]


def test_layer_depths_follow_the_blocks():
    model = CvT(TINY, num_classes=2)
    assert model.get_layer_depth('b.stages.0.patch_embed.proj.weight', 'b.') == (0, 7)
    assert model.get_layer_depth('b.stages.1.patch_embed.proj.weight', 'b.') == (2, 7)
    assert model.get_layer_depth('b.stages.2.cls_token', 'b.') == (4, 7)
    assert model.get_layer_depth('b.stages.2.blocks.1.norm1.weight', 'b.') == (5, 7)
    assert model.get_layer_depth('b.head.weight', 'b.') == (6, 7)


def published(**arguments):
    """A state dict in the original's names."""
    model = CvT(TINY, num_classes=4, **arguments)
    state_dict = {}
    for name, tensor in model.state_dict().items():
        name = re.sub(r'(conv_proj_[qkv])\.norm', r'\1.bn', name.replace('stages.', 'stage'))
        state_dict[name] = torch.rand_like(tensor.float())
    return state_dict


def test_head_and_class_token_are_left_out_by_option():
    file = published()
    model = CvT(TINY, num_classes=4)
    report = load_weights(model, {'model': file}, parts=model.pretrained_parts)
    assert report.source == 'CvT' and report.percent == 100 and not report.dropped
    assert torch.equal(model.head.weight, file['head.weight'])

    model = CvT(TINY, class_token=False)
    report = load_weights(model, file, parts=model.pretrained_parts)
    assert report.percent == 100 and not report.unused
    assert report.dropped == {
        'stages.2.cls_token': 'class_token=False',
        **dict.fromkeys(('norm.weight', 'norm.bias', 'head.weight', 'head.bias'), 'num_classes=0'),
    }


def test_a_head_that_the_file_lacks_is_missed():
    file = {name: t for name, t in published().items() if not name.startswith(('head', 'norm'))}
    model = CvT(TINY, num_classes=4)
    with pytest.raises(CheckpointError, match=r'partly filled.*missing 4: norm\.weight'):
        load_weights(model, file, parts=model.pretrained_parts)


def test_own_files_keep_their_head():
    saved = CvT(TINY, num_classes=4)
    for model in (CvT(TINY, num_classes=4), CvT(TINY)):
        state_dict = {f'backbone.{name}': t for name, t in saved.state_dict().items()}
        report = load_weights(model, state_dict, parts=model.pretrained_parts)
        assert report.source == 'mmhybrid' and report.percent == 100
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, saved.state_dict()[name])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(projection='conv'), r"projection='conv': expected 'dw_bn' or 'avg' or 'linear'"),
        (dict(kv_stride=(2, 2)), r'kv_stride has 2 entries for 3 stages: \(2, 2\)'),
        (dict(qkv_kernel=4), r'qkv_kernel=4: an even one has no centre'),
        (dict(patch_paddings=(0, 1, 1)), r'patch_size 7, patch_stride 4 and patch_padding 0'),
        (dict(arch={**TINY, 'num_heads': (3, 2, 4)}), r'num_heads=3 does not divide embed_dims=8'),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        CvT(**{'arch': TINY, **arguments})
