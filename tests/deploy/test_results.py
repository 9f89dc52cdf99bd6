"""Files of final results find what the hosts' own post-processing finds, image by image."""

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from torch import nn

from mmhybrid.deploy import ExportError, Graph, config_graphs, export, load_exported
from mmhybrid.deploy.agreement import missed
from mmhybrid.deploy.exporting import capture
from mmhybrid.deploy.graphs import prepare
from mmhybrid.deploy.host import resized
from mmhybrid.deploy.nms import best_boxes
from mmhybrid.deploy.queries import PlainSampling
from mmhybrid.deploy.rois import RoIFeatures, paste
from mmhybrid.models.kernels import reference_points
from tests.deploy.heads import HEADS, MAPS, drawn, tiny, tiny_config
from tests.models.drawn import draw_parameters


def host_results(model, image):
    """Return the objects that the host's own code finds on an image, as outputs of a file."""
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[2:])
    sample = DetDataSample(metainfo=dict(
        img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
        scale_factor=(1.0, 1.0),
    ))  # fmt: skip
    inputs = image
    divisor = model.data_preprocessor.pad_size_divisor
    padding = [-side % divisor for side in size]
    inputs = torch.nn.functional.pad(image, (0, padding[1], 0, padding[0]))
    sample.set_metainfo(dict(batch_input_shape=tuple(inputs.shape[2:])))
    with torch.no_grad():
        (found,) = model.predict(inputs, [sample])
    return found.pred_instances


def as_outputs(found):
    names = dict(bboxes='boxes', scores='scores', labels='labels', masks='masks')
    return {new: found[old][None] for old, new in names.items() if old in found}


@pytest.mark.parametrize('name', HEADS)
def test_final_results_are_those_of_the_host(name):
    """This module is the one that tests/cli exports."""
    model = tiny(name)
    image = torch.randn(1, 3, 70, 93, generator=torch.Generator().manual_seed(3))
    expected = as_outputs(host_results(model, image))
    assert expected['labels'].shape[1] >= 4
    (graph,) = config_graphs(model, name=name)
    with torch.no_grad():
        found = dict(zip(graph.outputs + graph.inner, graph.module(image), strict=True))
        pair = graph.module(torch.cat((image.flip(3), image)))
        traced = graph.module(graph.example)[len(graph.outputs) :]
    assert graph.inner and set(graph.outputs) == set(expected)
    # A map of one pixel would be traced as a constant.
    assert min(side for out in traced for side in out.shape[2:]) > 1
    if 'masks' in found and found['masks'].dtype != torch.bool:
        size = tuple(image.shape[2:])
        found['masks'] = paste(found['masks'], found['boxes'], size) >= 0.5
    assert missed(expected, found) <= 0.1
    alone = {name: out[1:] for name, out in zip(graph.outputs, pair, strict=False)}
    if 'masks' not in alone:
        assert missed(expected, alone) <= 0.1


@pytest.mark.parametrize('name', MAPS)
def test_final_classes_are_those_of_the_host(name):
    model = tiny(name)
    images = torch.randn(2, 3, 70, 93, generator=torch.Generator().manual_seed(3))
    (graph,) = config_graphs(model, name=name)
    with torch.no_grad():
        found = dict(zip(graph.outputs, graph.module(images), strict=True))
        if 'class_map' in found:
            metas = [dict(img_shape=(70, 93), ori_shape=(70, 93))] * 2
            logits = model.inference(images, metas)
            expected = dict(class_map=logits.argmax(1), logits=logits)
        else:
            samples = model.predict(images)
            expected = dict(
                scores=torch.stack([one.pred_score for one in samples]),
                labels=torch.cat([one.pred_label for one in samples]),
            )
    assert found['logits'].std() > 0.01
    for key, want in expected.items():
        torch.testing.assert_close(found[key], want, rtol=1e-4, atol=1e-4)


