"""The tool on whole models of the three hosts, and their evaluation with what it wrote."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.fileio import load

from mmhybrid import predict
from mmhybrid.cli.usage import UsageError, single_numbers
from mmhybrid.data.demo import CLASSES
from mmhybrid.deploy import ExportError, load_exported

# The smallest backbone with four levels: those of every family are in tests/deploy.
BACKBONE = """
_base_ = '{config}'
backbone = dict(
    _delete_=True,
    type='mmhybrid.SPACH',
    arch=dict(embed_dims=8, num_heads=1, stages=[[('conv', 1)]] * 4),
)
"""
MODELS = dict(
    mmdet='model = dict(backbone=backbone, neck=dict(in_channels=[8, 16, 32, 64]))',
    mmseg="""
model = dict(
    backbone=backbone,
    decode_head=dict(in_channels=[8, 16, 32, 64], channels=8),
    auxiliary_head=dict(in_channels=32),
)
""",
    mmpretrain='model = dict(backbone=backbone, head=dict(in_channels=64))',
)
CONFIGS = dict(
    mask_rcnn=('mmdet', 'demo_maskrcnn_vitcomer_t.py'),
    retinanet=('mmdet', 'demo_retinanet_cmt_ti.py'),
    upernet=('mmseg', 'demo_upernet_vitcomer_t.py'),
    linear=('mmpretrain', 'demo_linear_vitcomer_t.py'),
)

# The one with most layers takes the demo's images alone: any size is for the other detector.
FIXED = ['--fixed-size', '64', '96']
LAYERS = ['--layers', *FIXED]


@pytest.fixture
def config(tmp_path):
    """A function of a model's name: the path of its tiny config."""

    def write(name):
        from tests.cli.conftest import CONFIGS as FOLDER

        scope, base = CONFIGS[name]
        path = tmp_path / f'{name}.py'
        path.write_text(BACKBONE.format(config=FOLDER / base) + MODELS[scope])
        return str(path)

    return write


def save_random(path, checkpoint, **meta):
    """A checkpoint of a config's model with random weights."""
    from mmengine.config import Config
    from mmengine.registry import MODELS as REGISTRY
    from mmengine.registry import init_default_scope

    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    torch.save(dict(state_dict=REGISTRY.build(cfg.model).state_dict(), meta=meta), checkpoint)


def worst(found):
    return max(agreement.worst for agreement in found)


@pytest.mark.parametrize(
    ('name', 'options', 'outputs'),
    [
        ('mask_rcnn', LAYERS, ['map_0', 'rpn_cls_score_3', 'rpn_bbox_pred_3']),
        ('mask_rcnn', FIXED, ['boxes', 'scores', 'labels', 'masks']),
        ('retinanet', ['--with-preprocessing'], ['boxes', 'scores', 'labels']),
        ('upernet', [], ['class_map', 'logits']),
        ('linear', ['--with-preprocessing', '--layers'], ['logits']),
    ],
)
def test_onnx_of_a_whole_model(name, options, outputs, config, data, tool, tmp_path, capsys):
    """Exported, compared, and evaluated: the metrics are those of the model."""
    path, checkpoint = config(name), tmp_path / 'random.pth'
    classes = dict(upernet=('background', *CLASSES), linear=tuple(sorted(CLASSES)))
    classes = classes.get(name, CLASSES)
    save_random(path, checkpoint, dataset_meta=dict(classes=classes))

    out = tmp_path / 'model.onnx'
    found = tool('export').main([path, str(checkpoint), str(out), *options])
    assert worst(found) < 1e-4
    shapes = {agreement.shape for agreement in found if agreement.path == found[0].path}
    assert len(shapes) == (2 if '--fixed-size' in options else 3)
    exported = load_exported(out)
    assert set(outputs) <= set(exported.outputs)
    assert exported.meta['classes'] == list(classes)
    assert exported.meta['channel_order'] == 'RGB'
    assert exported.meta['preprocessing'] is ('--with-preprocessing' in options)
    assert exported.meta['mean'] == pytest.approx([123.675, 116.28, 103.53])
    parts = ['model.box.onnx', 'model.mask.onnx'] if options == LAYERS else []
    assert sorted(p.name for p in tmp_path.glob('*.onnx')) == sorted(['model.onnx', *parts])
    capsys.readouterr()

    results = []
    for weights in (checkpoint, out):
        options = ['--work-dir', str(tmp_path / 'work'), '--cfg-options', f'data_root={data}']
        tool('test').main([path, str(weights), *options])
        printed = capsys.readouterr().out.rpartition('{')[2]
        results.append(json.loads('{' + printed.partition('}')[0] + '}'))
    assert results[0] and results[0] == pytest.approx(results[1], abs=1e-3, nan_ok=True)


