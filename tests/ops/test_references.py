"""Operators that compiled mmcv has on GPUs alone, beside the plainest form of each."""

import pytest
import torch
import torch.nn.functional as F
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from mmcv.ops.sync_bn import SyncBatchNormFunction


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize('threshold', [0.3, 0.6, 0.7, 0.9])
@pytest.mark.parametrize('offset', [0, 1])
def test_an_overlap_of_the_threshold_itself_is_none(offset, threshold):
    part = round(threshold * 10)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, part], [0, 0, 10, part - 1]])
    boxes[:, 2:] -= offset
    for order in ([0, 1], [1, 0]):
        kept = ops.nms(boxes[order], torch.tensor([0.9, 0.8]), threshold, offset)[1]
        assert kept.tolist() == [0, 1]
        kept = ops.nms(boxes[order], torch.tensor([0.9, 0.8]), threshold - 0.01, offset)[1]
        assert kept.tolist() == [0]


def test_equal_scores_in_soft_nms_follow_the_swaps_of_mmcv():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.randint(0, 12, (40, 2), generator=generator).float()
    boxes = torch.cat((boxes, boxes + 8), 1)
    scores = torch.randint(1, 4, (40,), generator=generator) / 4
    rows = torch.cat((boxes, scores.unsqueeze(1), torch.arange(40).unsqueeze(1)), 1)
    left, taken = rows.tolist(), []
    while left:
        best = max(range(len(left)), key=lambda i: left[i][4])
        left[0], left[best] = left[best], left[0]
        taken.append(left.pop(0))
        i = 0
        while i < len(left):
            sides = [
                max(min(taken[-1][a + 2], left[i][a + 2]) - max(taken[-1][a], left[i][a]), 0)
                for a in (0, 1)
            ]
            if sides[0] * sides[1] / (128 - sides[0] * sides[1]) >= 0.4:
                left[i] = left[-1]  # naive: its score is gone, and the last one takes its place
                left.pop()
            else:
                i += 1
    found = ops.soft_nms(boxes, scores, 0.4, method='naive', min_score=0.1)[1]
    assert 5 < len(found) < 30
    assert found.tolist() == [one[5] for one in taken]


def test_the_first_of_equal_samples_has_the_gradient_of_their_maximum():
    maps = torch.ones(1, 1, 8, 8, requires_grad=True)
    roi = torch.tensor([[0, 0.5, 0.5, 6.5, 6.5]])
    out = ops.roi_align(maps, roi, (1, 1), 1.0, 2, 'max', True)
    out.sum().backward()
    expected = torch.zeros(8, 8)
    expected[1:3, 1:3] = 0.25  # around 1.5, 1.5
    torch.testing.assert_close(maps.grad[0, 0], expected)


