import importlib
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / 'configs'

# The demo jobs of the three host libraries, with a ViT-CoMer that takes milliseconds.
BACKBONE = """
arch = dict(
    _delete_=True, embed_dims=24, depth=4, num_heads=2, deform_heads=2, stem_channels=8, windows=0,
    extra_cti=1,
)
train_dataloader = dict(batch_size=2)
"""
SMALL_JOBS = dict(
    mmdet="""
_base_ = '{configs}/demo_maskrcnn_vitcomer_t.py'
model = dict(backbone=dict(arch=arch), neck=dict(in_channels=[24] * 4))
train_cfg = dict(max_epochs=1, val_interval=1)
""",
    mmseg="""
_base_ = '{configs}/demo_upernet_vitcomer_t.py'
model = dict(
    backbone=dict(arch=arch),
    decode_head=dict(in_channels=[24] * 4),
    auxiliary_head=dict(in_channels=24),
)
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
""",
    mmpretrain="""
_base_ = '{configs}/demo_linear_vitcomer_t.py'
model = dict(backbone=dict(arch=arch), head=dict(in_channels=24))
train_cfg = dict(max_epochs=1)
""",
)


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """A tiny demo data set."""
    from mmhybrid.data.demo import draw_demo

    root = tmp_path_factory.mktemp('data') / 'demo'
    draw_demo(root, train=4, val=2, crops=4, size=(96, 64), progress=lambda line: None)
    return root


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Import a module of the command line by name; the current directory is an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda name: importlib.import_module(f'mmhybrid.cli.{name}')


@pytest.fixture(scope='session')
def job(data, tmp_path_factory):
    """A function of a host library and options: CONFIG, ['--cfg-options', ...] of a small job."""
    folder = tmp_path_factory.mktemp('configs')

    def arguments(scope, *options):
        config = folder / f'tiny_{scope}.py'
        config.write_text(BACKBONE + SMALL_JOBS[scope].format(configs=CONFIGS))
        return str(config), ['--cfg-options', f'data_root={data}', *options]

    return arguments
