"""What a user can get wrong ends in a message, before anything is trained."""

import argparse
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmhybrid import config_path
from mmhybrid.checkpoints import CheckpointError
from mmhybrid.cli.arguments import argument_parser
from mmhybrid.cli.config import load_config
from mmhybrid.cli.datasets import check_data
from mmhybrid.cli.keys import check_nested
from mmhybrid.cli.paths import find_checkpoint, is_config
from mmhybrid.cli.usage import UsageError, run
from mmhybrid.data.coco import DataError
from mmhybrid.files import write_file
from mmhybrid.stacks import ROOT

from .conftest import CONFIGS


def fails(main, arguments, *parts):
    with pytest.raises((ValueError, CheckpointError)) as error:
        main([str(a) for a in arguments])
    for part in parts:
        assert part in str(error.value), error.value


def test_missing_config(tool):
    fails(
        tool('train').main,
        ['configs/maskrcnn_vitcomer_x.py'],
        'config not found: configs/maskrcnn_vitcomer_x.py',
        'did you mean maskrcnn_vitcomer_',
    )
    fails(
        tool('train').main,
        ['configs/retinanet_cmt_s.py'],
        'configs/retinanet_cmt_s.py is now configs/cmt/retinanet_cmt_s.py',
    )
    Path('mine.py').touch()
    fails(tool('train').main, ['mine_.py'], 'did you mean mine.py?')


