"""What a runner saves is read whole and safely, by the plain ``torch.load`` that mmengine calls."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mmhybrid.engine import safe_loading


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def saved(path, **content):
    torch.save(content, path)
    return path


def test_the_bookkeeping_of_a_runner_comes_back(tmp_path):
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    path = saved(
        tmp_path / 'iter_2.pth',
        message_hub=dict(log_scalars={'train/loss': buffer}),
        meta=dict(best=np.float64(0.5), palette=np.eye(3, dtype=np.uint8), cfg=ConfigDict(a=1)),
    )
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    with safe_loading():
        content = torch.load(path, weights_only=True)
    assert content['message_hub']['log_scalars']['train/loss'].mean() == 2
    assert content['meta']['best'] == 0.5 and content['meta']['cfg'].a == 1
    assert (content['meta']['palette'] == np.eye(3)).all()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    'call',
    [
        Call(os.getcwd),
        Call(getattr, HistoryBuffer, '__init__'),
        Call(getattr, np.ndarray, 'tofile'),
    ],
)
def test_the_rest_is_refused(call, tmp_path):
    path = saved(tmp_path / 'bad.pth', meta=call)
    with safe_loading(), pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