def export_and_evaluate_flipped_too(path, data, tool, tmp_path):
    """Export to torch.export's format; the metrics with --tta are those of the model."""
    checkpoint, out = tmp_path / 'random.pth', tmp_path / 'model.pt2'
    save_random(path, checkpoint)
    found = tool('export').main([path, str(checkpoint), str(out), *FIXED])
    assert out.is_file() and worst(found) < 1e-4
    options = ['--tta', '--work-dir', str(tmp_path / 'work'), '--data', str(data)]
    results = [
        single_numbers(tool('test').main([path, str(file), *options])) for file in (checkpoint, out)
    ]
    assert results[0] and results[0] == pytest.approx(results[1], abs=1e-3, nan_ok=True)
    return out


def test_torch_export_of_a_segmentor(config, data, tool, tmp_path):
    export_and_evaluate_flipped_too(config('upernet'), data, tool, tmp_path)


def test_torch_export_of_a_detector_and_what_it_cannot_be_evaluated_with(
    config, data, tool, tmp_path
):
    path = config('retinanet')
    out = export_and_evaluate_flipped_too(path, data, tool, tmp_path)
    options = ['--work-dir', str(tmp_path / 'work'), '--data', str(data), '--cfg-options']
    evaluate = tool('test').main
    with pytest.raises(UsageError, match=r'model.test_cfg.score_thr: .*give the option to mmhyb'):
        evaluate([path, str(out), *options, 'model.test_cfg.score_thr=0.5'])
    with pytest.raises(UsageError, match=r'model.test_cfg.nms_pre: .*give the option to mmhyb'):
        predict(path, data / 'images/val', out, cfg_options={'model.test_cfg.nms_pre': 9})
    with pytest.raises(ExportError, match=r'3, 64, 96\), got .*resize images to 64x96'):
        evaluate([path, str(out), *options, 'test_dataloader.dataset.pipeline.1.scale=(80,80)'])
    with pytest.raises(ExportError, match=r'cannot compute in bf16: .*test_cfg.fp16'):
        evaluate([path, str(out), *options, 'test_cfg.fp16=True'])
    with pytest.raises(ExportError, match='boxes without masks'):
        evaluate([config('mask_rcnn'), str(out), *options[:-1]])


@pytest.mark.skipif(torch.cuda.is_available(), reason='there it is float16')
def test_a_detector_is_evaluated_in_bfloat16_on_a_cpu(config, data, tool, tmp_path):
    path, weights = config('retinanet'), tmp_path / 'random.pth'
    save_random(path, weights)
    options = ['--work-dir', str(tmp_path / 'work'), '--data', str(data), '--cfg-options']
    scores = []
    for switch in (False, True):
        out = tmp_path / f'{switch}.pkl'
        arguments = ['--out', str(out), *options, f'test_cfg.fp16={switch}']
        tool('test').main([path, str(weights), *arguments, 'model.test_cfg.score_thr=0.0'])
        found = [one['pred_instances']['scores'] for one in load(out)]
        assert all(one.dtype == torch.float32 for one in found)
        scores.append(torch.cat([one.sort().values[-5:] for one in found]))
    assert 0 < (scores[0] - scores[1]).abs().max() < 0.01


def test_infer_with_an_exported_file(config, data, tool, tmp_path):
    path, weights = config('linear'), [tmp_path / name for name in ('random.pth', 'model.pt2')]
    save_random(path, weights[0])
    tool('export').main([path, *map(str, weights)])
    found = []
    for file in weights:
        out = tmp_path / f'infer_{file.suffix[1:]}'
        tool('infer').main([path, str(file), str(data / 'images/val'), '--out-dir', str(out)])
        texts = [json.loads(p.read_text()) for p in sorted((out / 'predictions').glob('*.json'))]
        found.append([{one['class']: one['score'] for one in text['classes']} for text in texts])
    assert len(found[0]) == 2
    for scores, others in zip(*found, strict=True):
        assert scores == pytest.approx(others, abs=2e-4)
    with pytest.raises(ExportError, match='does not fit'):
        tool('infer').main([config('upernet'), str(weights[1]), str(data / 'images/val')])