def test_semantic_fpn_is_traced_for_any_size():
    """mmseg's Upsample makes constants of the sides of the example."""
    (graph,) = config_graphs(tiny('fpn_cmt_ti'), name='model')
    program = capture(prepare(graph, 'grid_sample'), graph).module()
    for shape in ((1, 3, 64, 96), (3, 3, 75, 64)):
        image = torch.randn(shape)
        with torch.no_grad():
            expected, found = graph.module(image), program(image)
        torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-4)


def test_upsampling_by_a_fraction_needs_a_fixed_size():
    model = tiny('fpn_cmt_ti')
    model.decode_head.scale_heads[1][1].scale_factor = 1.5
    (graph,) = config_graphs(model, name='model')
    with pytest.raises(ExportError, match='by 1.5 cannot be exported for any size.* --fixed-size'):
        prepare(graph, 'grid_sample')
    (fixed,) = config_graphs(model, name='model', size=(64, 96))
    prepare(fixed, 'grid_sample')


class Pooled(nn.Module):
    """Regions of an image, of which some are empty or thinner than a float tells."""

    def __init__(self):
        from mmdet.models.roi_heads import SingleRoIExtractor

        super().__init__()
        layer = dict(type='RoIAlign', output_size=7, sampling_ratio=0)
        self.features = RoIFeatures(SingleRoIExtractor(layer, 8, [4, 8, 16, 32]))
        boxes = [[2, 3, 60, 40], [0, 0, 0, 0], [7, 0, 7, 30], [9, 9, 9.00001, 9], [1, 1, 9, 9.5]]
        self.register_buffer('boxes', torch.tensor(boxes))

    def forward(self, image):
        maps = [image[:, :, ::step, ::step] for step in (4, 8, 16, 32)]
        return (self.features(maps, self.boxes.expand(image.shape[0], -1, -1)),)


@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
def test_empty_regions_are_zeros_in_every_runtime(suffix, tmp_path):
    """OpenVINO takes the mean of no samples, and a cascade's next stage starts from no number."""
    if suffix == '.xml':
        pytest.importorskip('openvino')
    module = Pooled()
    example, meta = torch.randn(2, 8, 64, 96), dict(parts=[])
    graph = Graph(module, ['out'], example, {0: 'batch'}, meta=meta, size=(64, 96))
    path = tmp_path / f'm{suffix}'
    found = export([graph], path, batches=(1, 2), report=lambda line: None)
    assert max(one.worst for one in found) < 1e-4
    image = torch.randn(1, 8, 64, 96)
    (out,) = load_exported(path)(image)
    assert (out.flatten(1) != 0).any(1).tolist() == [True, False, False, False, True]


class Sampled(nn.Module):
    """mmcv's deformable attention on the pixels of an image, as exported models call it."""

    def __init__(self):
        super().__init__()
        attention = MultiScaleDeformableAttention(8, num_heads=2, num_levels=1, num_points=2)
        self.attention = PlainSampling(draw_parameters(attention).eval())

    def forward(self, image):
        shapes = [tuple(image.shape[2:])]
        points = reference_points(shapes, image.device)[None, :, None]
        tokens = image.flatten(2).permute(2, 0, 1)  # (N, C, H, W) -> (H W, N, C)
        return (self.attention(tokens, reference_points=points, spatial_shapes=shapes),)


def test_hosts_attention_is_traced_for_any_size():
    free = {0: 'batch', 2: 'height', 3: 'width'}
    graph = Graph(Sampled(), ['out'], torch.randn(2, 8, 33, 40), free)
    program = capture(prepare(graph, 'grid_sample'), graph).module()
    for shape in ((1, 8, 33, 40), (3, 8, 50, 36)):
        image = torch.randn(shape)
        (expected,) = graph.module(image)
        torch.testing.assert_close(program(image)[0], expected, rtol=1e-4, atol=1e-5)


