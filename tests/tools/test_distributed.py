"""Two processes on a CPU, as torchrun starts them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

TRAIN = Path(__file__).parents[2] / 'tools/train.py'


@pytest.mark.skipif(torch.cuda.is_available(), reason='two processes want two GPUs here')
def test_two_processes_train_and_evaluate(job, tmp_path):
    config, options = job('mmdet')
    Path(config).write_text(
        Path(config).read_text() + "\nmodel['backbone']['norm_cfg'] = dict(type='SyncBN')\n"
    )
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command += [str(TRAIN), config, '--launcher', 'pytorch', '--work-dir', str(tmp_path / 'work')]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'coco/segm_mAP' in done.stdout + done.stderr
    state = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)['state_dict']
    assert not [name for name in state if name.startswith('module.')]
