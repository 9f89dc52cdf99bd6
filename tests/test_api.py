"""Training, evaluation and prediction from Python: plain results, and nothing left behind."""

import os
import random
import shutil
import signal

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from PIL import Image

import mmhybrid
from mmhybrid.api import _read_image
from mmhybrid.cli.usage import UsageError, single_numbers
from mmhybrid.engine import read_checkpoint
from mmhybrid.inspect.report.draw import read_image

from .cli.conftest import data, job  # noqa: F401, fixtures

SIZE = (64, 96)  # of the drawn images: height, width


@pytest.fixture(scope='module')
def trained(job, tmp_path_factory):  # noqa: F811
    """A small model of a host library, trained once: what `mmhybrid.train` gave."""
    done = {}

    def train(scope):
        if scope not in done:
            config, given = job(scope)
            options = dict(word.split('=', 1) for word in given[1:])
            work_dir = tmp_path_factory.mktemp(scope)
            done[scope] = (
                mmhybrid.train(config, work_dir=work_dir, cfg_options=options, seed=0),
                options,
            )
        return done[scope]

    return train


@pytest.fixture
def image(data):  # noqa: F811
    return sorted((data / 'images/val').iterdir())[0]


def test_a_detector(trained, image):
    done, options = trained('mmdet')
    assert done.checkpoint == done.work_dir / 'epoch_1.pth' and done.checkpoint.is_file()
    assert 0 <= done.metrics['coco/bbox_mAP'] <= 1
    metrics = mmhybrid.evaluate(done.work_dir)
    assert metrics['coco/bbox_mAP'] == pytest.approx(done.metrics['coco/bbox_mAP'])

    (found,) = mmhybrid.predict(done.work_dir, image, score_thr=0.0)
    assert len(found.boxes) > 0 and found.boxes.dtype == np.float32
    assert found.boxes.shape == (len(found.labels), 4)
    assert found.masks.shape == (len(found.labels), *SIZE) and found.masks.dtype == bool
    assert found.class_map is None and found.labels.max() < len(found.classes)
    height, width = SIZE
    assert (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()
    (none,) = mmhybrid.predict(done.work_dir, image, score_thr=1.0)
    assert none.boxes.shape == (0, 4) and none.masks.shape == (0, *SIZE)


def test_images_of_all_kinds(trained, image):
    done, _ = trained('mmseg')
    pixels = read_image(image)
    given = [image, str(image), pixels, Image.fromarray(pixels)]
    maps = [found.class_map for found in mmhybrid.predict(done.work_dir, given, batch_size=3)]
    assert len(maps) == 4 and maps[0].shape == SIZE
    for one in maps[1:]:
        np.testing.assert_array_equal(one, maps[0])
    assert len(mmhybrid.predict(done.work_dir, image.parent)) == len(list(image.parent.iterdir()))


def test_images_of_16_bits(tmp_path):
    grey = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    Image.fromarray(grey).save(tmp_path / 'grey.png')
    with Image.open(tmp_path / 'grey.png') as opened:
        of_pil = _read_image(opened)
    assert of_pil.dtype == np.uint8 and 100 < of_pil.mean() < 150
    np.testing.assert_array_equal(of_pil, _read_image(tmp_path / 'grey.png'))
    with pytest.raises(UsageError, match='of mode F, whose values have no known range'):
        _read_image(Image.fromarray(grey.astype(np.float32)))


def test_a_classifier(trained, image):
    done, _ = trained('mmpretrain')
    (found,) = mmhybrid.predict(done.work_dir, image, done.checkpoint)
    assert found.scores.shape == (len(found.classes),)
    assert found.scores.sum() == pytest.approx(1, abs=1e-5)
    assert found.labels == found.scores.argmax() and found.boxes is None


def test_a_config_in_memory_stays_as_it_is(trained, job, tmp_path):  # noqa: F811
    done, options = trained('mmseg')
    cfg = Config.fromfile(job('mmseg')[0])
    before = cfg.pretty_text
    metrics = mmhybrid.evaluate(
        cfg, done.work_dir, data=options['data_root'], work_dir=tmp_path, tta=True
    )
    assert 'mIoU' in metrics and cfg.pretty_text == before


def test_nothing_is_left_behind(trained, job, data, tmp_path):  # noqa: F811
    trained('mmdet')
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    named = [dict(kind._instance_dict) for kind in (DefaultScope, MMLogger, MessageHub)]
    threads, environment = cv2.getNumThreads(), dict(os.environ)
    config, _ = job('mmseg')
    done = mmhybrid.train(config, data=data, work_dir=tmp_path, seed=3)
    assert done.checkpoint.is_file()
    assert named == [dict(kind._instance_dict) for kind in (DefaultScope, MMLogger, MessageHub)]
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    assert (cv2.getNumThreads(), dict(os.environ)) == (threads, environment)


def test_two_trainings_are_alike(job, data, tmp_path):  # noqa: F811
    config, _ = job('mmpretrain')
    first, second = (
        mmhybrid.train(config, data=data, work_dir=tmp_path / name, seed=0) for name in 'ab'
    )
    weights = [read_checkpoint(it.checkpoint)['state_dict'] for it in (first, second)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert first.metrics == second.metrics


@pytest.mark.parametrize(
    ('call', 'parts'),
    [
        (lambda: mmhybrid.train('nowhere.py'), ['nowhere.py']),
        (lambda: mmhybrid.train('x.py', epochs=3), ['train()', '--epochs']),
        (lambda: mmhybrid.train('x.py', amp='fp8'), ['train()', 'fp8', 'bf16']),
        (lambda: mmhybrid.evaluate('x.py'), ['x.py', 'checkpoint']),
        (lambda: mmhybrid.predict('x.py', 'a.jpg', 'x.pth', score_thr=2), ['score_thr=2']),
        (lambda: mmhybrid.predict('x.py', np.zeros((4, 4)), 'x.pth'), ['(4, 4)', 'float64']),
        (lambda: mmhybrid.predict('x.py', 'nowhere.jpg', 'x.pth'), ['nowhere.jpg']),
        (lambda: mmhybrid.predict('x.py', [3], 'x.pth'), ['int']),
        (lambda: mmhybrid.predict('x.py', torch.zeros(3, 4, 4), 'x.pth'), ['Tensor', 'NumPy']),
        (lambda: mmhybrid.predict('x.py', [], 'x.pth', overlap=8), ['overlap=8', 'tile']),
        (lambda: mmhybrid.evaluate('x.py', 'x.pth', out='x.json'), ['evaluate()', 'x.json']),
        (lambda: mmhybrid.train('x.py', help=True), ['train()', '--help']),
    ],
)
def test_mistakes(call, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        call()
    for part in parts:
        assert part in str(error.value)


def test_a_training_that_fails_leaves_nothing_behind(job, data, tmp_path, monkeypatch):  # noqa: F811
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]

    def fail(*args, **kwargs):
        raise RuntimeError('no more')

    monkeypatch.setattr('mmengine.optim.OptimWrapper.update_params', fail)
    with pytest.raises(RuntimeError, match='no more'):
        mmhybrid.train(job('mmpretrain')[0], data=data, work_dir=tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
    assert not list(tmp_path.glob('*.pth'))


def test_checkpoints_are_of_this_training(job, data, tmp_path):  # noqa: F811
    (tmp_path / 'epoch_9.pth').write_bytes(b'of another one')
    options = {'default_hooks.checkpoint.interval': 5, 'default_hooks.checkpoint.save_last': False}
    done = mmhybrid.train(
        job('mmpretrain')[0], data=data, work_dir=tmp_path, cfg_options=options, seed=0
    )
    assert done.checkpoint is None and done.best is None


def test_a_work_dir_that_was_moved(trained, tmp_path):
    done, _ = trained('mmpretrain')
    moved = shutil.copytree(done.work_dir, tmp_path / 'moved')
    logs = set(done.work_dir.iterdir())
    assert 'accuracy/top1' in mmhybrid.evaluate(moved)
    assert set(done.work_dir.iterdir()) == logs
    assert len(list(moved.iterdir())) > len(logs)


def test_photographs_are_turned_as_files_are(trained, image, tmp_path):
    done, _ = trained('mmseg')
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / 'turned.jpg'
    Image.fromarray(read_image(image)).save(path, exif=exif)
    found = mmhybrid.predict(done.work_dir, [path, Image.open(path)])
    assert found[0].class_map.shape == SIZE[::-1]
    np.testing.assert_array_equal(found[0].class_map, found[1].class_map)


def test_messages_name_a_config_in_memory(job):  # noqa: F811
    cfg = Config.fromfile(job('mmseg')[0])
    with pytest.raises(ValueError, match='needs a checkpoint') as error:
        mmhybrid.evaluate(cfg)
    assert len(str(error.value)) < 300


def test_metrics_that_are_no_single_number():
    metrics = {'a': 1, 'b': torch.tensor([2.5]), 'c': [1, 2], 'd': np.eye(2), 'e': 'text'}
    assert single_numbers(metrics) == {'a': 1.0, 'b': 2.5}


@pytest.mark.parametrize(
    ('name', 'base'),
    [
        ('UsageError', ValueError),
        ('DataError', ValueError),
        ('ExportError', ValueError),
        ('TrainingError', RuntimeError),
        ('CheckpointError', RuntimeError),
    ],
)
def test_errors_of_the_calls(name, base):
    assert name in mmhybrid.__all__ and issubclass(getattr(mmhybrid, name), base)
    if name == 'UsageError':
        with pytest.raises(mmhybrid.UsageError, match='nowhere.py'):
            mmhybrid.train('nowhere.py')
    with pytest.raises(AttributeError, match='NoSuchError'):
        _ = mmhybrid.NoSuchError
