"""A small job of each host library through the three tools, on a CPU."""

import json
import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmhybrid.checkpoints import CheckpointError
from mmhybrid.cli.usage import UsageError
from mmhybrid.engine import read_checkpoint
from mmhybrid.engine.console import EvaluationsInEta


@pytest.mark.parametrize(
    'scope, metric, amp',
    [
        ('mmdet', 'coco/segm_mAP', ['--amp']),
        ('mmseg', 'mIoU', []),
        ('mmpretrain', 'accuracy/top1', []),
    ],
)
def test_train_evaluate_predict(scope, metric, amp, tool, job, data, tmp_path):
    config, options = job(scope)
    tool('train').main([config, '--work-dir', 'work', '--seed', '1', *amp, *options])
    checkpoint = next((tmp_path / 'work').glob('*.pth'))
    assert not list((tmp_path / 'work').glob('*.part'))

    if scope == 'mmseg':  # the work dir alone
        trained, options = ['work'], []
        arguments = [*trained, '--work-dir', 'tested', '--out', 'out.pkl']
    else:
        trained = [config, 'work']
        arguments = [config, '--work-dir', 'tested', '--out', 'out.pkl', str(checkpoint)]
    metrics = tool('test').main([*arguments, '--show-dir', 'shown', *options])
    assert metric in metrics
    assert not list((tmp_path / 'tested').glob('*.py'))  # it would take the place of a training's
    assert len(pickle.loads((tmp_path / 'out.pkl').read_bytes())) > 0
    assert [p for p in (tmp_path / 'shown').rglob('*') if p.suffix in ('.jpg', '.png')]

    source = data / 'images'
    arguments = [*trained, str(source), '--out-dir', 'out', '--score-thr', '0']
    assert tool('infer').main([*arguments, *options]) == 0
    written = sorted(p.name for p in (tmp_path / 'out/pictures/val').iterdir())
    assert written == ['000000.jpg', '000001.jpg']
    prediction = json.loads((tmp_path / 'out/predictions/val/000000.jpg.json').read_text())
    assert (prediction['width'], prediction['height']) == (96, 64)
    if scope == 'mmdet':
        first = prediction['instances'][0]
        assert set(first) == {'bbox', 'label', 'score', 'class', 'mask'}
        assert first['mask']['size'] == [64, 96]
    elif scope == 'mmseg':
        assert sum(prediction['shares'].values()) == pytest.approx(1, abs=0.01)
        assert (tmp_path / 'out/predictions/val/000000.jpg.png').is_file()
    else:
        assert len(prediction['classes']) == 5


def test_resume_goes_on_from_the_last_complete_checkpoint(tool, job, tmp_path, capsys):
    config, options = job('mmseg', 'train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=2')
    train = tool('train').main
    train([config, '--work-dir', 'work', '--no-validate', *options])
    last = tmp_path / 'work/iter_4.pth'
    last.write_bytes(last.read_bytes()[:5000])  # as left by a kill in the middle of writing
    runner = train([config, '--work-dir', 'work', '--no-validate', '--resume', *options])
    assert runner._load_from.endswith('iter_2.pth')
    assert runner.iter == 4
    assert any(isinstance(hook, EvaluationsInEta) for hook in runner.hooks)
    assert f'skipped: {last.name}' in capsys.readouterr().out.replace('work/', '')
    saved = Config.fromfile(tmp_path / 'work/tiny_mmseg.py')  # a new training begins anew
    assert saved.load_from is None and saved.resume is False

    # Nothing to go on from: it begins as without --resume.
    begin = [config, '--work-dir', 'other', '--no-validate', '--resume', *options]
    runner = train([*begin, f'load_from={last}', 'train_cfg.max_iters=1'])
    assert runner._load_from == str(last) and not runner._resume and runner.iter == 1
    with pytest.raises(UsageError, match='has resume=True: .*give --resume.* load_from=None'):
        train([config, '--work-dir', 'third', *options, 'resume=True'])
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=read_checkpoint(last)['state_dict'], meta=dict(iter=4)), weights)
    message = 'no optimizer, no param_schedulers to go on with.*load_from=.*weights.pth'
    with pytest.raises(UsageError, match=message):
        train([config, '--work-dir', 'third', '--resume', str(weights), *options])


def test_checkpoints_in_another_folder(tool, job, tmp_path):
    config, options = job(
        'mmseg',
        'train_cfg.max_iters=2',
        'default_hooks.checkpoint.interval=1',
        f'default_hooks.checkpoint.out_dir={tmp_path}/big',
    )
    arguments = [config, '--work-dir', 'first', '--no-validate', *options]
    train = tool('train')
    done = train.train(train.parse_args(arguments))
    assert done.checkpoint == tmp_path / 'big' / 'first' / 'iter_2.pth'
    assert tool('paths').find_checkpoint('first') == done.checkpoint
    own = tmp_path / 'first' / 'iter_1.pth'  # what lies in the folder itself comes first
    shutil.copy(done.checkpoint, own)
    (done.checkpoint.parent / 'best_mIoU_iter_1.pth').touch()
    assert tool('paths').find_checkpoint('first').samefile(own)
    own.unlink()
    runner = train.main([*arguments, 'train_cfg.max_iters=3', '--resume'])
    assert runner._load_from == str(done.checkpoint) and runner.iter == 3


