"""An evaluation on disturbed images: what is changed, what is compared, what collapses."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import save_checkpoint

from mmhybrid.cli import robustness
from mmhybrid.cli.robustness import disturbed, table
from mmhybrid.cli.usage import UsageError
from mmhybrid.deploy.errors import ExportError


def config(*steps):
    return Config(dict(test_dataloader=dict(dataset=dict(pipeline=list(steps)))))


def pipeline(cfg):
    return cfg.test_dataloader.dataset.pipeline


def test_a_disturbance_follows_the_loading_of_the_image():
    load, resize = dict(type='mmseg.LoadImageFromFile'), dict(type='Resize', scale=(64, 32))
    cfg = config(dict(type='Keep'), load, dict(type='LoadAnnotations'), resize)
    changed = pipeline(disturbed(cfg, 'jpeg', 30))
    assert [step['type'] for step in changed][1:3] == [
        'mmseg.LoadImageFromFile',
        'mmhybrid.Disturb',
    ]
    assert changed[2] == dict(type='mmhybrid.Disturb', kind='jpeg', strength=30)
    assert len(pipeline(cfg)) == 4  # the caller's is as it was
    assert pipeline(disturbed(config(resize), 'blur', 1.0))[0]['type'] == 'mmhybrid.Disturb'
    remote = dict(type='LoadSingleRSImageFromFile')
    assert pipeline(disturbed(config(remote, resize), 'blur', 1.0))[1]['type'] == 'mmhybrid.Disturb'
    with pytest.raises(
        UsageError, match=r"a step that loads images .* got \['LoadVideo', 'Resize'\]"
    ):
        disturbed(config(dict(type='LoadVideo'), resize), 'blur', 1.0)


def test_sizes_change_every_scale():
    cfg = config(
        dict(type='Resize', scale=(65, 32), keep_ratio=True),
        dict(type='ResizeEdge', scale=257),
        dict(type='CenterCrop', crop_size=224),
        dict(type='Resize', scale_factor=0.3),
        dict(type='Resize', scale=(math.inf, 800)),
        dict(type='Pad', size_divisor=32),
    )
    small = pipeline(disturbed(cfg, 'size', 0.5))
    assert (small[0]['scale'], small[1]['scale'], small[2]['crop_size']) == ((32, 16), 128, 112)
    assert small[3]['scale_factor'] == pytest.approx(0.15) and small[5] == pipeline(cfg)[5]
    assert small[4]['scale'] == (math.inf, 400)
    with pytest.raises(UsageError, match='size_2: no step .* --only'):
        disturbed(config(dict(type='Pad', size_divisor=32)), 'size', 2.0)


def test_every_data_set_of_several():
    parts = [dict(type='A', pipeline=[dict(type='LoadImageFromFile')]) for _ in range(2)]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=parts))))
    changed = disturbed(cfg, 'noise', 0.1).test_dataloader.dataset.datasets
    assert [len(part.pipeline) for part in changed] == [2, 2]


def test_a_table():
    results = dict(none=dict(mIoU=40.0, aAcc=80.0), blur_1=dict(mIoU=38.5, aAcc=81.25))
    text, collapsed = table(results, None, 2)
    assert collapsed == 0 and text.splitlines() == [
        '| | mIoU | aAcc |',
        '|---|---|---|',
        '| none | 40.00 | 80.00 |',
        '| blur_1 | 38.50 (-1.50) | 81.25 (+1.25) |',
    ]
    assert table(results, ['aAcc'], 1)[0].splitlines()[-1] == '| blur_1 | 81.2 (+1.2) |'


def test_nothing_collapses_in_silence():
    results = dict(
        none={'mAP': 0.4, 'mAP_s': -1.0},
        jpeg_10={'mAP': 0.0, 'mAP_s': -1.0},
        blur_3={},
        noise_1={'mAP': math.nan, 'mAP_s': -1.0},
        blur_1={'mAP': 0.1, 'mAP_s': -1.0},
        noise_2={'mAP': 0.039, 'mAP_s': -1.0},  # less than a tenth
    )
    text, collapsed = table(results, ['mAP_s'], 3)  # also where the metric is no column
    assert collapsed == 4
    assert text.splitlines()[-5:] == [
        '',
        'jpeg_10: collapsed: mAP 0',
        'blur_3: collapsed: no object was found',
        'noise_1: collapsed: mAP nan',
        'noise_2: collapsed: mAP 0.039',
    ]
    assert '| blur_3 | - |' in text
    assert table(dict(none=dict(a=math.nan, b=1.0)), None, 1)[0].endswith(
        'none: collapsed: a nan\n'
    )


@pytest.fixture
def trained(tool, job, tmp_path):
    """A function of a host: arguments for a model of random weights and its data."""

    def arguments(scope):
        from mmengine.registry import MODELS

        config, options = job(scope)
        cfg = Config.fromfile(config)
        init_default_scope(scope)
        torch.manual_seed(0)
        save_checkpoint(dict(state_dict=MODELS.build(cfg.model).state_dict()), 'model.pth')
        return [config, 'model.pth', *options, 'test_dataloader.num_workers=0']

    return arguments


def test_a_segmentor_from_beginning_to_end(trained, tmp_path, capsys):
    arguments = trained('mmseg')
    chosen = ['--only', 'brightness_0.5', 'size_2', '--metrics', 'aAcc', '--output', 'out.md']
    robustness.main([*arguments[:2], *chosen, *arguments[2:]])
    text = (tmp_path / 'out.md').read_text()
    rows = text.splitlines()[2:5]
    assert [row.split('|')[1].strip() for row in rows] == ['none', 'size_2', 'brightness_0.5']
    assert text in capsys.readouterr().out
    values = {row.split('|')[2].split()[0] for row in rows}
    assert len(values) == 3  # each saw other images
    logs = tmp_path / 'work_dirs/tiny_mmseg/robustness'
    assert {path.name for path in logs.iterdir()} == {'none', 'size_2', 'brightness_0.5'}


def test_a_model_that_finds_nothing_is_no_measure(trained, tmp_path):
    with pytest.raises(UsageError, match='nothing to compare with'):
        robustness.main(trained('mmdet'))
    assert not list(tmp_path.rglob('*.md'))


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_images_of_every_host(scope, trained, monkeypatch):
    seen = []

    def evaluate(cfg, checkpoint, options):
        from mmengine.registry import DATASETS

        init_default_scope(cfg.default_scope)
        seen.append(DATASETS.build(cfg.test_dataloader.dataset)[1]['inputs'])
        return {'metric': 50.0}, None

    monkeypatch.setattr(robustness, 'evaluate_config', evaluate)
    arguments = trained(scope)
    chosen = ['--only', 'noise_0.05', 'brightness_0.5', 'size_2']
    assert robustness.main([*arguments[:2], *chosen, *arguments[2:]]) == 0
    none, size, noise, dark = (image.float() for image in seen)
    assert size.shape == (3, 2 * none.shape[1], 2 * none.shape[2])
    assert noise.shape == dark.shape == none.shape
    # Noise of 0.05 * 255; less where it is resized, or cut at black and white.
    assert 3 < (noise - none).abs().mean() < 15
    torch.testing.assert_close(dark, none / 2, atol=2, rtol=0)


def test_what_was_evaluated_is_kept(trained, monkeypatch, tmp_path):
    def evaluate(cfg, checkpoint, options):
        if 'blur' in cfg.work_dir:
            raise KeyboardInterrupt
        return dict(mIoU=50.0), None

    monkeypatch.setattr(robustness, 'evaluate_config', evaluate)
    with pytest.raises(KeyboardInterrupt):
        robustness.main(trained('mmseg'))
    (text,) = [path.read_text() for path in tmp_path.rglob('robustness.md')]
    assert text.splitlines()[-1] == '| jpeg_10 | 50.00 (+0.00) |'


def test_a_file_of_one_size(trained, monkeypatch, capsys):
    seen = []

    def evaluate(cfg, checkpoint, options):
        seen.append(*(step['scale'] for step in pipeline(cfg) if 'scale' in step))
        if seen[-1] != seen[0]:
            raise ExportError('model.onnx takes a batch of shape (1, 3, 64, 96)')
        return dict(mIoU=50.0, aAcc=70.0), None

    monkeypatch.setattr(robustness, 'evaluate_config', evaluate)
    arguments = trained('mmseg')
    chosen = ['--only', 'size_0.5', 'blur_1']
    assert robustness.main([*arguments[:2], *chosen, *arguments[2:]]) == 1
    out = capsys.readouterr().out
    assert '| size_0.5 | - | - |\n| blur_1 | 50.00 (+0.00) | 70.00 (+0.00) |' in out
    assert 'size_0.5: not evaluated: model.onnx takes a batch' in out
    with pytest.raises(UsageError, match='no IoU; there are mIoU, aAcc'):
        robustness.main([*arguments[:2], '--metrics', 'IoU', *arguments[2:]])
