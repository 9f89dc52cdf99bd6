"""The configs of docs/swap.md, as they stand there: host configs with one of our backbones."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner

from mmhybrid.testing.folders import draw_folder

PAGE = Path(__file__).parents[2] / 'docs' / 'swap.md'
CONFIGS = dict(re.findall(r'```python\n# (\S+\.py)\n(.*?)```', PAGE.read_text('utf-8'), re.DOTALL))
SIZE = (64, 64)
METRICS = dict(mmdet='coco/bbox_mAP', mmseg='mIoU', mmpretrain='accuracy/top1')
# What a swap may touch: the backbone, the channels of what reads it, and how it is trained.
TOUCHED = re.compile(
    r'(model\.(backbone|neck|pretrained)|model\.(\w+_)?head\.in_channels|optim_wrapper\.optimizer'
    r'|param_scheduler)(\..*)?'
)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Tiny folders in the layouts of COCO, ADE20K and ImageNet, by host library."""
    root = tmp_path_factory.mktemp('folders')
    draw_folder('coco', root / 'mmdet', train=2, val=2)
    draw_folder('ade20k', root / 'mmseg', train=2, val=2)
    draw_folder('imagenet', root / 'mmpretrain')
    return root


def read(name, folder):
    path = folder / name
    path.write_text(CONFIGS[name])
    return Config.fromfile(path)


def host_config(source):
    """The host's own file, from the text of a config that has it as base."""
    found = re.search(r"(mm\w+)(?:::|'.*?\.mim/configs/)([\w/.-]+\.py)", source, re.DOTALL)
    library, path = found.groups()
    return Config.fromfile(Path(importlib.import_module(library).__path__[0], '.mim/configs', path))


def flat(node, prefix=''):
    """Every value of a config, by its path, but the scopes that a base by name brings."""
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return {prefix[:-1]: node}
    children = ((key, value) for key, value in node.items() if key != '_scope_')
    return {k: v for key, value in children for k, v in flat(value, f'{prefix}{key}.').items()}


def shrink(node):
    """Two small images, everything in this process, and every box counts, however unlikely."""
    for key, value in node.items():
        if key.endswith('_dataloader'):
            value.update(batch_size=2, num_workers=0, persistent_workers=False)
            value['dataset']['indices'] = 2
        if key in ('scale', 'crop_size', 'size') and value is not None:
            node[key] = SIZE[0] if isinstance(value, int) else SIZE
        if key == 'score_thr':
            node[key] = 0.0
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, dict):
                shrink(child)


def move(node, folder):
    """Point data sets and evaluators to a folder."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, (dict, list)):
            move(value, folder)
    if isinstance(node, dict) and 'data_root' in node:
        node['data_root'] = str(folder)
    elif isinstance(node, dict) and str(node.get('ann_file')).startswith('data/coco/'):
        node['ann_file'] = node['ann_file'].replace('data/coco', str(folder))


def test_the_page_has_a_config_of_every_host():
    hosts = {re.search(r'mm(det|seg|pretrain)', source)[0] for source in CONFIGS.values()}
    assert hosts == set(METRICS) and len(CONFIGS) >= 6


@pytest.mark.parametrize('name', CONFIGS)
def test_nothing_else_is_touched(name, tmp_path):
    before = flat(host_config(CONFIGS[name]).to_dict())
    after = flat(read(name, tmp_path).to_dict())
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert any(key.startswith('model.backbone.') for key in changed)
    assert [key for key in changed if not TOUCHED.fullmatch(key)] == []


@pytest.mark.parametrize('name', CONFIGS)
def test_one_step_and_one_evaluation(name, folders, tmp_path):
    torch.manual_seed(0)
    cfg = read(name, tmp_path)
    scope = cfg.default_scope
    cfg.model.backbone.init_cfg = None  # no download
    cfg.param_scheduler = None
    unit = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
    cfg.train_cfg.update({unit: 1, 'val_begin': 2})
    cfg.default_hooks.checkpoint = None
    cfg.work_dir = str(tmp_path / 'work')
    shrink(cfg._cfg_dict)
    move(cfg._cfg_dict, folders / scope)
    runner = Runner.from_cfg(cfg)
    runner.model = revert_sync_batchnorm(runner.model)
    missing = {name for name, _ in runner.model.backbone.named_parameters()}
    for name, parameter in runner.model.backbone.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: missing.discard(name))
    runner.train()
    assert runner.iter == 1
    assert not missing  # a parameter without a gradient stops distributed training
    assert METRICS[scope] in runner.val()