def test_what_stands_beside_the_model(tool, job, tmp_path):
    config, options = job('mmpretrain')
    cfg = Config.fromfile(config)
    given = cfg.model.pop('data_preprocessor')
    cfg.data_preprocessor = given
    cfg.custom_hooks = [dict(type='EMAHook')]
    cfg.dump(tmp_path / 'own.py')
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=tool('models').open_model(config).model.state_dict()), weights)
    test = tool('test')
    read, _ = test.prepare(test.parse_args([str(tmp_path / 'own.py'), str(weights), *options]))
    assert read.model.data_preprocessor == given  # without which images are not normalised
    assert read.custom_hooks == []


def test_data_weights_and_what_is_printed(tool, job, data, tmp_path, capsys):
    config, _ = job('mmpretrain')
    weights = tmp_path / 'weights.pth'
    main = tool('train').main
    options = ['--data', str(data), '--seed', '0']
    work_dir = tmp_path / 'first'
    main([config, *options, '--work-dir', str(work_dir), '--early-stop', 'accuracy/top1'])
    out = capsys.readouterr().out
    _, _, block = out.rpartition('\nresults\n')
    printed = dict(line.split(maxsplit=1) for line in block.splitlines())
    # A person can read it all; what the hosts say of each parameter is in the file.
    assert len(out.splitlines()) < 40 and out.count('AdamW: ') == 1
    assert 'config: first/tiny_mmpretrain.py; ' in out and 'the log in first/' in out
    (file,) = work_dir.glob('*/*.log')
    log = file.read_text()
    for text in ('Config:\n', 'Hooks will be executed', 'System environment'):
        assert text in log and text not in out
    assert printed['checkpoint'] == 'first/epoch_1.pth'  # from where the user is
    assert 'accuracy/top1 ' in printed['metrics'] and printed['log'].startswith('first/')

    state = read_checkpoint(work_dir / 'epoch_1.pth')['state_dict']
    vit = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')}
    torch.save(vit, weights)
    work_dir = tmp_path / 'second'
    lr = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.0']
    main([config, *options, '--work-dir', str(work_dir), '--weights', str(weights), *lr])
    begun = read_checkpoint(work_dir / 'epoch_1.pth')['state_dict']
    for name, _ in filter(lambda item: item[1].is_floating_point(), state.items()):
        if name.startswith('backbone.vit.'):
            assert torch.equal(begun[name], state[name]), name


@pytest.mark.parametrize(
    ('given', 'parts'),
    [
        (['--data', 'x', '--cfg-options', 'data_root=y'], ['--data x', 'data_root=y']),
        (['--early-stop', 'mIoU', '--no-validate'], ['--early-stop']),
        (['--early-stop', 'mIoU', '--patience', '0'], ['--patience 0']),
    ],
)
def test_options_that_do_not_go_together(given, parts, tool, job):
    config, options = job('mmseg')
    data = [] if '--data' in given else options
    with pytest.raises(ValueError) as error:
        tool('train').main(
            [config, *data, *given] if '--data' in given else [config, *given, *data]
        )
    for part in parts:
        assert part in str(error.value)


def test_early_stopping_knows_the_metrics_of_the_config(tool, job, tmp_path):
    config, options = job('mmdet')
    with pytest.raises(ValueError, match='mIoU.*begin with coco/'):
        tool('train').main([config, '--early-stop', 'mIoU', *options])
    assert not list(tmp_path.iterdir())


def test_a_name_that_only_the_config_reads(tool):
    with pytest.raises(ValueError, match='nothing reads max_epochs.*train_cfg.max_epochs='):
        tool('train').main(['demo_maskrcnn_vitcomer_t', '--cfg-options', 'max_epochs=1'])


def test_weights_of_no_name_end_before_anything_is_built(tool, job, tmp_path):
    config, options = job('mmseg')
    with pytest.raises(CheckpointError, match='deit_tiny_patch16_225.*deit_tiny_patch16_224'):
        tool('train').main([config, *options, '--weights', 'deit_tiny_patch16_225'])
    assert not list(tmp_path.iterdir())


def test_an_evaluation_in_which_nothing_is_found(tool):
    said, metrics = [], {'coco/bbox_mAP': 0.4}
    hook = tool('train')._keep_metrics(metrics)
    runner = SimpleNamespace(logger=SimpleNamespace(info=said.append))
    hook.after_val_epoch(runner, {})
    assert metrics == {} and len(said) == 1 and 'no object was found' in said[0]
    hook.after_val_epoch(runner, {'coco/bbox_mAP': 0.5})
    assert metrics == {'coco/bbox_mAP': 0.5} and len(said) == 1
