"""A calm terminal beside a log file that holds everything."""

import logging
import warnings
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from mmengine import logging as host_logging
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MMLogger, print_log
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn

from mmhybrid.engine.console import (
    EvaluationsInEta,
    Tenths,
    calm,
    evaluations_to_come,
    hush_annotations,
    hush_hosts,
    summarise,
)

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
    hush_hosts()
    hush_hosts()
    host_logging.print_log('a detail', level=logging.DEBUG)
    host_logging.print_log('a message')
    assert capsys.readouterr().out == 'a message\n'


def test_defaults_of_the_hosts_are_no_warnings(monkeypatch, capsys):
    from mmseg.engine import SegVisualizationHook
    from mmseg.evaluation import IoUMetric
    from mmseg.models.losses import CrossEntropyLoss

    monkeypatch.setattr(host_logging, 'print_log', print_log)
    logger = calm(MMLogger('defaults', logger_name='defaults'))
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    monkeypatch.setattr(Visualizer, 'get_current_instance', lambda: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        hush_hosts()
        CrossEntropyLoss()
        SegVisualizationHook()
        IoUMetric()
        warnings.warn('another', stacklevel=1)
    assert [str(it.message) for it in caught] == ['another']
    logger.info('shown')
    printed = capsys.readouterr().out
    assert 'shown' in printed and 'prefix' not in printed


def test_annotations_are_read_in_silence(tmp_path, monkeypatch, capsys):
    import pycocotools.coco

    file = tmp_path / 'a.json'
    file.write_text('{"images": [], "annotations": [], "categories": []}')
    monkeypatch.setattr(pycocotools.coco, 'print', print, raising=False)
    hush_annotations()
    pycocotools.coco.COCO(file)
    print('shown')
    assert capsys.readouterr().out == 'shown\n'


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


@pytest.mark.parametrize(
    ('kind', 'name'), [(EpochBasedTrainLoop, 'epoch'), (IterBasedTrainLoop, 'iter')]
)
def test_evaluations_to_come_are_those_that_the_loop_will_run(kind, name):
    for last, interval, begin in product((1, 6, 7), (1, 2, 3, 9), (1, 2, 5, 9)):
        loop = kind.__new__(kind)
        vars(loop).update({f'_max_{name}s': last, 'val_interval': interval, 'val_begin': begin})
        for now in range(last):
            setattr(loop, f'_{name}', now)
            later = [it for it in range(now + 1, last + 1) if it >= begin]
            run = [it for it in later if it % interval == 0 or it == last]
            assert evaluations_to_come(loop) == len(run)
    assert evaluations_to_come(object()) == 0


class Tiny(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode):
        out = self.layer(torch.stack(inputs))
        return dict(loss=out.mean()) if mode == 'loss' else list(out)


class Etas(Hook):
    def __init__(self, priority):
        self.priority, self.seen = priority, []

    def after_train_iter(self, runner, *args, **kwargs):
        self.seen.append(runner.message_hub.get_info('eta'))


class Timer(EvaluationsInEta):
    def __init__(self):
        self.all = []

    def after_val(self, runner):
        super().after_val(runner)
        self.all.append(self.seconds)


def test_eta_counts_evaluations_once_one_is_timed(tmp_path):
    images = [dict(inputs=torch.ones(1))] * 8
    loader = dict(dataset=images, sampler=dict(type='DefaultSampler'), batch_size=1)
    runner = Runner(
        Tiny(), str(tmp_path), train_dataloader=loader, val_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=7, val_interval=2), val_cfg={},
        val_evaluator=Evaluator([]), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=None), experiment_name='eta', log_level='ERROR',
    )  # fmt: skip
    before, timer, after = Etas('NORMAL'), Timer(), Etas('BELOW_NORMAL')
    for hook in (before, timer, after):
        runner.register_hook(hook)
    runner.train()
    added = [a - b for a, b in zip(after.seen, before.seen, strict=True)]
    first, second, third, _ = timer.all
    assert min(timer.all) > 0
    assert added == pytest.approx([0, 0, 3 * first, 3 * first, 2 * second, 2 * second, third])
