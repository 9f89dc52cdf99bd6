"""Bad input gets an error with what was given, never a crash or a result."""

import pytest
import torch
from mmcv import ops

from mmhybrid.ops import ext

MAPS = torch.zeros(2, 3, 8, 8)
ROIS = torch.tensor([[0, 1.0, 1, 20, 20], [1, 4, 4, 30, 12]])
NAN, INF = float('nan'), float('inf')


def changed(tensor, at, value):
    tensor = tensor.clone()
    tensor[at] = value
    return tensor


def align(maps, rois, ratio=2, mode='avg', aligned=True):
    return ops.roi_align(maps, rois, (2, 2), 0.25, ratio, mode, aligned)


REGIONS = {
    'no maps': (MAPS[0], ROIS, r'maps \(3, 8, 8\) float32'),
    'other dtypes': (MAPS, ROIS.double(), r'regions \(2, 5\) float64 on cpu'),
    'other devices': (MAPS, ROIS.to('meta'), r'regions \(2, 5\) float32 on meta'),
    'whole numbers': (MAPS.long(), ROIS.long(), 'int64'),
    'no image 2': (MAPS, changed(ROIS, (1, 0), 2), r'name images 0 to 2.* images 0 to 1'),
    'no image -1': (MAPS, changed(ROIS, (0, 0), -1), 'name images -1 to 1'),
    'no number': (MAPS, changed(ROIS, (1, 3), NAN), r'1 of the regions \(2, 5\)'),
    'endless': (MAPS, changed(ROIS, (1, 3), INF), 'not finite'),
    'nothing': (MAPS[:, :, :0], ROIS, r'hold nothing, \(2, 3, 0, 8\)'),
    'no images': (MAPS[:0], ROIS, r'hold nothing, \(0, 3, 8, 8\)'),
}


@pytest.mark.parametrize('case', REGIONS)
def test_regions(case):
    maps, rois, message = REGIONS[case]
    for mode in ('avg', 'max'):
        with pytest.raises(ValueError, match='roi_align: .*' + message):
            align(maps, rois, mode=mode)
    with pytest.raises(ValueError, match='roi_pool: .*' + message):
        ops.roi_pool(maps, rois, (2, 2), 0.25)
    with pytest.raises(ValueError, match='deform_roi_pool: .*' + message):
        ops.deform_roi_pool(maps, rois, None, (2, 2), 0.25)


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_regions_that_cannot_be_sampled(mode):
    for at in ((1, 3), (1, 4)):
        with pytest.raises(ValueError, match=r'1 of 2 regions end before .* \[1.0, 4.0'):
            align(MAPS, changed(ROIS, at, -9), mode=mode)
        align(MAPS, changed(ROIS, at, -9), mode=mode, aligned=False)
    huge = changed(changed(ROIS, (0, 3), 1e9), (0, 4), 1e9)
    with pytest.raises(ValueError, match='too large to be sampled densely'):
        align(MAPS, huge, 0, mode)
    assert not align(MAPS, huge, 2, mode).any()


def test_regions_of_another_width():
    output = torch.zeros(2, 3, 2, 2)
    with pytest.raises(ValueError, match=r'regions \(R, 5\).* regions \(2, 4\) float32'):
        ext.roi_align_forward(MAPS, ROIS[:, 1:], output, output, output, 2, 2, 0.25, 2, 1, True)


def test_offsets_of_regions():
    with pytest.raises(ValueError, match=r'offsets \(2, 2, 3, 3\) or none, got \(2, 2, 2, 2\)'):
        ops.deform_roi_pool(MAPS, ROIS, torch.zeros(2, 2, 2, 2), (3, 3), 0.25)


BOXES = torch.tensor([[0, 0, 4, 4.0], [1, 1, 5, 5], [8, 8, 9, 9]])
SCORES = torch.tensor([0.5, 0.9, 0.1])
SUPPRESSED = {
    'wide': (torch.zeros(3, 5), SCORES, r'boxes \(3, 5\) float32'),
    'scores': (BOXES, SCORES[:2], r'scores \(2,\) float32'),
    'scores of two dimensions': (BOXES, SCORES.unsqueeze(1), r'scores \(3, 1\)'),
    'devices': (BOXES, SCORES.to('meta'), 'on meta'),
    'whole': (BOXES.long(), SCORES, 'int64'),
    'boxes': (changed(BOXES, (1, 2), NAN), SCORES, r'1 values of the boxes \(3, 4\)'),
    'no scores': (BOXES, changed(SCORES, 2, NAN), r'1 values of the scores \(3,\)'),
}


@pytest.mark.parametrize('case', SUPPRESSED)
def test_suppression(case):
    boxes, scores, message = SUPPRESSED[case]
    with pytest.raises(ValueError, match='nms: .*' + message):
        ext.nms(boxes, scores, 0.5, 0)
    with pytest.raises(ValueError, match='softnms: .*' + message):
        ext.softnms(boxes, scores, torch.zeros(3, 5), 0.5, 0.5, 0.0, 1, 0)


def test_endless_scores_and_boxes_are_fine():
    assert ops.nms(BOXES, changed(SCORES, 1, -INF), 0.3)[1].tolist() == [0, 2]
    assert ops.nms(changed(BOXES, (2, 3), INF), SCORES, 0.3)[1].tolist() == [1, 2]
    assert ops.soft_nms(BOXES, changed(SCORES, 1, -INF), 0.3)[1].tolist() == [0, 2]


