"""The demo on a tiny model and four images: it does everything once, and only what is needed."""

import json
import re

import cv2
import pytest


@pytest.fixture
def demo(tool, job, data, tmp_path, monkeypatch):
    """The demo's main with a tiny job; it draws nothing, the data is there."""
    module = tool('demo')
    monkeypatch.setattr(module, 'draw_demo', lambda out, progress: False)
    monkeypatch.setattr(module, 'ROWS', 1)
    config, _ = job('mmdet')

    def main(*arguments):
        folders = ['--data', str(data), '--work-dir', str(tmp_path / 'work')]
        return module.main(['--config', config, *folders, *arguments])

    return main


def test_whole_demo_then_nothing_left_to_do(demo, tool, tmp_path, monkeypatch, capsys):
    metrics = demo()
    output = capsys.readouterr().out
    assert 'box AP' in output and 'mask AP' in output
    assert str(tmp_path / 'work/report.html') in output
    assert 'Masks: average precision' in (tmp_path / 'work/report.html').read_text()
    for name in ('predictions.png', 'curves.png'):
        assert str(tmp_path / 'work' / name) in output
        assert cv2.imread(str(tmp_path / 'work' / name)).shape[1] > 300
    state = json.loads((tmp_path / 'work/demo.json').read_text())
    assert state['finished'] == 'epoch_1.pth'

    def unexpected(*arguments):
        raise AssertionError(arguments)

    monkeypatch.setattr(tool('train'), 'main', unexpected)
    monkeypatch.setattr(tool('test'), 'main', unexpected)
    assert demo() == metrics
    assert 'finished before' in capsys.readouterr().out


def test_there_is_something_to_see_after_each_epoch(demo, tmp_path, capsys):
    demo('--epochs', '2')
    work, output = tmp_path / 'work', capsys.readouterr().out
    (line,) = (line for line in output.splitlines() if 'after epoch 1 of 2' in line)
    assert re.search(r'box AP 0\.\d+, mask AP 0\.\d+, .+; the rest takes about 1 min', line)
    assert str(work / 'predictions_epoch_1.png') in line
    assert cv2.imread(str(work / 'predictions_epoch_1.png')).shape[1] > 300
    assert 'after epoch 2' not in output  # the end says it


def test_goes_on_when_interrupted_and_begins_anew_when_changed(demo, tool, tmp_path, monkeypatch):
    seen = []

    def interrupted(arguments, hooks):
        seen.append(arguments)
        (tmp_path / 'work/epoch_1.pth').write_bytes(b'')
        raise KeyboardInterrupt

    monkeypatch.setattr(tool('train'), 'main', interrupted)
    monkeypatch.setattr('mmhybrid.engine.latest_checkpoint', lambda d: next(d.glob('*.pth'), None))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            demo()
    assert ['--resume' in arguments for arguments in seen] == [False, True]

    path = tmp_path / 'work/demo.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(fingerprint='another')))
    with pytest.raises(KeyboardInterrupt):
        demo()
    assert '--resume' not in seen[-1]


def test_other_trainings_are_left_alone(demo, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/epoch_3.pth').touch()
    with pytest.raises(ValueError, match='another training'):
        demo()
    assert (tmp_path / 'work/epoch_3.pth').exists()


def test_fewer_epochs(tool):
    module = tool('demo')
    config = str(module.CHECKOUT / 'configs/demo_maskrcnn_vitcomer_t.py')
    expected = {
        'train_cfg.max_epochs': 2, 'param_scheduler.1.T_max': 2, 'param_scheduler.1.end': 2,
    }  # fmt: skip
    assert module.shorter(config, 2) == expected  # the warm-up counts steps
    with pytest.raises(SystemExit):
        module.main(['--epochs', '0'])
