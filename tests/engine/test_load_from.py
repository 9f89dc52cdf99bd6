"""A file that ``load_from`` names fits, fits in part with a report, or is refused."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmhybrid.checkpoints import CheckpointError
from mmhybrid.engine import AtomicCheckpointHook, load_trained, safe_loading
from tests.checkpoints import published


class Detector(BaseModel):
    def __init__(self, width=4, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, classes)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.head(self.backbone(inputs).mean(dim=(2, 3)))


def load(tmp_path, content, model=None, resume=False):
    """Let mmengine's runner load a file; return the model and what was logged."""
    path = tmp_path / 'weights.pth'
    torch.save(content, path)
    name = f'load_{tmp_path.name}'
    runner = Runner(
        model=model or Detector(),
        work_dir=str(tmp_path / 'work'),
        load_from=str(path),
        resume=resume,
        default_hooks=dict(checkpoint=dict(type='mmhybrid.AtomicCheckpointHook')),
        experiment_name=name,
    )
    warnings = []
    runner.logger.warning = warnings.append
    with safe_loading():
        runner.load_or_resume()
    return runner.model, warnings


def test_what_fits_loads_in_silence(tmp_path):
    trained = Detector()
    model, warnings = load(tmp_path, dict(state_dict=trained.state_dict(), meta={}))
    assert torch.equal(model.head.weight, trained.head.weight) and not warnings


def test_data_parallel_files_fit(tmp_path):
    trained = Detector()
    model, warnings = load(tmp_path, {f'module.{k}': v for k, v in trained.state_dict().items()})
    assert torch.equal(model.head.weight, trained.head.weight) and not warnings


def test_what_fits_in_part_is_reported(tmp_path):
    trained = Detector(classes=5)
    content = trained.state_dict() | {'neck.weight': torch.ones(2)}
    model, (report,) = load(tmp_path, dict(state_dict=content))
    assert torch.equal(model.backbone[0].weight, trained.backbone[0].weight)
    rows = {row.strip().partition('  ')[0]: row for row in report.splitlines()[1:]}
    assert str(tmp_path / 'weights.pth') in rows['file']
    assert f'{len(trained.state_dict()) - 2} of {len(model.state_dict())}' in rows['filled']
    assert '1: neck.weight' in rows['in the file only, not taken']
    assert '2: head.weight, head.bias' in rows['of another shape, not taken']
    assert '2: head.weight, head.bias' in rows['left at initialisation']
    filled = sum(v.numel() for k, v in model.state_dict().items() if 'head' not in k)
    total = sum(v.numel() for v in model.state_dict().values())
    assert f'{100 * filled / total:.1f} %' in rows['into']


@pytest.mark.parametrize(
    'content',
    [
        published.deit(),
        {'model': published.dinov2()},
        {'state_dict': {f'encoder.{k}': v for k, v in Detector().state_dict().items()}},
        {'state_dict': {'backbone.1.num_batches_tracked': torch.tensor(7)}},
        {k: torch.zeros(9, 9) for k in Detector().state_dict()},
        {},
    ],
    ids=['published', 'entry', 'prefix', 'counts', 'shapes', 'empty'],
)
def test_what_fits_nothing_is_an_error(tmp_path, content):
    model = Detector()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load(tmp_path, content, model)
    message = str(error.value)
    assert str(tmp_path / 'weights.pth') in message and 'Detector' in message
    assert 'weights=' in message and 'init_cfg' in message and 'Pretrained' in message
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_wrapped_model_is_compared_by_its_own_names():
    trained, warnings = Detector(), []
    logger = SimpleNamespace(warning=warnings.append)
    runner = SimpleNamespace(
        model=nn.DataParallel(Detector()), _resume=False, _load_from='x.pth', logger=logger
    )
    AtomicCheckpointHook().after_load_checkpoint(runner, dict(state_dict=trained.state_dict()))
    assert not warnings


def test_evaluation_refuses_what_fits_nothing(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(published.deit(), path)
    with pytest.raises(CheckpointError, match=r'weights=.*init_cfg'):
        load_trained(Detector(), path)
    torch.save(Detector(classes=5).state_dict(), path)
    with pytest.raises(CheckpointError, match='of another shape.*Give the config'):
        load_trained(Detector(), path)


def test_a_resumed_training_is_not_compared():
    runner = SimpleNamespace(model=Detector(), _resume=True, _load_from='x.pth')
    AtomicCheckpointHook().after_load_checkpoint(runner, {})