@pytest.mark.parametrize(
    'name',
    [
        *('retinanet_cmt_s', 'retinanet_cmt_s.py', 'mmhybrid::retinanet_cmt_s'),
        *('configs/cmt/retinanet_cmt_s.py', 'cmt/retinanet_cmt_s.py'),
    ],
)
def test_a_config_by_name(name, tool, tmp_path):
    """Wherever the command is called."""
    cfg = load_config(argparse.Namespace(config=name, cfg_options={}, work_dir=None))
    assert cfg.filename == config_path('retinanet_cmt_s')
    assert cfg.work_dir == 'work_dirs/retinanet_cmt_s'
    assert is_config(name)


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
    fails(train, [config, '--cfg-options', 'data_root=/no/demo'], '/no/demo', 'mmhybrid.data')
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
    config = config_path('maskrcnn_vitcomer_t')
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
    (tmp_path / 'folder').mkdir()
    fails(train, [config, '--resume', 'folder', *options], 'folder holds no checkpoint')
    (tmp_path / 'folder/iter_1.pth').write_bytes(whole)
    fails(train, [config, '--resume', 'folder', *options], 'folder/iter_1.pth', 'missing: backbone')


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
    for name in ('demo_maskrcnn_vitcomer_t.py', 'upernet_vitcomer_t.py', 'maskrcnn_vitcomer_b.py'):
        cfg = load_config(
            argparse.Namespace(
                config=config_path(name), cfg_options=dict(data_root='/x/y'), work_dir=None
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
    config = str(CONFIGS / 'maskrcnn_vitcomer_b.py')
    for amp, kind in ((False, 'OptimWrapper'), (True, 'mmhybrid.Bf16OptimWrapper')):
        cfg = load_config(argparse.Namespace(config=config, cfg_options={}, work_dir=None, amp=amp))
        assert cfg.optim_wrapper.type == kind
        assert 'loss_scale' not in cfg.optim_wrapper
        assert cfg.env_cfg.dist_cfg.backend == 'gloo'


def test_custom_config_follows_the_folder(tool, data, tmp_path):
    arguments = argparse.Namespace(
        config=str(CONFIGS / 'maskrcnn_vitcomer_t_custom.py'),
        cfg_options=dict(data_root=str(data), classes=['moon', 'star'], max_iters=20),
        work_dir=None,
    )
    cfg = load_config(arguments)
    check_data(cfg, ['train', 'val', 'test'])
    assert cfg.classes == ['star', 'moon']
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == 20
    cfg.dump(tmp_path / 'saved.py')  # what a work dir keeps serves the tools by itself
    saved = Config.fromfile(tmp_path / 'saved.py')
    assert saved.test_dataloader.dataset.metainfo.classes == ['star', 'moon']
    arguments.cfg_options = dict(data_root=str(data), classes='sun')
    with pytest.raises(DataError, match='not in the file: sun'):
        load_config(arguments)


def test_the_checkpoint_of_a_work_dir(tool, tmp_path):
    with pytest.raises(UsageError, match='holds no checkpoint'):
        find_checkpoint(tmp_path)
    for step, name in enumerate(('iter_20.pth', 'best_mIoU_iter_10.pth', 'best_mIoU_iter_15.pth')):
        torch.save(dict(state_dict=dict(a=torch.zeros(1)), meta={}), tmp_path / name)
        os.utime(tmp_path / name, (step, step))
        assert find_checkpoint(str(tmp_path)) == tmp_path / name
    assert find_checkpoint(tmp_path / 'iter_20.pth').name == 'iter_20.pth'


def test_a_message_and_no_traceback(tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', 'nothing.py'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith('error: config not found: nothing.py')
    assert 'Traceback' not in result.stderr
    assert json.dumps(list(tmp_path.iterdir())) == '[]'


@pytest.fixture
def printed(tool):
    """A function of a tool's name and its arguments: what it ends with on a command line."""

    def start(name, *arguments):
        with pytest.raises(SystemExit) as stop:
            run(lambda: tool(name).main([str(a) for a in arguments]))
        return stop.value.code

    return start


@pytest.mark.parametrize(
    ('option', 'parts'),
    [
        ('train_cfg.max_epochs=abc', ['train_cfg.max_epochs=abc: expected a whole number']),
        ('train_cfg.max_epochs=2.5', ['train_cfg.max_epochs=2.5: expected a whole number']),
        ('train_dataloader.batch_size=abc', ['batch_size=abc: expected a whole number']),
        ('train_dataloader=3', ['train_dataloader=3: it has several', 'NAME=...: batch_size, ']),
        ('train_dataloader.num_workers=x', ["'>' not supported between instances of 'str'"]),
        ('train_dataloader.dataset.pipeline.19.type=X', ['--cfg-options', 'Index 19 exceeds']),
        ('model.backbone.arch=xx', ["ViTCoMer has no arch 'xx'; use one of"]),
        (
            'model.backbone.type=mmhybrid.CMTT',
            ['cannot be built: KeyError: mmhybrid.CMTT is not', 'did you mean mmhybrid.CMT?'],
        ),
        ('model.backbon.arch=s', ["model has no 'backbon', but 'backbone'"]),
        ('train_dataloader.batchsize=4', ["has no 'batchsize', but 'batch_size'"]),
        ('train_dataloader.colour=4', ["takes no 'colour'; it takes batch_sampler", 'sampler']),
        ('train_cfg.max_epoch=3', ["train_cfg has no 'max_epoch', but 'max_epochs'"]),
        ('optim_wrapper.optimzer.lr=1e-4', ["optim_wrapper has no 'optimzer', but 'optimizer'"]),
        ('optim_wrapper.optimizer.weight_decai=0', ["but 'weight_decay'"]),
        ('default_hooks.chekpoint.interval=2', ["has no 'chekpoint', but 'checkpoint'"]),
        ('model.roi_head.bbox_head.num_class=3', ["bbox_head has no 'num_class', but"]),
        ('model.test_cfg.rcnn.score_th=0.3', ["has no 'score_th', but 'score_thr'"]),
        ('train_dataloader.dataset.pipeline.2.keep_ration=1', ["but 'keep_ratio'"]),
        ('optim_wrapper.optimizer.type=AdamWW', ['type=AdamWW', 'did you mean AdamW']),
        ('train_dataloader.dataset.type=Foo', ['cannot be built: KeyError: Foo is not in']),
    ],
)
def test_mistakes_in_options(option, parts, printed, job, tmp_path):
    config, options = job('mmdet', option)
    message = printed('train', config, '--work-dir', 'work', *options)
    assert str(message).startswith('error: ')
    for part in parts:
        assert part in message
    assert not list(tmp_path.glob('work/*.py'))  # it is what report.py takes for a training's


@pytest.mark.parametrize(
    'option',
    [
        'model.backbone.with_cp=True',
        'model.roi_head.bbox_head.loss_bbox.loss_weight=2.0',
        'train_dataloader.drop_last=True',
        'train_dataloader.dataset.indices=2',
        'optim_wrapper.accumulative_counts=2',
        'optim_wrapper.paramwise_cfg.bypass_duplicate=True',
        'default_hooks.checkpoint.save_best=auto',
        'default_hooks.mine.type=IterTimerHook',
        'param_scheduler.0.verbose=True',
        'model.test_cfg.rcnn.mask_thr_binary=0.4',
        'val_evaluator.classwise=True',
    ],
)
def test_new_names_that_are_read(option, tool, job):
    config, options = job('mmdet', option)
    node = load_config(argument_parser('').parse_args([config, *options]))
    for part in option.partition('=')[0].split('.'):
        node = node[int(part)] if part.isdecimal() else node[part]


@pytest.mark.parametrize(
    'options',
    [
        'model.backbone.norm_cfg.requires_grad=False',  # mmcv's builder reads it
        'model.backbone.dcn.fallback_on_stride=False',
        'model.neck.drop_path_rate=0.1',  # handed on to timm
        'optim_wrapper.paramwise_cfg.custom_keys.query_embeds=x',
        'default_hooks.checkpoint2.type=CheckpointHook default_hooks.checkpoint2.interval=9',
        'custom_hooks.0.update_buffers=True',  # handed on to the average
    ],
)
def test_names_that_others_read_than_the_class_of_their_dict(options):
    norm, dcn = dict(type='BN'), dict(type='Conv2d')
    backbone = dict(type='mmdet.ResNet', depth=50, norm_cfg=norm, dcn=dcn)
    timm = dict(type='mmpretrain.TIMMBackbone', model_name='resnet18')
    cfg = Config(
        dict(
            model=dict(type='RetinaNet', backbone=backbone, neck=timm),
            optim_wrapper=dict(paramwise_cfg=dict(custom_keys=dict(query_embed=dict(lr_mult=0.1)))),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
            custom_hooks=[dict(type='EMAHook')],
        )
    )
    check_nested(cfg, dict(option.split('=') for option in options.split()), 'mmdet')


def test_errors_that_are_not_of_the_config_keep_their_traceback(tool):
    with pytest.raises(TypeError):
        run(lambda: 1 + 'a')


@pytest.mark.parametrize(('result', 'code'), [({}, 0), ([], 0), (None, 0), (0, 0), (1, 1)])
def test_exit_code(result, code, tool):
    with pytest.raises(SystemExit) as stop:
        run(lambda: result)
    assert stop.value.code == code


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/a b/c  (d)', '/a b/c  (d)'),
        ('traffic light, car', ['traffic light', 'car']),
        ('[ (1, 2), (a b, c) ]', [(1, 2), ('a b', 'c')]),
        ("'x y'", 'x y'),
        ('0.5', 0.5),
        ('None', None),
        ('a=b', 'a=b'),
    ],
)
def test_spaces_in_options(text, value, tool):
    parser = argument_parser('')
    options = parser.parse_args(['config.py', '--cfg-options', 'n=1', f'key={text}']).cfg_options
    assert options == dict(n=1, key=value)


@pytest.mark.parametrize('arguments', [['data_root'], ['data_root', '=', '/x'], ['=1'], ['a=(1,2']])
@pytest.mark.parametrize('name', ['train', 'report', 'analyze', 'visualize', 'export'])
def test_options_that_are_none(name, arguments, tool, capsys):
    given = dict(visualize=['a.py', '--image', 'a'], export=['a.py', 'a.onnx']).get(name, ['a.py'])
    with pytest.raises(SystemExit) as stop:
        tool(name).parse_args([*given, '--cfg-options', *arguments])
    assert stop.value.code == 2
    assert 'error: --cfg-options' in capsys.readouterr().err


def test_places_that_cannot_be_written(printed, job, data, tmp_path):
    (tmp_path / 'file').touch()
    config, options = job('mmseg')
    expected = 'file: it is a file; expected a folder, or a new place'
    message = printed('train', config, '--work-dir', 'file', *options)
    assert message == f'error: {tmp_path}/{expected}'
    arguments = ['spach_ms_xxs_conv', '--size', '64', '64', '--out', 'file']
    assert printed('analyze', *arguments) == f'error: {expected}'


def test_a_full_disk(tool, tmp_path, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('pathlib.Path.write_bytes', full)
    with pytest.raises(SystemExit) as stop:
        run(lambda: write_file('out/a.json', '{}'))
    assert stop.value.code == 'error: out/a.json: No space left on device'
    assert not list(tmp_path.glob('out/*'))


def test_the_option_that_moves_a_data_root_is_one_of_the_config(tool, tmp_path):
    (tmp_path / 'config.py').write_text("_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'")
    places = [f'{split}_dataloader.dataset.data_root=PATH' for split in ('train', 'val', 'test')]
    train = tool('train').main
    fails(train, ['config.py'], 'not found: data/imagenet', ' '.join(places))
    moved = [place.replace('PATH', '/no/where') for place in places]
    fails(train, ['config.py', '--cfg-options', *moved], 'data root of train not found: /no/where')


def test_a_saved_config_refuses_what_nothing_reads_any_more(tool, data, tmp_path):
    arguments = argparse.Namespace(
        config=str(CONFIGS / 'maskrcnn_vitcomer_t_custom.py'),
        cfg_options=dict(data_root=str(data)),
        work_dir=None,
    )
    load_config(arguments).dump(tmp_path / 'saved.py')
    for option, place in (('max_iters', 'train_cfg.max_iters'), ('image_size', 'every place')):
        fails(
            tool('train').main,
            ['saved.py', '--cfg-options', f'{option}=30'],
            'saved.py is complete',
            f'nothing reads its {option} any more',
            place,
        )
    vit = ['saved.py', '--cfg-options', 'vit=dinov3_l']
    fails(tool('train').main, vit, 'vit=dinov3_l: saved.py does not take any ViT, or is complete')
    arguments.cfg_options = dict(data_root=str(data), max_iters='abc')
    with pytest.raises(UsageError, match='max_iters=abc: expected a whole number'):
        load_config(arguments)


def test_no_loading_processes(tool, job):
    workers = [f'{split}_dataloader.num_workers={n}' for split, n in (('train', 0), ('val', 2))]
    persistent = [f'{split}_dataloader.persistent_workers=True' for split in ('train', 'val')]
    config, options = job('mmdet', *workers, *persistent)
    cfg = load_config(argument_parser('').parse_args([config, *options]))
    assert 'persistent_workers' not in cfg.train_dataloader
    assert cfg.val_dataloader.persistent_workers


def test_the_newest_checkpoint_of_a_folder_is_gone_on_from(tool, tmp_path):
    for name in ('iter_20.pth', 'best_mIoU_iter_10.pth'):
        torch.save(dict(state_dict=dict(a=torch.zeros(1)), meta={}), tmp_path / name)
    assert find_checkpoint(tmp_path, best=False).name == 'iter_20.pth'
