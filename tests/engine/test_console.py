"""A calm terminal beside a log file that holds everything."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine import logging as host_logging
from mmengine.logging import MMLogger, print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from mmhybrid.engine.console import Tenths, calm, hush_imports, summarise

DETAILS = [
    'Config:\nmodel = dict()',
    'Hooks will be executed in the following order:\nbefore_run',
    'paramwise_options -- backbone.norm.weight:weight_decay=0.0',
    'backbone.norm.weight is skipped since its requires_grad=False',
]


def test_details_are_in_the_file_alone(tmp_path, capsys):
    file = tmp_path / 'a.log'
    logger = calm(MMLogger('calm', logger_name='calm', log_file=str(file)))
    for text in [*DETAILS, 'Epoch(train) [1][20/300]']:
        logger.info(text)
    logger.warning(DETAILS[-1])
    logger.error('Config:\nis broken')
    for handler in logger.handlers:
        handler.close()
    printed, kept = capsys.readouterr().out, file.read_text()
    assert 'Epoch(train)' in printed and 'is broken' in printed and len(printed.splitlines()) == 3
    for text in DETAILS:
        assert text in kept and text not in printed
    assert 'Epoch(train)' in kept


def test_debug_messages_without_a_logger_are_not_printed(monkeypatch, capsys):
    monkeypatch.setattr(host_logging, 'print_log', print_log)
    hush_imports()
    hush_imports()
    host_logging.print_log('a detail', level=logging.DEBUG)
    host_logging.print_log('a message')
    assert capsys.readouterr().out == 'a message\n'


@pytest.mark.parametrize(('images', 'step', 'shown'), [(87, 1, 10), (1000, 20, 10), (4, 1, 4)])
def test_progress_of_an_evaluation_is_ten_lines(images, step, shown):
    lets_through = Tenths()
    for _ in range(2):  # the second evaluation begins anew
        lines = [
            lets_through(
                logging.makeLogRecord(dict(msg=f'Iter(val) [{i:3}/{images}]    eta: 0:01'))
            )
            for i in range(step, images + 1, step)
        ]
        assert sum(lines) == shown and lines[-1]
    assert lets_through(logging.makeLogRecord(dict(msg='Iter(val) [87/87]    mIoU: 3.0')))
    assert lets_through(logging.makeLogRecord(dict(msg='Iter(train) [ 1/87]  eta: 0:01')))


def runner_of(model, wrapper):
    return SimpleNamespace(model=model, optim_wrapper=wrapper, world_size=1, seed=3)


def test_summary_of_parameter_groups():
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2), nn.LayerNorm(2))
    model[0].requires_grad_(False)
    weight, bias = model[1].parameters()
    groups = [
        dict(params=[weight], lr=1e-5, initial_lr=1e-3),  # in the warm-up
        dict(params=[bias], lr=1e-4, initial_lr=1e-2),
        dict(params=list(model[2].parameters()), weight_decay=0.0, initial_lr=1e-2),
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.05)
    lines = summarise(runner_of(model, OptimWrapper(optimizer)))
    assert lines[0].startswith('Sequential on ')
    assert lines[0].endswith(', seed 3: 41 values, 25 of them frozen')
    assert lines[1:] == [
        'AdamW: 12 values with lr 0.001 to 0.01, weight decay 0.05',
        'AdamW: 4 values with lr 0.01, weight decay 0',
    ]


def test_summary_of_several_optimizers():
    model = nn.Linear(1, 1)
    wrappers = {
        name: OptimWrapper(torch.optim.SGD([it], lr=0.1)) for name, it in model.named_parameters()
    }
    lines = summarise(runner_of(model, OptimWrapperDict(**wrappers)))
    assert lines[1:] == [
        f'SGD of {name}: 1 values with lr 0.1, weight decay 0' for name in ('weight', 'bias')
    ]