def test_roi_pool_takes_the_maximum_of_pixels():
    maps = draw(2, 3, 9, 11).requires_grad_()
    rois = torch.tensor(
        [[1, 3.0, 2, 30, 27], [0, 0, 0, 43, 35], [0, 9, 9, 9, 9], [1, -30, 4, 12, 90]]
    )
    rois = torch.cat((rois, torch.tensor([[0, 20.8, 20, 19.4, 30], [1, 300, 0, 340, 20]])))
    out = ops.roi_pool(maps, rois, (3, 2), 0.25)
    expected = torch.zeros(len(rois), 3, 3, 2)
    for r, (image, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = corners[0], corners[1], corners[2] + 1, corners[3] + 1
        for i in range(3):
            for j in range(2):
                rows = span(top / 4, bottom / 4, i, 3, 9)
                columns = span(left / 4, right / 4, j, 2, 11)
                pixels = maps[int(image), :, rows, columns].flatten(1)
                if pixels.numel():
                    expected[r, :, i, j] = pixels.amax(1)
    assert (expected == 0).flatten(1).all(1).tolist() == [False] * 4 + [True] * 2
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    grad = draw(*out.shape)
    (found,) = torch.autograd.grad(out, maps, grad)
    (wanted,) = torch.autograd.grad(expected, maps, grad)
    torch.testing.assert_close(found, wanted)


def span(start, end, i, bins, length):
    if end <= start:
        return slice(0, 0)
    step = (end - start) / bins
    low, high = start + i * step, start + (i + 1) * step
    return slice(min(max(int(low // 1), 0), length), min(max(int(-(-high // 1)), 0), length))


def test_deform_roi_pool_moves_the_bins_of_roi_align():
    maps = draw(2, 3, 12, 15)
    rois = torch.tensor([[1, 8.0, 4, 40, 28], [0, 3, 6, 21, 44]])
    expected = ops.roi_align(maps, rois, (3, 2), 0.25, 0, 'avg', True)
    found = ops.deform_roi_pool(maps, rois, None, (3, 2), 0.25, 0, 0.1)
    torch.testing.assert_close(found, expected)
    found = ops.deform_roi_pool(maps, rois, torch.zeros(2, 2, 3, 2), (3, 2), 0.25, 0, 0.1)
    torch.testing.assert_close(found, expected)
    # All bins a quarter of the width to the right, and half the height up.
    offset = torch.tensor([2.5, -5]).view(1, 2, 1, 1).expand(2, 2, 3, 2)
    sides = rois[:, 3:] - rois[:, 1:3]
    move = torch.cat((sides[:, :1] / 4, -sides[:, 1:] / 2), 1)
    moved = rois + F.pad(move.repeat(1, 2), (1, 0))
    expected = ops.roi_align(maps, moved, (3, 2), 0.25, 0, 'avg', True)
    found = ops.deform_roi_pool(maps, rois, offset, (3, 2), 0.25, 0, 0.1)
    torch.testing.assert_close(found, expected)


def test_sigmoid_focal_loss():
    logits, target = 3 * draw(6, 4), torch.tensor([0, 3, 4, 1, 4, -1])  # 4 and -1: background
    weight = torch.tensor([0.5, 2, 1.5, 3])
    hot = torch.zeros(6, 4)
    hot[[0, 1, 3], [0, 3, 1]] = 1
    p = (logits.sigmoid() * (2 * hot - 1) + 1 - hot).clamp(0, 1)  # of what is right
    expected = -(0.3 * hot + 0.7 * (1 - hot)) * (1 - p) ** 1.5 * p.log()
    found = ops.sigmoid_focal_loss(logits, target, 1.5, 0.3, None, 'none')
    torch.testing.assert_close(found, expected)
    expected *= torch.tensor([0.5, 3, 1, 2, 1, 1]).unsqueeze(1)
    found = ops.sigmoid_focal_loss(logits, target, 1.5, 0.3, weight, 'none')
    torch.testing.assert_close(found, expected)
    # Logits of which the logarithm of the probability is endless give large losses, not endless.
    found = ops.sigmoid_focal_loss(torch.full((1, 1), -200.0), torch.tensor([0]), 2, 1, None, 'sum')
    assert 80 < found < 90


def test_softmax_focal_loss():
    logits, target = 3 * draw(5, 4), torch.tensor([0, 3, -1, 1, 2])  # -1: none
    weight = torch.tensor([0.5, 2, 1.5, 3])
    p = logits.softmax(1)[range(5), target]
    expected = -0.3 * (1 - p) ** 1.5 * p.log() * torch.tensor([1.0, 1, 0, 1, 1])
    found = ops.softmax_focal_loss(logits, target, 1.5, 0.3, None, 'none')
    torch.testing.assert_close(found, expected)
    found = ops.softmax_focal_loss(logits, target, 1.5, 0.3, weight, 'none')
    torch.testing.assert_close(found, expected * torch.tensor([0.5, 3, 1, 2, 1.5]))
    logits.requires_grad_()
    ops.softmax_focal_loss(logits, target, 1.5, 0.3, None, 'sum').backward()
    assert logits.grad.any(1).tolist() == [True, True, False, True, True]


def test_carafe_sums_with_the_kernel_of_each_pixel():
    features, masks = draw(2, 4, 3, 5), draw(2, 18, 6, 10)
    expected = torch.zeros(2, 4, 6, 10)
    around = F.pad(features, (1, 1, 1, 1))
    kernels = masks.view(2, 2, 3, 3, 6, 10)
    for channel in range(4):
        for y in range(6):
            for x in range(10):
                seen = around[:, channel, y // 2 : y // 2 + 3, x // 2 : x // 2 + 3]
                expected[:, channel, y, x] = (seen * kernels[:, channel // 2, :, :, y, x]).sum(
                    (1, 2)
                )
    for carafe in (ops.carafe, ops.carafe_naive):
        torch.testing.assert_close(carafe(features, masks, 3, 2, 2), expected)


def test_masked_convolution_is_one_at_chosen_places():
    maps, weight, bias = draw(1, 3, 7, 6), draw(4, 3, 3, 3), draw(4)
    mask = (draw(1, 7, 6) > 0.5).float()
    expected = F.conv2d(maps, weight, bias, padding=1) * mask
    found = ops.masked_conv2d(maps, mask, weight, bias, 1)
    assert 5 < mask.sum() < 30
    torch.testing.assert_close(found, expected)


def test_sync_bn_of_one_process_is_batch_norm():
    images, grad = draw(3, 4, 5, 6), draw(4, 3, 6, 5).view(3, 4, 5, 6)
    found = []
    for is_own in (True, False):
        tensors = [t.clone().requires_grad_() for t in (images, draw(4) + 2, draw(4))]
        mean, var = torch.full((4,), 0.5), torch.full((4,), 2.0)
        if is_own:
            options = (0.1, 1e-5, None, 1, 'N')
            out = SyncBatchNormFunction.apply(tensors[0], mean, var, *tensors[1:], *options)
        else:
            out = F.batch_norm(tensors[0], mean, var, *tensors[1:], training=True)
        found.append([out, mean, var, *torch.autograd.grad(out, tensors, grad)])
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_ms_deform_attn_is_the_form_of_mmcv_for_cpus():
    sizes, starts = torch.tensor([[4, 3], [2, 2]]), torch.tensor([0, 12])
    value, weights = draw(2, 16, 2, 8), draw(2, 5, 2, 2, 3).softmax(-1)
    locations = draw(2, 5, 2, 2, 3, 2) * 0.5 + 0.5
    tensors = [tensor.requires_grad_() for tensor in (value, locations, weights.clone())]
    out = MultiScaleDeformableAttnFunction.apply(tensors[0], sizes, starts, *tensors[1:], 64)
    expected = multi_scale_deformable_attn_pytorch(tensors[0], sizes, *tensors[1:])
    torch.testing.assert_close(out, expected)
    grad = draw(2, 5, 16)
    found = torch.autograd.grad(out, tensors, grad)
    for one, other in zip(found, torch.autograd.grad(expected, tensors, grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    sizes[:] = torch.tensor([[2, 6], [2, 2]])  # numbers that were kept are those of before
    out = MultiScaleDeformableAttnFunction.apply(tensors[0], sizes, starts, *tensors[1:], 64)
    torch.testing.assert_close(
        out, multi_scale_deformable_attn_pytorch(tensors[0], sizes, *tensors[1:])
    )
