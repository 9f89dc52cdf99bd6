from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger

from mmhybrid.engine import EarlyStopHook, TrainingError


def evaluations(hook, values, resume=False):
    """The number of evaluations until the training is told to stop; None if it is not."""
    runner = SimpleNamespace(
        train_loop=SimpleNamespace(stop_training=False),
        logger=MMLogger.get_current_instance(),
        _resume=resume,
    )
    for count, value in enumerate(values, 1):
        hook.after_val_epoch(runner, {'mIoU': value})
        if runner.train_loop.stop_training:
            return count
    return None


def test_it_stops_without_a_gain():
    assert evaluations(EarlyStopHook('mIoU', patience=2), [10, 20, 20, 20, 30]) == 4
    assert evaluations(EarlyStopHook('mIoU', patience=2), [10, 20, 20, 30, 30]) is None


def test_a_small_gain_of_a_share_counts():
    assert evaluations(EarlyStopHook('mIoU', patience=1), [0.30, 0.31, 0.32]) is None


def test_the_count_goes_on_in_a_resumed_training():
    first = EarlyStopHook('mIoU', patience=3)
    assert evaluations(first, [20, 19, 18]) is None
    checkpoint = {}
    first.before_save_checkpoint(None, checkpoint)
    second = EarlyStopHook('mIoU', patience=3)
    second.after_load_checkpoint(SimpleNamespace(_resume=True), checkpoint)
    assert evaluations(second, [17, 16]) == 1
    fresh = EarlyStopHook('mIoU', patience=3)
    fresh.after_load_checkpoint(SimpleNamespace(_resume=False), checkpoint)
    assert evaluations(fresh, [17, 16]) is None


def test_an_evaluation_without_an_object_counts_for_nothing():
    hook = EarlyStopHook('mIoU', patience=1)
    hook.before_run(SimpleNamespace())  # an evaluation needs no training
    hook.after_val_epoch(SimpleNamespace(), {})
    assert evaluations(hook, [10, 20]) is None


def test_a_metric_that_is_not_there():
    with pytest.raises(TrainingError, match='mIou.*mIoU'):
        evaluations(EarlyStopHook('mIou'), [1])


@pytest.mark.parametrize(('metric', 'rule'), [('lvis/bbox_AP', 'greater'), ('val_loss', 'less')])
def test_more_is_better_but_for_losses(metric, rule):
    assert EarlyStopHook(metric).rule == rule
