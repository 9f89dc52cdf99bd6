"""Exported files of every family agree with the model, at sizes they were not traced at."""

import sys

import onnx
import pytest
import torch
from torch import nn

import mmhybrid
from mmhybrid.deploy import (
    ExportError,
    Graph,
    backbone_graph,
    config_graphs,
    export,
    load_exported,
)
from mmhybrid.deploy.exporting import SIZES, capture, compare, write
from mmhybrid.deploy.graphs import AdaptivePool, prepare
from mmhybrid.models.backbones import CMT, SPACH, STA, ConvStemViT, CvT, ViT, ViTAdapter, ViTCoMer
from mmhybrid.models.kernels import resize_bicubic
from tests.models.drawn import draw_parameters
from tests.models.families import tiny_models

VIT = dict(embed_dims=16, depth=1, num_heads=2)
ADAPTED = dict(
    embed_dims=24,
    depth=1,
    num_heads=2,
    deform_heads=2,
    num_points=2,
    stem_channels=8,
    interaction_indexes=[(0, 0)],
    windows=3,
)
# One of each family, smaller than that of the contract, and others with other operators.
FAMILIES = tiny_models() | {
    'vit': lambda: ViT(VIT | dict(position='relative', pretrain_size=64)),
    'vit, rotary positions, windows': lambda: ViT(
        VIT | dict(position='rope', mask_key_bias=True), windows=3, class_token=False
    ),
    'vit, dinov2': lambda: ViT(
        VIT | dict(patch_size=14, pretrain_size=70, num_registers=4, interpolate_offset=0.1)
    ),
    'convstemvit': lambda: ConvStemViT(
        VIT | dict(stem_channels=(8, 8), stem_strides=(4, 4), stem_kernels=(5, 5)), num_classes=5
    ),
    'vitcomer': lambda: ViTCoMer(ADAPTED | dict(extra_cti=0), out_indices=(0, 3)),
    'vitadapter': lambda: ViTAdapter(ADAPTED | dict(extra_extractors=0)),
    'sta': lambda: STA(dict(vit=VIT, stem_channels=8), out_indices=(0, 2)),
    'cmt': lambda: CMT(
        dict(
            embed_dims=(8,),
            stem_channels=8,
            depths=(1,),
            num_heads=(2,),
            sr_ratios=(2,),
            pretrain_size=64,
        )
    ),
    'cvt': lambda: CvT(
        dict(embed_dims=(8, 16, 32), depths=(1, 1, 1), num_heads=(1, 2, 4)), num_classes=5
    ),
    'spach': lambda: SPACH(
        dict(embed_dims=8, num_heads=2, stages=[[('conv', 1)], [('attn', 1)]]), num_classes=5
    ),
    'spach, tied to a size': lambda: SPACH(
        dict(embed_dims=8, num_heads=2, stages=[[('mlp', 1)]], image_size=(64, 96))
    ),
}


def build(family):
    """A tiny model in which nothing is switched off by how it begins."""
    torch.manual_seed(0)
    return draw_parameters(FAMILIES[family]()).eval()


@pytest.mark.parametrize('family', FAMILIES)
def test_files_agree_with_the_model(family, tmp_path):
    model = build(family)
    graph = backbone_graph(model)
    deform, sizes = 'grid_sample', (*SIZES, (32, 45), (45, 32))  # maps of one pixel too
    if family == 'vitadapter':  # of ViTCoMer's layers, for which both sides are free
        deform, sizes = 'gather', [(h, graph.example.shape[3]) for h, _ in sizes]
        del graph.free[3]
    program = capture(prepare(graph, deform), graph)
    for name in ('model.onnx', 'model.pt2'):
        write(program, graph, tmp_path / name)
        exported = load_exported(tmp_path / name)
        found = list(compare(graph, exported, sizes))
        assert len(found) >= 2
        for agreement in found:
            assert agreement.worst < 1e-4, agreement
        assert exported.meta['strides'] == list(model.out_strides)
        assert exported.meta['mmhybrid'] == mmhybrid.__version__
    _check_operators(onnx.load(tmp_path / 'model.onnx'), graph, family == 'vitcomer')


