"""What a user can get wrong ends in a message, before anything is trained."""

import argparse
import json
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmhybrid.checkpoints import CheckpointError
from mmhybrid.datasets.coco import DataError

from .conftest import CONFIGS, TOOLS


def fails(main, arguments, *parts):
    with pytest.raises((ValueError, CheckpointError)) as error:
        main([str(a) for a in arguments])
    for part in parts:
        assert part in str(error.value), error.value


def test_missing_config(tool):
    fails(
        tool('train').main,
        ['configs/maskrcnn_vitcomer_x.py'],
        'did you mean',
        'maskrcnn_vitcomer_t.py',
    )


def test_config_of_no_host(tool, tmp_path):
    (tmp_path / 'config.py').write_text('model = dict()')
    fails(tool('train').main, ['config.py'], 'default_scope=None', 'mmseg')


def test_config_that_is_cut_short(tool, tmp_path):
    (tmp_path / 'config.py').write_text("default_scope = 'mmdet'\nmodel = dict(\n")
    message = "config.py cannot be read, SyntaxError in line 2: '(' was never closed"
    fails(tool('train').main, ['config.py'], message)


def test_misspelt_option(tool, job):
    config, options = job('mmdet', 'train_cgf.max_epochs=3')
    fails(tool('train').main, [config, *options], "no 'train_cgf'", "'train_cfg'")


@pytest.mark.parametrize(
    'option', ['train_dataloader.batch_size=0', 'train_cfg.max_epochs=0', 'train_cfg.max_epochs=-2']
)
def test_option_out_of_range(option, tool, job):
    config, options = job('mmdet', option)
    fails(tool('train').main, [config, *options], option, 'at least 1')


def test_missing_data(tool, job, data):
    config, _ = job('mmdet')
    train = tool('train').main
    fails(train, [config, '--cfg-options', 'data_root=/no/demo'], '/no/demo', 'mmhybrid.datasets')
    config, options = job('mmdet', 'train_dataloader.dataset.ann_file=annotations/nothing.json')
    fails(train, [config, *options], 'annotations/nothing.json', 'demo.json')
    config, options = job('mmseg', 'val_dataloader.dataset.data_prefix.img_path=nothing')
    fails(train, [config, *options], 'image folder of val', 'nothing')


def test_classes_that_do_not_match(tool, job, data, tmp_path):
    config, options = job('mmdet', 'train_dataloader.dataset.metainfo.classes=star,hart')
    fails(tool('train').main, [config, *options], 'not in the file: hart', 'star, heart, fish')
    config, options = job('mmdet', 'model.roi_head.bbox_head.num_classes=5')
    fails(tool('train').main, [config, *options], 'bbox_head.num_classes=5', '6 classes')


def test_default_classes_of_coco_are_checked_too(tool, data):
    config = CONFIGS / 'maskrcnn_vitcomer_t.py'
    options = [
        f'{split}_dataloader.dataset.{key}'
        for split in ('train', 'val')
        for key in (
            f'ann_file=annotations/instances_{split}.json',
            f'data_prefix.img=images/{split}',
        )
    ]
    arguments = [config, '--cfg-options', f'data_root={data}', *options]
    fails(tool('train').main, arguments, 'not in the file: person', 'file:   star')


def test_checkpoints(tool, job, data, tmp_path):
    config, options = job('mmpretrain')
    test, infer, train = (tool(name).main for name in ('test', 'infer', 'train'))
    fails(test, [config, 'nothing.pth', *options], 'checkpoint not found: nothing.pth')
    cut = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(1000))), cut)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    fails(test, [config, cut, *options], 'cut.pth')
    other = tmp_path / 'other.pth'
    other.write_bytes(whole)
    for main, extra in ((test, []), (infer, [data / 'images'])):
        fails(main, [config, other, *extra, *options], 'missing: backbone.', '1 unexpected: weight')
    fails(train, [config, '--resume', other, *options], 'missing: backbone.')
    fails(train, [config, *options, 'load_from=nothing.pth'], 'not found: nothing.pth')