def test_matching():
    with pytest.raises(ValueError, match=r'scores of shape \(N, 5\), got \(3, 4\)'):
        ext.nms_match(BOXES, 0.5)
    with pytest.raises(ValueError, match='1 values of the scores'):
        ext.nms_match(torch.cat((BOXES, changed(SCORES, 0, NAN).unsqueeze(1)), 1), 0.5)


LOGITS, CLASSES = torch.zeros(4, 3), torch.tensor([0, 1, 2, 3])


def test_focal_losses():
    outs = dict(sigmoid=torch.zeros(4, 3), softmax=torch.zeros(4))
    for kind, out in outs.items():
        forward = getattr(ext, f'{kind}_focal_loss_forward')
        for logits, classes, weight in (
            (LOGITS[0], CLASSES, LOGITS[:0]),
            (LOGITS, CLASSES[:3], LOGITS[:0]),
            (LOGITS, CLASSES.float(), LOGITS[:0]),
            (LOGITS, CLASSES, torch.ones(4)),
            (LOGITS, CLASSES.to('meta'), LOGITS[:0]),
            (LOGITS.long(), CLASSES, LOGITS[:0]),
        ):
            with pytest.raises(ValueError, match=f'{kind}_focal_loss: expected .* got predictions'):
                forward(logits, classes, weight, out, 2.0, 0.25)
    with pytest.raises(ValueError, match='class 3 is not one of 3'):
        ops.softmax_focal_loss(LOGITS, CLASSES)
    assert ops.sigmoid_focal_loss(LOGITS * NAN, CLASSES).isnan()  # a loss says so itself


CONV = dict(
    x=torch.zeros(2, 4, 6, 6),
    offset=torch.zeros(2, 18, 6, 6),
    mask=torch.zeros(2, 9, 6, 6),
    weight=torch.zeros(4, 4, 3, 3),
)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(x=torch.zeros(2, 3, 6, 6)), r'input \(2, 3, 6, 6\)'),
        (dict(offset=torch.zeros(2, 16, 6, 6)), r'expected an offset \(2, 18, 6, 6\)'),
        (dict(offset=torch.zeros(2, 18, 5, 6)), r'offset \(2, 18, 5, 6\)'),
        (dict(offset=torch.zeros(1, 18, 6, 6)), r'offset \(1, 18, 6, 6\)'),
        (dict(offset=torch.full((2, 18, 6, 6), NAN)), '1296 offsets are not numbers'),
        (dict(mask=torch.zeros(2, 8, 6, 6)), r'a mask \(2, 9, 6, 6\)'),
    ],
)
def test_deformable_convolutions(changes, message):
    x, offset, mask, weight = (CONV | changes).values()
    if 'mask' not in changes:
        with pytest.raises(ValueError, match='^deform_conv: .*' + message):
            ops.deform_conv2d(x, offset, weight, 1, 1)
    with pytest.raises(ValueError, match='modulated_deform_conv: .*' + message):
        ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1)


def test_a_convolution_of_two_dtypes():
    x, offset, _, weight = CONV.values()
    with pytest.raises(ValueError, match=r'of one dtype .* weight \(4, 4, 3, 3\) float64'):
        sizes = (3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 32)
        ext.deform_conv_forward(x, weight.double(), offset, x, x, x, *sizes)


def test_the_rest():
    with pytest.raises(ValueError, match=r'boxes \(3, 4\) .* and \(2, 5\)'):
        ext.bbox_overlaps(BOXES, torch.zeros(2, 5), torch.zeros(3, 2), 0, False, 0)
    with pytest.raises(ValueError, match=r'masks \(1, 9, 4, 4\), got .* \(1, 8, 4, 4\)|carafe'):
        out = torch.zeros(1, 2, 4, 4)
        ext.carafe_naive_forward(out[..., :2, :2], torch.zeros(1, 8, 4, 4), out, 3, 1, 2)
    with pytest.raises(ValueError, match=r'psamask: expected masks \(2, 9, 4, 4\)'):
        ext.psamask_forward(
            torch.zeros(2, 8, 4, 4), torch.zeros(2, 16, 4, 4), 0, 2, 4, 4, 3, 3, 1, 1
        )
    with pytest.raises(ValueError, match=r'columns \(27, 1\), got .* columns \(9, 1\)'):
        at = torch.zeros(1, dtype=torch.long)
        ext.masked_im2col_forward(MAPS[:1], at, at, torch.zeros(9, 1), 3, 3, 1, 1)
    value, sizes = torch.zeros(1, 5, 2, 4), torch.tensor([[2, 2], [1, 1]])
    weights, starts = torch.zeros(1, 3, 2, 2, 4), torch.tensor([0, 4])
    locations = torch.zeros(1, 3, 2, 2, 4, 2)
    with pytest.raises(ValueError, match=r'ms_deform_attn: .* weights \(1, 3, 2, 4\)'):
        ext.ms_deform_attn_forward(value, sizes, starts, locations, weights[..., 0, :], 64)
    with pytest.raises(ValueError, match='value has 4 tokens'):
        ext.ms_deform_attn_forward(value[:, :4], sizes, starts, locations, weights, 64)
