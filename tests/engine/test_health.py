from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from torch import nn

from mmhybrid.engine import FiniteLossHook, TrainingError


def test_a_norm_counts_in_the_step_that_it_is_of():
    model = nn.Linear(2, 3)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    hub = SimpleNamespace(
        log_scalars={'train/grad_norm': HistoryBuffer([float('inf')], [1])}, runtime_info={}
    )
    runner = SimpleNamespace(optim_wrapper=wrapper, message_hub=hub, iter=0, epoch=0)
    wrapper.update_params(model(torch.ones(1, 2)).sum())
    FiniteLossHook().after_train_iter(runner, 0, outputs=dict(loss=1.0))  # of before the resume
    wrapper.update_params(model(torch.ones(1, 2)).sum())
    with pytest.raises(TrainingError, match='grad_norm is inf'):
        FiniteLossHook().after_train_iter(runner, 1, outputs=dict(loss=1.0))
