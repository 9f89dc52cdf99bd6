"""A training that was stopped, killed or ran out of disk ends as one that was left alone."""

import os
import re
import shutil
import signal
import sys
import traceback

import pytest

from mmhybrid.cli.study import DIVERGED
from mmhybrid.engine import latest_checkpoint

from .faults import (
    at_iteration,
    in_evaluation,
    in_the_midst_of_writing,
    kill_loaders,
    limit_files,
    poison,
    same,
    send,
    send_to_all,
    state_of,
)


@pytest.fixture
def train(tool, tmp_path):
    """Run tools/train.py in a child process that ends as a fault may end it.

    Returns:
        its exit code, or minus the signal that killed it, and what it printed.
    """
    main, run = tool('train').main, tool('usage').run

    def start(arguments, fault=None):
        log = tmp_path / 'log'
        child = os.fork()
        if child == 0:
            code = 99
            try:
                sys.stdout = sys.stderr = open(log, 'w', buffering=1)
                if fault:
                    fault()
                run(lambda: main(arguments))
            except SystemExit as error:
                if isinstance(error.code, str):
                    print(error.code)
                code = 1 if isinstance(error.code, str) else error.code
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), log.read_text(errors='replace')

    return start


def names(folder):
    return sorted(p.name for p in folder.glob('*.pth*'))


def test_an_epoch_cut_in_every_place(train, job, tmp_path):
    config, options = job(
        'mmdet',
        'train_cfg.max_epochs=2',
        'train_dataloader.num_workers=2',
        'train_dataloader.batch_size=1',
        'train_dataloader.batch_sampler.type=AspectRatioBatchSampler',
        'model.backbone.drop_path_rate=0.3',
    )
    options = ['--no-validate', '--ema', '0.3', '--accumulate', '3', *options]
    code, _ = train([config, '--work-dir', 'whole', '--seed', '1', *options])
    assert code == 0

    arguments = [config, '--work-dir', 'cut', *options]
    # Stopped in the midst of an epoch and of an accumulation.
    code, log = train([*arguments, '--seed', '1'], at_iteration(1, send_to_all(signal.SIGTERM)))
    assert code == 128 + signal.SIGTERM
    assert 'stopped_iter_2.pth holds them: go on with --resume' in log
    assert 'Traceback' not in log
    # Killed while it writes the checkpoint at the end of the epoch.
    code, _ = train([*arguments, '--resume'], in_the_midst_of_writing)
    assert code == -signal.SIGKILL
    draft, kept = names(tmp_path / 'cut')
    assert re.fullmatch(r'epoch_1\.pth\.\w+\.part', draft) and kept == 'stopped_iter_2.pth'
    # Killed in the next epoch.
    code, _ = train([*arguments, '--resume'], at_iteration(6, send(signal.SIGKILL)))
    assert code == -signal.SIGKILL
    assert names(tmp_path / 'cut') == ['epoch_1.pth']
    code, log = train([*arguments, '--resume'])
    assert code == 0, log[-3000:]

    whole, cut = (state_of(tmp_path / name / 'epoch_2.pth') for name in ('whole', 'cut'))
    assert {'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'} <= whole.keys()
    assert same(whole, cut)


def test_iterations_and_a_full_disk(train, job, tmp_path):
    config, options = job(
        'mmseg',
        'train_cfg.max_iters=6',
        'train_dataloader.num_workers=1',
        'default_hooks.checkpoint.interval=2',
    )
    options = ['--no-validate', '--amp', '--with-cp', *options]
    code, log = train([config, '--work-dir', 'whole', '--seed', '1', *options])
    assert code == 0, log[-3000:]

    arguments = [config, '--work-dir', 'cut', *options]
    fault = at_iteration(3, limit_files(100_000))
    code, log = train([*arguments, '--seed', '1'], fault)
    assert code == 1
    assert 'error: ' in log and 'iter_4.pth' in log and 'could not be written: File too' in log
    assert 'iter_2.pth is complete. Make room, then go on with --resume' in log
    assert names(tmp_path / 'cut') == ['iter_2.pth']
    assert latest_checkpoint(tmp_path / 'cut') == tmp_path / 'cut/iter_2.pth'

    code, log = train([*arguments, '--resume'], at_iteration(5, poison))
    assert code == 1
    assert 'error: loss is nan, ' in log and ' at iteration 6, epoch 1. Images: ' in log
    assert DIVERGED.search(log)  # by which a study knows
    assert log[log.rindex('Images: ') :].count('.jpg') == 2
    assert 'iter_4.pth' in log[log.rindex('Last checkpoint: ') :]
    code, _ = train([*arguments, '--resume'])
    assert code == 0
    assert same(*(state_of(tmp_path / name / 'iter_6.pth') for name in ('whole', 'cut')))


def test_the_last_evaluation_is_repeated(train, job, tmp_path):
    config, options = job('mmseg', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2')
    arguments = [config, '--work-dir', 'cut', *options]
    code, log = train([*arguments, '--seed', '1'], in_evaluation(send(signal.SIGTERM)))
    assert code == 128 + signal.SIGTERM and 'mIoU' not in log
    code, log = train([*arguments, '--resume'])
    assert code == 0 and re.search(r'^ *metrics .*mIoU \d', log, re.MULTILINE), log[-3000:]
    # One that nothing asks for is not made.
    code, log = train([*arguments, 'train_cfg.val_begin=3', '--resume'])
    assert code == 0 and 'mIoU' not in log


def test_a_broken_image_is_named(train, job, data, tmp_path):
    shutil.copytree(data, tmp_path / 'broken')
    image = tmp_path / 'broken/images/train/000002.jpg'
    image.write_bytes(b'')
    config, options = job('mmseg', f'data_root={tmp_path}/broken', 'train_dataloader.num_workers=1')
    arguments = [config, '--work-dir', 'work', '--no-validate']
    code, log = train([*arguments, '--seed', '1', *options])
    assert code == 1
    assert f'error: training data that cannot be loaded: {image}: ' in log
    assert '--broken-images skip' in log
    assert 'Traceback' not in log
    code, log = train([*arguments, '--seed', '1', '--broken-images', 'skip', *options])
    assert code == 0
    assert f'1 so far; the next sample takes its place: {image}: ' in log


def test_loading_processes_that_are_killed(train, job):
    config, options = job('mmseg', 'train_dataloader.num_workers=1')
    arguments = [config, '--work-dir', 'work', '--no-validate', *options]
    code, log = train(arguments, at_iteration(1, kill_loaders))
    assert code == 1, log[-3000:]
    assert 'error: ' in log and 'DataLoader worker (pid' in log and 'num_workers' in log
    assert 'Traceback' not in log
