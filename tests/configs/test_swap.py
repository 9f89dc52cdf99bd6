"""Configs of docs/swap.md and README.md, as they stand there: host configs with our backbones."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner

from mmhybrid.testing.folders import draw_folder
from mmhybrid.testing.tasks import ConfigTask
from tests.models.backbones.test_cmt import TINY

PAGE = Path(__file__).parents[2] / 'docs' / 'swap.md'
TEXT = PAGE.read_text('utf-8') + (PAGE.parents[1] / 'README.md').read_text('utf-8')
CONFIGS = dict(re.findall(r'```python\n# (\S+\.py)\n(.*?)```', TEXT, re.DOTALL))
SIZE = (64, 64)
METRICS = dict(mmdet='coco/bbox_mAP', mmseg='mIoU', mmpretrain='accuracy/top1')
# What a swap may touch: the backbone, the channels of what reads it, and how it is trained.
TOUCHED = re.compile(
    r'(model\.(backbone|neck|pretrained)|model\.(\w+_)?head\.in_channels|optim_wrapper\.optimizer'
    r'|param_scheduler)(\..*)?'
)
# What else has to change in models of the hosts that read a backbone in ways of their own, for a
# backbone of 8, 16, 24 and 32 channels.
HOSTS = {
    'mmdet/detr/detr_r50_8xb2-150e_coco.py': {
        'backbone.out_indices': [3],
        'neck.in_channels': [32],
        'encoder.num_layers': 1,
        'decoder.num_layers': 1,
    },
    'mmdet/yolof/yolof_r50-c5_8xb8-1x_coco.py': {
        'backbone.out_indices': [3],
        'neck.in_channels': 32,
    },
    'mmseg/ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024.py': {
        'decode_head.0.in_index': 3,
        'decode_head.0.in_channels': 32,
        'decode_head.1.in_channels': 32,
    },
}


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
    return host_file(*found.groups())


def host_file(library, path):
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
    assert 'mask-rcnn_vitcomer-s.py' in CONFIGS  # of README.md


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


def swap(name, changes, folder):
    """The model of a host's own config with a tiny backbone, and something to do."""
    library, path = name.split('/', 1)
    cfg = host_file(library, path)
    cfg.default_scope = library
    cfg.model.backbone = dict(type='mmhybrid.CMT', arch=TINY)
    cfg.model.pop('pretrained', None)
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    cfg.dump(folder / 'host.py')
    task = ConfigTask(str(folder / 'host.py'), 2, (75, 101), torch.device('cpu'))
    task.model = revert_sync_batchnorm(task.model).train()
    return task


@pytest.mark.parametrize('name', HOSTS)
def test_models_of_the_hosts(name, tmp_path):
    torch.manual_seed(0)
    task = swap(name, HOSTS[name], tmp_path)
    task.model.init_weights()
    loss = task.loss()
    loss.backward()
    assert loss.isfinite()
    assert not [key for key, p in task.model.named_parameters() if p.grad is None]
    with torch.no_grad():
        task.model.eval()
        assert len(task.infer()) == 2


def test_the_row_on_ocrnet(tmp_path):
    name, changes = list(HOSTS.items())[-1]
    changes = {**changes, 'decode_head.0.in_index': 2, 'decode_head.0.in_channels': 24}
    message = 'Expected size for first two dimensions of batch2 tensor'
    assert f'`{message}`' in PAGE.read_text('utf-8')
    with pytest.raises(RuntimeError, match=message):
        swap(name, changes, tmp_path).loss()