def test_best_boxes_are_apart_within_a_class():
    boxes = torch.tensor([[[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]]).float()
    boxes = torch.cat((boxes, boxes.flip(1)))
    scores = torch.tensor([[0.5, 0.9, 0.1], [0.3, 0.9, 0.5]])
    nms = dict(type='nms', iou_threshold=0.5)
    one_class = torch.zeros(2, 3, dtype=torch.long)
    found = best_boxes(boxes, scores, one_class, nms, 3)
    assert found[2].tolist() == [[0, 0, -1], [0, 0, -1]]
    torch.testing.assert_close(found[1], torch.tensor([[0.9, 0.1, 0], [0.9, 0.3, 0]]))
    classes = torch.tensor([[0, 1, 1]] * 2)
    assert (best_boxes(boxes, scores, classes, nms, 3)[2] >= 0).sum() == 5
    assert best_boxes(boxes, scores, classes, nms, 1)[0].shape == (2, 1, 4)
    merged = best_boxes(boxes, scores, classes, nms | dict(class_agnostic=True), 3)
    assert merged[2].tolist() == [[1, 1, -1], [1, 0, -1]]
    none = best_boxes(boxes, scores - 2, classes, nms, 3)
    assert (none[2] == -1).all() and not none[0].any() and not none[1].any()
    with pytest.raises(ExportError, match='soft_nms'):
        best_boxes(boxes, scores, classes, dict(type='soft_nms', iou_threshold=0.5), 3)


def test_pasted_masks_are_those_of_mmdet():
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    masks = torch.rand(4, 1, 7, 7)
    boxes = torch.tensor([[3, 2, 20, 30], [-4, 5, 9, 60.5], [0.2, 0.7, 1.3, 2.9], [10, 9, 50, 40]])
    expected, _ = _do_paste_mask(masks, boxes, 44, 39, skip_empty=False)
    found = paste(masks.transpose(0, 1), boxes[None], (44, 39))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_resized_masks_have_no_stairs():
    rows = torch.arange(16)
    mask = resized(rows.view(-1, 1) > rows, (64, 64))  # below the diagonal
    assert mask.sum(1)[8:-8].diff().max() <= 2  # the nearest cell would give 4
    assert abs(mask.float().mean() - 0.5) < 0.05


def test_what_no_file_holds_is_refused():
    model = tiny('retinanet_cmt_ti')
    model.bbox_head.test_cfg.nms.type = 'soft_nms'
    with pytest.raises(ExportError, match='soft_nms.*--layers'):
        config_graphs(model, name='model')
    model = tiny('mask2former_instance_cmt_ti')
    model.panoptic_fusion_head.test_cfg.panoptic_on = True
    with pytest.raises(ExportError, match='panoptic_on=False'):
        config_graphs(model, name='model')
    del model.panoptic_head
    with pytest.raises(ExportError, match='expected RetinaNet, ATSS, GFL'):
        config_graphs(model, name='model')


def test_padded_images_of_a_detector_with_queries_are_refused():
    cfg = tiny_config('dino_cmt_ti')
    cfg.model.data_preprocessor.pad_size_divisor = 32
    with pytest.raises(
        ExportError, match='--cfg-options model.data_preprocessor.pad_size_divisor=1'
    ):
        config_graphs(drawn(cfg), name='model')


@pytest.mark.parametrize('name', ['maskrcnn_cmt_ti', 'cascade_cmt_ti'])
def test_scores_by_a_rule_of_the_loss_are_refused(name):
    from mmdet.models.losses import SeesawLoss

    model = tiny(name)
    heads = model.roi_head.bbox_head
    head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    head.loss_cls = SeesawLoss(num_classes=head.num_classes)
    with pytest.raises(ExportError, match='scores of SeesawLoss .*--layers'):
        config_graphs(model, name='model')


def test_classifiers_of_several_labels_are_refused():
    from mmpretrain.models.heads import CSRAClsHead

    from mmhybrid.deploy.results import ClassScores

    model = nn.Module()
    model.head = CSRAClsHead(5, 8, num_heads=1, lam=0.1)
    with pytest.raises(ExportError, match='classifiers of one label an image'):
        ClassScores(model)