def _check_operators(model, graph, has_grid_sample):
    """Only standard ones, and named free sizes."""
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [('', 18)]
    assert {node.domain for node in model.graph.node} == {''} and not model.functions
    assert ('GridSample' in {node.op_type for node in model.graph.node}) == has_grid_sample
    (image,) = model.graph.input
    sides = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    expected = [graph.free.get(i, side) for i, side in enumerate(graph.example.shape)]
    assert (image.name, sides) == ('image', expected)
    assert ('height' in sides) == (graph.size is None)
    assert [out.name for out in model.graph.output] == graph.outputs


class Noisy(torch.nn.Module):
    """Differs from the program that was traced from it, as an export that went wrong does."""

    def forward(self, image):
        wrong = 0 if torch.compiler.is_exporting() else 0.001
        return (image.mean(1, keepdim=True) + wrong,)


class Low(torch.nn.Module):
    """Takes images up to a height of 40."""

    def forward(self, image):
        torch._check(image.shape[2] <= 40)
        return (image.mean(1, keepdim=True),)


def noisy_graph():
    free = {0: 'batch', 2: 'height', 3: 'width'}
    return Graph(Noisy(), ['out'], torch.randn(2, 3, 33, 40), free, meta=dict(parts=[]))


@pytest.mark.parametrize('name', ['model.onnx', 'model.pt2'])
def test_a_disagreeing_file_is_not_kept(name, tmp_path):
    (tmp_path / name).write_text('the one before')
    with pytest.raises(ExportError, match=r'disagrees with the model by more than 0.0001'):
        export([noisy_graph()], tmp_path / name, report=lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == 'the one before'
    found = export([noisy_graph()], tmp_path / name, tolerance=0.1, report=lambda line: None)
    assert found and (tmp_path / name).stat().st_size > 100


class Single(Noisy):
    """Two outputs that have no deviation: one number an image, and a constant."""

    def forward(self, image):
        (level,) = super().forward(image)
        return level.mean((2, 3), keepdim=True), torch.full_like(level, -4.6)


@pytest.mark.parametrize('tolerance', [1e-4, 10])
def test_outputs_of_one_value_are_compared_by_their_size(tolerance, tmp_path):
    graph = noisy_graph()
    graph.module, graph.outputs = Single(), ['number', 'constant']
    options = dict(batches=(1,), tolerance=tolerance, report=lambda line: None)
    if tolerance < 1:
        with pytest.raises(ExportError, match=r'worst \d\S+ \(number\)'):
            export([graph], tmp_path / 'm.pt2', **options)
    else:
        assert 1e-4 < max(one.worst for one in export([graph], tmp_path / 'm.pt2', **options)) < 10


def test_a_file_is_traced_and_written_once_and_run_once_a_shape(tmp_path, monkeypatch):
    from mmhybrid.deploy import exporting

    calls = []
    for name in ('capture', 'write', 'measure'):
        real = getattr(exporting, name)

        def counted(*args, name=name, real=real, **options):
            calls.append(name)
            return real(*args, **options)

        monkeypatch.setattr(exporting, name, counted)
    lines = []
    export([noisy_graph()], tmp_path / 'm.pt2', tolerance=1, report=lines.append)
    assert calls == ['capture', 'write', 'measure', 'measure', 'measure']
    assert len(lines) == 6 and 'traced in' in lines[1] and 'written in' in lines[2]


class Shifted(torch.nn.Module):
    """A result, and a raw output that only the comparison takes."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def forward(self, image):
        level = image.mean(1, keepdim=True)
        return level + self.shift, level


def test_the_file_that_is_kept_is_compared(tmp_path, monkeypatch):
    from mmhybrid.deploy import exporting

    def graph(shift):
        made = noisy_graph()
        made.module, made.inner = Shifted(shift), ['inner_0']
        return made

    export([graph(0.0)], tmp_path / 'm.onnx', report=lambda line: None)
    assert [out.name for out in onnx.load(tmp_path / 'm.onnx').graph.output] == ['out']
    other = graph(0.1)
    program = capture(other.module, other)
    monkeypatch.setattr(exporting, 'drop_inner', lambda path: write(program, other, path))
    with pytest.raises(ExportError, match=r'(?s)disagrees .*\(out\)'):
        export([graph(0.0)], tmp_path / 'other.onnx', report=lambda line: None)
    assert not (tmp_path / 'other.onnx').exists()


def test_all_batches_are_tried_on_fewer_sizes(tmp_path):
    options = dict(sizes=[(40, 33)], batches=(1, 3), tolerance=1, report=lambda line: None)
    found = export([noisy_graph()], tmp_path / 'm.pt2', **options)
    assert [agreement.shape for agreement in found] == [(1, 3, 40, 33), (3, 3, 40, 33)]


def test_a_file_says_the_opset_that_it_has(tmp_path):
    graph = noisy_graph()
    program = capture(graph.module, graph)
    write(program, graph, tmp_path / 'm.onnx', opset=26)  # that torch has converted for it
    assert onnx.load(tmp_path / 'm.onnx').opset_import[0].version == 26
    with pytest.raises(ExportError, match=r'in opset 18, as it cannot convert it to 1000'):
        write(program, graph, tmp_path / 'other.onnx', opset=1000)
    assert not (tmp_path / 'other.onnx').exists()


def test_what_cannot_be_written_is_told_before_tracing(tmp_path, monkeypatch):
    monkeypatch.setattr('mmhybrid.deploy.exporting.capture', lambda *args: pytest.fail('traced'))
    (tmp_path / 'm.box.pt2').mkdir()
    part = noisy_graph()
    part.name = 'box'
    with pytest.raises(ExportError, match=r'm\.box\.pt2 is a folder'):
        export([noisy_graph(), part], tmp_path / 'm.pt2')
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ExportError, match='pip install onnx onnxruntime onnxscript'):
        export([noisy_graph()], tmp_path / 'm.onnx')


class Queried(torch.nn.Module):
    """A head that asks for more than maps, as that of DINO or Mask2Former."""

    def forward(self, maps, references, *, batch_data_samples, mode='predict'):
        return maps


@pytest.mark.parametrize('head', ['decode_head', 'bbox_head'])
def test_heads_that_need_more_than_maps_are_refused(head):
    model = torch.nn.Module()
    model.backbone, model.extract_feat = build('cmt'), None
    setattr(model, head, Queried())
    with pytest.raises(ExportError, match='Queried cannot .* maps, references, batch_data_samples'):
        config_graphs(model, name='model', layers=True)


@pytest.mark.parametrize('size', [(1, 1), (2, 7), (12, 12), (13, 5)])
@pytest.mark.parametrize('output_size', [2, (3, 6)])
def test_adaptive_pooling_as_products(size, output_size):
    x = torch.randn(2, 3, *size)
    expected = torch.nn.functional.adaptive_avg_pool2d(x, output_size)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(output_size))
    products = prepare(Graph(pool, ['pooled'], x, {}), 'gather')
    assert isinstance(products[0], AdaptivePool)
    torch.testing.assert_close(products(x), expected)


def test_pooling_that_keeps_a_side_is_refused():
    pool = nn.Sequential(nn.AdaptiveAvgPool2d((None, 2)))
    with pytest.raises(ExportError, match='a height and a width'):
        prepare(Graph(pool, ['pooled'], torch.randn(1, 3, 8, 8), {}), 'gather')


@pytest.mark.parametrize('size', [(5, 5), (9, 4), (3, 12)])
@pytest.mark.parametrize(('offset', 'antialias'), [(0.1, False), (0.0, True)])
def test_bicubic_resizing_as_products(size, offset, antialias, monkeypatch):
    maps = torch.randn(1, 3, 5, 7)
    expected = resize_bicubic(maps, size, offset=offset, antialias=antialias)
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    found = resize_bicubic(maps, size, offset=offset, antialias=antialias)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(ExportError, match='expected .onnx'):
        load_exported('model.pth')
    with pytest.raises(ExportError, match='not found'):
        load_exported(tmp_path / 'model.onnx')
    for name in ('model.onnx', 'model.pt2'):
        (tmp_path / name).write_bytes(b'nothing of the kind')
        with pytest.raises(ExportError, match='cannot read'):
            load_exported(tmp_path / name)
        with pytest.raises(ExportError, match='cannot compute in bf16'):
            load_exported(tmp_path / name, precision='bf16')


def test_openvino_runs_what_it_was_given(tmp_path):
    pytest.importorskip('openvino')
    found = export([noisy_graph()], tmp_path / 'm.xml', tolerance=1, report=lambda line: None)
    assert len(found) == 3 and max(one.worst for one in found) > 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ['m.bin', 'm.xml']
    batch = torch.randn(2, 3, 50, 41)
    (out,) = load_exported(tmp_path / 'm.xml')(batch)
    torch.testing.assert_close(out, batch.mean(1, keepdim=True))
    (tmp_path / 'm.xml').write_text('nothing of the kind')
    with pytest.raises(ExportError, match='OpenVINO cannot read'):
        load_exported(tmp_path / 'm.xml')


def test_another_shape_is_refused(tmp_path):
    export([noisy_graph()], tmp_path / 'm.pt2', tolerance=1, report=lambda line: None)
    with pytest.raises(ExportError, match=r'takes a batch of shape .*got \(1, 4, 40, 40\)'):
        load_exported(tmp_path / 'm.pt2')(torch.zeros(1, 4, 40, 40))


@pytest.mark.parametrize('name', ['m.onnx', 'm.pt2'])
def test_smaller_images_than_models_take_are_refused(name, tmp_path):
    export([noisy_graph()], tmp_path / name, tolerance=1, report=lambda line: None)
    with pytest.raises(ExportError, match=r'width >= 32, got \(1, 3, 40, 31\)'):
        load_exported(tmp_path / name)(torch.zeros(1, 3, 40, 31))


def test_guards_of_a_program_are_told_as_errors(tmp_path):
    graph = noisy_graph()
    graph.module = Low()
    write(capture(graph.module, graph), graph, tmp_path / 'm.pt2')
    with pytest.raises(ExportError, match=r'm.pt2 does not take a batch of shape \(3, 3, 41, 40\)'):
        load_exported(tmp_path / 'm.pt2')(torch.zeros(3, 3, 41, 40))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_another_precision_are_refused(dtype, tmp_path):
    model = build('cmt').to(dtype)
    with pytest.raises(ExportError, match=rf'is of {dtype}: call .float\(\)'):
        export([backbone_graph(model)], tmp_path / 'm.onnx')


def test_the_fixed_size_of_mlp_mixing():
    model = build('spach, tied to a size')
    assert backbone_graph(model).size == (64, 96)
    with pytest.raises(
        ExportError, match='tied to images of 64x96 pixels, got the fixed size 64x64'
    ):
        backbone_graph(model, size=(64, 64))


def test_a_gpu_computes_a_file_in_float32(tmp_path, monkeypatch):
    ort = pytest.importorskip('onnxruntime')
    given = {}

    def session(path, options, providers):
        given.update(providers)
        raise RuntimeError('enough')

    names = ['TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr(ort, 'get_available_providers', lambda: names)
    monkeypatch.setattr(ort, 'InferenceSession', session)
    (tmp_path / 'm.onnx').touch()
    with pytest.raises(ExportError, match='enough'):
        load_exported(tmp_path / 'm.onnx')
    assert given == {'CUDAExecutionProvider': {'use_tf32': 0}, 'CPUExecutionProvider': {}}
