"""Every config is read the way the tools read it, and its model is built."""

import re
from importlib.metadata import distributions
from types import SimpleNamespace

import pytest
import torch
import yaml
from mmcv.cnn import is_norm
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmhybrid import config_path
from mmhybrid.models.backbones import SPACH
from tools._zoo import FAMILIES, NAME, OURS, ROOT, config_names

CONFIGS = config_names()
HEADS = {
    'retinanet': 'RetinaNet',
    'maskrcnn': 'MaskRCNN',
    'cascade': 'CascadeRCNN',
    'atss': 'ATSS',
    'gfl': 'GFL',
    'dino': 'DINO',
    'mask2former_panoptic': 'Mask2Former',
    'mask2former_instance': 'Mask2Former',
    'upernet': 'UPerHead',
    'fpn': 'FPNHead',
    'linearseg': 'FCNHead',
    'mask2former': 'Mask2FormerHead',
    'linear': 'LinearClsHead',
    'imagenet': 'ClsHead',
    'cifar10': 'ClsHead',
    'cifar100': 'ClsHead',
}
FORKS = any(re.fullmatch('onedl.mmdetection', it.name) for it in distributions())
# What the metafiles say, see tests/tools/test_make_metafiles.py.
PARAMETERS = {
    f'{model["Name"]}.py': model['Metadata']['Parameters']
    for path in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    for model in yaml.safe_load((ROOT / path).read_text())['Models']
}
LADDER = [name for name in CONFIGS if name.startswith('imagenet_resnetrs_200_')]


def build_model(cfg):
    """Without memory for weights, unless a host's backbone computes while it is built."""
    ours = cfg.model.get('backbone', {}).get('type', '').startswith('mmhybrid.')
    device = torch.device('meta' if ours else 'cpu')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), device:
        return MODELS.build(cfg.model)


def test_there_are_configs():
    assert {'maskrcnn_vitcomer_b.py', 'maskrcnn_vitcomer_t_custom.py'} <= set(CONFIGS)
    assert len(CONFIGS) >= 200


def check_optimizer(cfg, model):
    """It is built, learns all of the model, and scales with the batch as --auto-scale-lr asks."""
    settings = dict(cfg.optim_wrapper, type='OptimWrapper')  # mixed precision wants a GPU
    settings.pop('loss_scale', None)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        wrapper = build_optim_wrapper(model, settings)
    groups = wrapper.optimizer.param_groups
    learned = sum(p.requires_grad for group in groups for p in group['params'])
    assert learned == sum(p.requires_grad for p in model.parameters())
    given = settings.get('paramwise_cfg') or {}
    if given.get('norm_decay_mult') == 0 or 'LayerDecay' in settings.get('constructor', ''):
        decays = {id(p): group['weight_decay'] for group in groups for p in group['params']}
        # Of the backbone: heads with a rate of their own decay whole in a published recipe.
        for norm in filter(is_norm, getattr(model, 'backbone', model).modules()):
            assert not any(decays.get(id(p)) for p in norm.parameters())
    rates = [group['lr'] for group in groups]
    assert max(rates) >= cfg.optim_wrapper.optimizer.lr * 0.99

    batch = cfg.train_dataloader.batch_size
    runner = SimpleNamespace(
        _train_dataloader=dict(batch_size=batch),
        world_size=1,
        param_schedulers=None,
        logger=MMLogger.get_current_instance(),
    )
    Runner.scale_lr(runner, wrapper, dict(cfg.auto_scale_lr, enable=True))
    ratio = batch / cfg.auto_scale_lr.base_batch_size
    assert [group['lr'] for group in groups] == pytest.approx([ratio * rate for rate in rates])


def check_head(scope, model, head):
    """It is the one that the name says."""
    part = getattr(model, {'mmseg': 'decode_head', 'mmpretrain': 'head'}.get(scope, ''), model)
    assert type(part).__name__ == HEADS[head]
    if head.startswith('mask2former_'):
        assert bool(model.num_stuff_classes) == (head == 'mask2former_panoptic')


