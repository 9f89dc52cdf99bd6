import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmhybrid.models.kernels import deformable_attention

pytest.importorskip('triton')
ROOT = Path(__file__).parents[3]
CASES = Path(__file__).with_name('triton_cases.py')


def run(*command, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_cases_in_the_interpreter():
    out = run('-m', 'pytest', '-q', '-p', 'no:cacheprovider', CASES, TRITON_INTERPRET='1')
    assert ' passed' in out and 'skipped' not in out


@pytest.mark.skipif(not torch.cuda.is_available(), reason='compiled kernels run on a GPU')
def test_cases_on_the_gpu():
    out = run('-m', 'pytest', '-q', '-p', 'no:cacheprovider', CASES, TRITON_INTERPRET='0')
    assert ' passed' in out and 'skipped' not in out


@pytest.mark.parametrize('kernel', ['_sample', '_sample_gradients', '_value_gradient'])
def test_kernels_compile_for_a_gpu_into_wide_accesses(kernel, tmp_path):
    """Without a GPU: rows are read, and added to, 16 bytes a thread, and registers suffice."""
    out = run(CASES.with_name('triton_compile.py'), kernel, TRITON_CACHE_DIR=str(tmp_path))
    wide = 'atom.global.gpu.relaxed.add.v4.f32' if kernel == '_value_gradient' else 'ld.global.v4'
    assert wide in out


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU runs the kernels')
def test_without_a_gpu():
    value = torch.ones(1, 4, 1, 8)
    weights = torch.ones(1, 1, 1, 1, 1)
    locations = torch.full((1, 1, 1, 1, 1, 2), 0.5)
    with pytest.raises(RuntimeError, match=r"backend='triton' needs Triton and a CUDA tensor"):
        deformable_attention(value, ((2, 2),), locations, weights, 'triton')
