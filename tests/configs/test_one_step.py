"""A training step and an evaluation of real configs."""

from pathlib import Path

import pytest
import torch
from mmengine.model import revert_sync_batchnorm

from mmhybrid.testing.tasks import ConfigTask

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize(
    'name',
    [
        'maskrcnn_cmt_ti',
        'maskrcnn_spach_xxs_conv',
        'maskrcnn_vitadapter_t',
        'retinanet_cmt_ti',
        'retinanet_spach_xxs_conv',
        'retinanet_vitadapter_t',
    ],
)
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