def check_channels(model, channels):
    """What stands behind the backbone takes its maps: a neck where there is one, or the heads."""
    if 'head' in model:  # a classifier's, of the last map; or the backbone's own
        assert model.head.get('in_channels', channels[-1]) == channels[-1]
        return
    parts = ('neck',) if 'neck' in model else ('decode_head', 'panoptic_head')
    found = [model[part].in_channels for part in parts if part in model]
    assert found == [channels]


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds(name):
    match = NAME.fullmatch(name)
    family = match['family']
    cfg = Config.fromfile(config_path(name))
    assert cfg.default_scope in ('mmdet', 'mmseg', 'mmpretrain')
    assert cfg.default_hooks.checkpoint.type == 'mmhybrid.AtomicCheckpointHook'
    if cfg.train_cfg.get('type') == 'IterBasedTrainLoop':  # else all scores are logged at step 0
        assert cfg.default_hooks.logger.log_metric_by_epoch is False
    for split in ('train', 'val', 'test'):
        assert {f'{split}_cfg', f'{split}_dataloader'} <= set(cfg)
    if name in LADDER[1:-1]:
        return  # the steps between: see the ladder's own test
    model = build_model(cfg)
    check_optimizer(cfg, model)
    # The metafiles count with the OneDL forks, whose DINO has more weights than MMDetection's.
    counted = FORKS or not name.startswith('dino_')
    if counted and not name.startswith('demo_') and not name.endswith('_custom.py'):
        count = sum(p.numel() for p in model.parameters())
        assert count == PARAMETERS.get(name), 'run python tools/make_metafiles.py'
    if name in LADDER:
        assert type(model).__name__ == 'TimmClassifier'
        return
    check_head(cfg.default_scope, model, match['head'])
    assert type(model.backbone).__name__ == FAMILIES[family]
    if family in OURS:
        channels = list(model.backbone.out_channels)
        strides = list(model.backbone.out_strides)
        if len(set(strides)) == 1:
            return  # a plain ViT's maps, whose neck takes one or makes a pyramid
        assert strides == sorted(set(strides))
        check_channels(cfg.model, channels)


@pytest.mark.parametrize(
    'name, millions',
    [
        *[('vitcomer_t', 28.84), ('vitcomer_s', 50.31), ('vitcomer_b', 128.84)],
        *[('vitcomer_l', 362.85), ('vitadapter_t', 28.07), ('vitadapter_s', 47.80)],
        *[('vitadapter_b', 120.19), ('vitadapter_l', 347.54)],
    ],
)
def test_published_detectors_have_the_published_size(name, millions):
    model = build_model(Config.fromfile(config_path(f'maskrcnn_{name}')))
    positions = model.backbone.vit.pos_embed  # the published count is at 224 pixels: 14 x 14
    count = sum(p.numel() for p in model.parameters())
    count -= positions.numel() - 196 * positions.shape[-1]
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_pyramids_of_plain_vits_fit_them():
    names = [name for name in CONFIGS if re.match(r'(?!demo|imagenet|linear).*_vitc?_', name)]
    assert len(names) >= 30
    for name in names:
        cfg = Config.fromfile(config_path(name))
        backbone = build_model(cfg).backbone
        assert cfg.model.neck.type == 'mmhybrid.SimplePyramid'
        assert (cfg.model.neck.in_channels,) == backbone.out_channels
        anchors = cfg.model.get('rpn_head', cfg.model.get('bbox_head', {})).get('anchor_generator')
        if anchors:
            assert list(cfg.model.neck.strides) == list(anchors.strides)


def test_every_step_of_the_ladder_changes_one_thing():
    assert len(LADDER) == 11
    steps = [Config.fromfile(config_path(name)).to_dict() for name in LADDER]
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
    model = build_model(Config.fromfile(config_path(LADDER[-1])))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(93.21, abs=0.005)


def test_base_files_are_our_own():
    for path in (ROOT / 'configs').rglob('*.py'):
        assert not re.search(r"_base_ = .*'mm\w+::", path.read_text()), path


def test_demo_classes_are_those_drawn():
    from mmhybrid.data.demo import CLASSES, PALETTE

    instance = Config.fromfile(ROOT / 'configs/_base_/datasets/demo_instance.py')
    semantic = Config.fromfile(ROOT / 'configs/_base_/datasets/demo_semantic.py')
    crops = Config.fromfile(ROOT / 'configs/_base_/datasets/demo_crops.py')
    assert tuple(instance.metainfo.classes) == CLASSES
    assert tuple(crops.classes) == tuple(sorted(CLASSES))  # the order of folders
    assert tuple(semantic.metainfo.classes) == ('background', *CLASSES)
    assert tuple(map(tuple, instance.metainfo.palette)) == PALETTE
    assert tuple(map(tuple, semantic.metainfo.palette[1:])) == PALETTE


@pytest.mark.parametrize(
    'name', ['custom_instance_scratch', 'custom_semantic_scratch', 'demo_semantic']
)
def test_modules_that_blocks_share_are_optimised_once(name):
    cfg = Config.fromfile(ROOT / f'configs/_base_/{name}.py')
    arch = dict(embed_dims=8, num_heads=1, stages=[[('attn', 2)]])
    backbone = SPACH(arch=arch, shared_mixing=True)
    wrapper = build_optim_wrapper(nn.ModuleDict(dict(backbone=backbone)), cfg.optim_wrapper)
    learned = [p for group in wrapper.optimizer.param_groups for p in group['params']]
    assert len(learned) == len(list(backbone.parameters()))