def test_without_a_checkpoint_every_weight_is_initialised(tool, tmp_path, monkeypatch):
    """One parameter of mmdet's DINO holds any memory, NaN too, until init_weights."""
    from mmhybrid import deploy
    from tests.cli.conftest import CONFIGS as FOLDER

    path, models = tmp_path / 'dino.py', []
    path.write_text(
        BACKBONE.format(config=FOLDER / 'cmt/dino_cmt_ti.py')
        + 'backbone.update(out_indices=(1, 2, 3))\n'
        + 'model = dict(backbone=backbone, neck=dict(in_channels=[16, 32, 64]))\n'
    )

    def stop(model, **options):
        models.append(model)
        raise ExportError('enough')

    monkeypatch.setattr(deploy, 'config_graphs', stop)
    with pytest.raises(ExportError, match='enough'):
        tool('export').main([str(path), str(tmp_path / 'model.onnx')])
    assert 0.8 < models[0].level_embed.std() < 1.2


def test_a_backbone_by_name_and_int8(tool, tmp_path, capsys):
    out = tmp_path / 'spach.onnx'
    found = tool('export').main(
        ['spach_ms_xxs_conv,out_indices=(0,)', str(out), '--quantize', 'int8', '--sizes', '40x64']
    )
    assert worst(found) < 1e-4
    printed = capsys.readouterr().out
    assert 'weights as initialised' in printed and 'spach.int8.onnx' in printed
    image = torch.randn(1, 3, 64, 64)
    (exact,), (small,) = (
        load_exported(tmp_path / name)(image) for name in ('spach.onnx', 'spach.int8.onnx')
    )
    error = (small - exact).abs().mean() / exact.std()
    assert 0 < error < 0.1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['resnet_50', 'out.onnx'], "'resnet_50' is neither a config"),
        (['cmt_ti', 'out.pth'], 'expected .onnx'),
        (['cmt_ti,depth=3', 'out.onnx'], "has no argument 'depth'"),
        (['cmt_ti,arch=b', 'out.onnx'], 'a name stands for its arch; give .* cmt_b'),
        (['cmt_ti', 'nowhere/out.onnx'], 'folder not found: nowhere'),
        (['cmt_ti', 'out.onnx', '--with-preprocessing'], 'export a config'),
        (['cmt_ti', 'none.pth', 'out.onnx'], 'checkpoint not found: none.pth'),
        (['spach_ms_xxs_mlp', 'out.pt2', '--fixed-size', '64', '64'], 'tied to images of 224x224'),
    ],
)
def test_mistakes(arguments, message, tool, tmp_path):
    export = tool('export')
    with pytest.raises((ExportError, tool('usage').UsageError), match=message):
        export.main(arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--batches', '2', '0'], '--batches 0: expected at least 1'),
        (['--sizes', '64x64', '--fixed-size', '96', '64'], '--sizes: the file takes --fixed-size'),
    ],
)
def test_options_out_of_range(options, message, tool, capsys):
    with pytest.raises(SystemExit):
        tool('export').main(['cmt_ti', 'out.pt2', *options])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('turns', [False, True])
def test_images_that_a_data_set_gives_in_rgb(turns, tool):
    """CIFAR's are no files, which would be read in BGR."""
    from mmpretrain.models import ClsDataPreprocessor

    options = [f'model.data_preprocessor.to_rgb={turns}', 'model.backbone.init_cfg=None']
    words = ['cifar10_cmt_s', 'out.onnx', '--with-preprocessing', '--cfg-options', *options]
    args = tool('export').parse_args(words)
    (graph,) = tool('export').config_graphs(args)
    assert graph.meta['channel_order'] == ('BGR' if turns else 'RGB')
    read = dict(tool('config').load_config(args).model.data_preprocessor)
    read.pop('type', None)
    images = torch.rand(2, 3, 32, 32) * 255
    with torch.no_grad():
        normal = ClsDataPreprocessor(**read)(dict(inputs=images))['inputs']
        for one, other in zip(graph.module(images), graph.module.module(normal), strict=True):
            torch.testing.assert_close(one, other)


def test_sizes_of_files_hold_their_weights(tool, tmp_path, capsys):
    for name, size in (
        ('m[1].xml', 1),
        ('m[1].bin', 2),
        ('m[1].xml.bak', 4),
        ('m.onnx.data', 8),
        ('m.bin', 9),
    ):
        (tmp_path / name).write_bytes(bytes(size * 10**6))
    (tmp_path / 'm.onnx').touch()
    graph = SimpleNamespace(name='', outputs=['scores'])
    for name, total in (('m[1].xml', '3.0'), ('m.onnx', '8.0')):
        tool('export')._print_files(tmp_path / name, [graph])
        assert capsys.readouterr().out == f'{tmp_path / name}  {total} MB  scores\n'
