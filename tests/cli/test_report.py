"""Reports of small jobs of each host library."""

import argparse
import inspect

import pytest
from mmengine.registry import VISBACKENDS

from mmhybrid.cli.arguments import TRACKERS
from tests.inspect.report.test_page import check


@pytest.mark.parametrize(
    ('scope', 'texts'),
    [
        (
            'mmdet',
            ('Boxes: average precision', 'Masks: average precision', 'coco/segm_mAP', 'gear'),
        ),
        ('mmseg', ('Pixels by class', 'IoU by class', 'mIoU', 'background')),
        ('mmpretrain', ('Images by class', 'accuracy/top1', 'one class against the rest')),
    ],
)
def test_after_training_and_from_the_work_dir(scope, texts, tool, job, tmp_path, capsys):
    config, options = job(scope, 'model.backbone.drop_path_rate=0.1')
    work_dir = tmp_path / 'work'
    tool('train').main([config, '--work-dir', str(work_dir), '--report', *options])
    first = check((work_dir / 'report.html').read_text())
    assert 'class="card"' in first
    for text in (*texts, 'Worst images', 'Best images', 'drop_path_rate=0.1', 'of this training'):
        assert text in first, text
    out = tmp_path / 'page.html'
    arguments = [str(work_dir), '--out', str(out), '--examples', '1', '--score-thr', '0']
    assert tool('report').main(arguments) == out
    second = check(out.read_text())
    assert all(text in second for text in texts) and 'class="card"' in second
    assert ('class="legend"' in second) == (scope == 'mmseg')
    checkpoint = next(work_dir.glob('*.pth')).name
    assert f'<td>{checkpoint}</td>' in second
    assert second[second.index('id="best-images"') :].count('<img') == 2
    assert list(tmp_path.glob('**/*.part')) == []


def test_bad_work_dirs(tool, tmp_path, capsys):
    main = tool('report').main
    with pytest.raises(ValueError, match='work dir not found: nowhere'):
        main(['nowhere'])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='the one config of a training; it holds none'):
        main(['empty'])
    for name in ('other.py', 'config.py'):
        (tmp_path / 'empty' / name).write_text('')
    with pytest.raises(ValueError, match='holds config.py, other.py. Move all others away than'):
        main(['empty'])
    (tmp_path / 'empty/other.py').unlink()
    with pytest.raises(ValueError, match='holds no checkpoint: has its training'):
        main(['empty'])
    with pytest.raises(ValueError, match='checkpoint not found: a.pth'):
        main(['empty', '--checkpoint', 'a.pth'])
    with pytest.raises(SystemExit):
        main(['empty', '--out', 'page.pdf'])
    assert 'expected an .html file' in capsys.readouterr().err


def test_a_report_that_fails_ends_nothing(tool, job, tmp_path, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError('no page today')

    monkeypatch.setattr('mmhybrid.inspect.report.page.build_page', fail)
    config, options = job('mmseg')
    work_dir = tmp_path / 'work'
    tool('train').main([config, '--work-dir', str(work_dir), '--report', *options])
    assert list(work_dir.glob('*.pth')) and not (work_dir / 'report.html').exists()
    log = next(work_dir.glob('*/*.log')).read_text()
    assert 'no report was written' in log and 'no page today' in log
    # Each run of a process logs into its own folder.
    assert len(list(work_dir.glob('*/vis_data/scalars.json'))) == 1


@pytest.mark.parametrize(('name', 'entry'), list(TRACKERS.items()))
def test_trackers(name, entry, tool, job, monkeypatch):
    load_config = tool('config').load_config
    config, _ = job('mmseg')
    arguments = argparse.Namespace(
        config=config, cfg_options={}, work_dir='runs/first', **{name: True}
    )
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ValueError, match=f'pip install {name}'):
        load_config(arguments)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: name)
    backends = load_config(arguments).visualizer.vis_backends
    assert [b['type'] for b in backends] == ['LocalVisBackend', entry[1]]
    options = {key: value for key, value in backends[1].items() if key != 'type'}
    inspect.signature(VISBACKENDS.get(entry[1])).bind('folder', **options)
    assert name == 'tensorboard' or 'first' in str(options)


def test_mlflow_writes_where_the_environment_says(tool, job, monkeypatch, tmp_path):
    config, _ = job('mmseg')
    arguments = argparse.Namespace(config=config, cfg_options={}, work_dir='runs/a', mlflow=True)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: name)

    def uri():
        return tool('config').load_config(arguments).visualizer.vis_backends[1].tracking_uri

    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    assert uri() == f'sqlite:///{tmp_path}/runs/mlflow.db'
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://server:5000')
    assert uri() == 'http://server:5000'
