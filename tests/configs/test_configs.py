"""Every config is read the way the tools read it, and its model is built."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(p.name for p in (ROOT / 'configs').glob('*.py'))
PYRAMIDS = {'cmt': 'CMT', 'spach': 'SPACH', 'vitadapter': 'ViTAdapter', 'vitcomer': 'ViTCoMer'}
HOSTS = {'convnext': 'ConvNeXt', 'resnet': 'ResNet', 'resnetrs': 'TIMMBackbone'}
BACKBONES = PYRAMIDS | HOSTS | {
    'cvt': 'CvT', 'vit': 'ViT', 'vitc': 'ConvStemViT', 'vitp': 'ConvStemViT'
}  # fmt: skip
LADDER = [name for name in CONFIGS if name.startswith('imagenet_resnetrs_200_')]
# {head}_{backbone}_{size}[_{weights}][_{schedule}][_{data}].py
NAME = re.compile(
    rf'(demo_)?(cifar10|cifar100|imagenet|linear|maskrcnn|retinanet|upernet)_({"|".join(BACKBONES)})_[a-z0-9]+'
    r'(_[a-z0-9]+)*\.py'
)


def build_model(cfg):
    """Without memory for weights, unless a host's backbone computes while it is built."""
    ours = cfg.model.get('backbone', {}).get('type', '').startswith('mmhybrid.')
    device = torch.device('meta' if ours else 'cpu')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), device:
        return MODELS.build(cfg.model)


def test_there_are_configs():
    assert {'maskrcnn_vitcomer_b.py', 'maskrcnn_vitcomer_t_custom.py'} <= set(CONFIGS)
    assert len(CONFIGS) >= 10


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds(name):
    match = NAME.fullmatch(name)
    assert match
    cfg = Config.fromfile(ROOT / 'configs' / name)
    assert cfg.default_scope in ('mmdet', 'mmseg', 'mmpretrain')
    assert cfg.default_hooks.checkpoint.type == 'mmhybrid.AtomicCheckpointHook'
    for split in ('train', 'val', 'test'):
        assert {f'{split}_cfg', f'{split}_dataloader'} <= set(cfg)
    if name in LADDER[1:-1]:
        return  # the steps between: see the ladder's own test
    model = build_model(cfg)
    if name in LADDER:
        assert type(model).__name__ == 'TimmClassifier'
        return
    assert type(model.backbone).__name__ == BACKBONES[match[3]]
    if match[3] in PYRAMIDS:
        channels = list(model.backbone.out_channels)
        assert list(model.backbone.out_strides)[-3:] == [8, 16, 32]
        for part in ('neck', 'decode_head'):
            assert cfg.model.get(part, {}).get('in_channels', channels) == channels


@pytest.mark.parametrize(
    'name, millions',
    [
        *[('vitcomer_t', 28.84), ('vitcomer_s', 50.31), ('vitcomer_b', 128.84)],
        *[('vitcomer_l', 362.85), ('vitadapter_t', 28.07), ('vitadapter_s', 47.80)],
        *[('vitadapter_b', 120.19), ('vitadapter_l', 347.54)],
    ],
)
def test_published_detectors_have_the_published_size(name, millions):
    model = build_model(Config.fromfile(ROOT / f'configs/maskrcnn_{name}.py'))
    positions = model.backbone.vit.pos_embed  # the published count is at 224 pixels: 14 x 14
    count = sum(p.numel() for p in model.parameters())
    count -= positions.numel() - 196 * positions.shape[-1]
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_pyramids_of_plain_vits_fit_them():
    names = [name for name in CONFIGS if re.match(r'(maskrcnn|retinanet|upernet)_vitc?_', name)]
    assert len(names) >= 12
    for name in names:
        cfg = Config.fromfile(ROOT / 'configs' / name)
        backbone = build_model(cfg).backbone
        assert cfg.model.neck.type == 'mmhybrid.SimplePyramid'
        assert (cfg.model.neck.in_channels,) == backbone.out_channels
        anchors = cfg.model.get('rpn_head', cfg.model.get('bbox_head', {})).get('anchor_generator')
        if anchors:
            assert list(cfg.model.neck.strides) == list(anchors.strides)


def test_every_step_of_the_ladder_changes_one_thing():
    assert len(LADDER) == 11
    steps = [Config.fromfile(ROOT / 'configs' / name).to_dict() for name in LADDER]
    changes = []
    for before, after in zip(steps, steps[1:], strict=False):
        keys = {key for key in before | after if before.get(key) != after.get(key)}
        # An epoch count and its schedule go together, and a pipeline stands where it is used too.
        changes.append(keys - {'train_cfg', 'train_pipeline'})
    assert changes == [
        {'param_scheduler'},
        {'param_scheduler'},
        {'custom_hooks'},
        {'model'},
        {'model'},
        {'train_dataloader'},
        {'model'},
        {'optim_wrapper'},
        {'model'},
        {'model'},
    ]
    assert steps[-1]['model']['model_name'] == 'resnetrs200'


def test_the_ladder_ends_at_resnet_rs():
    model = build_model(Config.fromfile(ROOT / 'configs' / LADDER[-1]))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(93.21, abs=0.005)


def test_base_files_are_our_own():
    for path in (ROOT / 'configs').rglob('*.py'):
        assert not re.search(r"_base_ = .*'mm\w+::", path.read_text()), path


def test_demo_classes_are_those_drawn():
    from mmhybrid.datasets.demo import CLASSES, PALETTE

    instance = Config.fromfile(ROOT / 'configs/_base_/datasets/demo_instance.py')
    semantic = Config.fromfile(ROOT / 'configs/_base_/datasets/demo_semantic.py')
    crops = Config.fromfile(ROOT / 'configs/_base_/datasets/demo_crops.py')
    assert tuple(instance.metainfo.classes) == CLASSES == tuple(crops.classes)
    assert tuple(semantic.metainfo.classes) == ('background', *CLASSES)
    assert tuple(map(tuple, instance.metainfo.palette)) == PALETTE
    assert tuple(map(tuple, semantic.metainfo.palette[1:])) == PALETTE
