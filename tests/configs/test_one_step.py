"""A training step and an evaluation of every family, in each of the three heads."""

from pathlib import Path

import pytest
import torch
from mmengine.model import revert_sync_batchnorm

from mmhybrid.testing.tasks import ConfigTask

CONFIGS = Path(__file__).parents[2] / 'configs'


SMALLEST = ('cmt_ti', 'cvt_13', 'vit_t', 'vitadapter_t', 'vitc_1gf', 'vitcomer_t')
NAMES = [f'{head}_{name}' for name in SMALLEST for head in ('maskrcnn', 'retinanet', 'upernet')]
NAMES += ['maskrcnn_spach_xxs_conv', 'retinanet_spach_xxs_conv', 'upernet_spach_s']
NAMES += [f'{head}_resnetrs_50' for head in ('maskrcnn', 'retinanet', 'upernet')]
NAMES += [f'{head}_resnet_18_scratch_custom' for head in ('maskrcnn', 'upernet')]
NAMES += [f'{head}_convnext_t' for head in ('maskrcnn', 'retinanet', 'upernet')]


def test_every_family_is_here():
    families = {path.name.split('_')[1] for path in CONFIGS.glob('maskrcnn_*.py')}
    assert families == {name.split('_')[1] for name in NAMES}


@pytest.mark.parametrize('name', NAMES)
def test_one_step(name):
    torch.manual_seed(0)
    task = ConfigTask(str(CONFIGS / f'{name}.py'), 2, (64, 96), torch.device('cpu'))
    task.model = revert_sync_batchnorm(task.model).train()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1e-3)
    loss = task.loss()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    # A parameter without a gradient stops distributed training.
    assert not [name for name, p in task.model.backbone.named_parameters() if p.grad is None]
    assert len(task.model.eval().test_step(task.batch)) == 2