def test_images_to_predict(tool, job, data, tmp_path):
    config, options = job('mmpretrain')
    infer = tool('infer').main
    (tmp_path / 'a.pth').touch()
    (tmp_path / 'notes.txt').touch()
    (tmp_path / 'empty').mkdir()
    fails(infer, [config, 'a.pth', 'nowhere', *options], 'not found: nowhere')
    fails(infer, [config, 'a.pth', 'notes.txt', *options], 'not an image', '.jpg')
    fails(infer, [config, 'a.pth', 'empty', *options], 'no images in empty')
    for score in ('1.5', '-1', 'high'):
        with pytest.raises(SystemExit):
            infer([config, 'a.pth', 'empty', '--score-thr', score, *options])


def test_a_config_without_training(tool, tmp_path):
    (tmp_path / 'config.py').write_text("default_scope = 'mmdet'\nmodel = dict(type='MaskRCNN')")
    fails(tool('train').main, ['config.py'], 'has no train_dataloader')
    (tmp_path / 'a.pth').touch()
    fails(tool('test').main, ['config.py', 'a.pth'], 'has no test_dataloader')
    fails(tool('test').main, ['config.py', 'b.pth'], 'b.pth')


def test_data_root_moves_every_path(tool, data):
    common = tool('_common')
    for name in ('demo_maskrcnn_vitcomer_t.py', 'upernet_vitcomer_t.py', 'maskrcnn_vitcomer_b.py'):
        cfg = common.load_config(
            argparse.Namespace(
                config=str(CONFIGS / name), cfg_options=dict(data_root='/x/y'), work_dir=None
            )
        )
        assert cfg.data_root == '/x/y'
        assert cfg.val_dataloader.dataset.data_root == '/x/y'
        assert "'data/" not in repr(cfg._cfg_dict)
        if 'ann_file' in cfg.val_evaluator:
            assert cfg.test_evaluator.ann_file.startswith('/x/y/annotations/')
        assert cfg.work_dir == f'work_dirs/{name[:-3]}'


def test_on_a_cpu_mixed_precision_becomes_plain(tool, monkeypatch):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    load_config = tool('_common').load_config
    config = str(CONFIGS / 'maskrcnn_vitcomer_b.py')
    for amp, kind in ((False, 'OptimWrapper'), (True, 'mmhybrid.Bf16OptimWrapper')):
        cfg = load_config(argparse.Namespace(config=config, cfg_options={}, work_dir=None, amp=amp))
        assert cfg.optim_wrapper.type == kind
        assert 'loss_scale' not in cfg.optim_wrapper
        assert cfg.env_cfg.dist_cfg.backend == 'gloo'


def test_custom_config_follows_the_folder(tool, data, tmp_path):
    common = tool('_common')
    arguments = argparse.Namespace(
        config=str(CONFIGS / 'maskrcnn_vitcomer_t_custom.py'),
        cfg_options=dict(data_root=str(data), classes=['moon', 'star'], max_iters=20),
        work_dir=None,
    )
    cfg = common.load_config(arguments)
    common.check_data(cfg, ['train', 'val', 'test'])
    assert cfg.classes == ['star', 'moon']
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == 20
    cfg.dump(tmp_path / 'saved.py')  # what a work dir keeps serves the tools by itself
    saved = Config.fromfile(tmp_path / 'saved.py')
    assert saved.test_dataloader.dataset.metainfo.classes == ['star', 'moon']
    arguments.cfg_options = dict(data_root=str(data), classes='sun')
    with pytest.raises(DataError, match='not in the file: sun'):
        common.load_config(arguments)


def test_the_checkpoint_of_a_work_dir(tool, tmp_path):
    common = tool('_common')
    with pytest.raises(common.UsageError, match='holds no checkpoint'):
        common.find_checkpoint(tmp_path)
    for step, name in enumerate(('iter_20.pth', 'best_mIoU_iter_10.pth', 'best_mIoU_iter_15.pth')):
        torch.save(dict(state_dict=dict(a=torch.zeros(1)), meta={}), tmp_path / name)
        os.utime(tmp_path / name, (step, step))
        assert common.find_checkpoint(str(tmp_path)) == tmp_path / name
    assert common.find_checkpoint(tmp_path / 'iter_20.pth').name == 'iter_20.pth'


def test_a_message_and_no_traceback(tmp_path):
    result = subprocess.run(
        [sys.executable, TOOLS / 'train.py', 'nothing.py'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith('error: config not found: nothing.py')
    assert 'Traceback' not in result.stderr
    assert json.dumps(list(tmp_path.iterdir())) == '[]'
