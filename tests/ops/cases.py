"""Cases of the operators that compiled mmcv has on a CPU, and their results.

``compiled.npz`` holds what a compiled onedl-mmcv 2.3.6 returned. In an environment that has one::

    python -m tests.ops.cases
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

RECORD = Path(__file__).with_name('compiled.npz')
SEED = 3


class Draw:
    """Inputs of cases, from a seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape, low=0.0, high=1.0):
        return torch.rand(*shape, generator=self.generator) * (high - low) + low

    def whole(self, high, *shape):
        return torch.randint(0, high, shape, generator=self.generator)

    def boxes(self, n, size):
        corner = self(n, 2, high=size)
        return torch.cat((corner, corner + self(n, 2, low=1, high=size / 2)), 1)


def results(seed):
    """What the mmcv of this environment returns: arrays by the case's name and their number."""
    draw, found = Draw(seed), {}
    for run in (suppressions, regions, convolutions, others):
        for name, tensors in run(draw):
            for i, tensor in enumerate(tensors):
                found[f'{name}/{i}'] = tensor.detach().numpy()
    return found


def suppressions(draw):
    from mmcv import ops

    for n in (0, 1, 60):
        boxes, scores, classes = draw.boxes(n, 60), draw(n), draw.whole(3, n)
        if n > 1:
            boxes[::3] = boxes[::3].round()
            boxes[7], boxes[11] = boxes[8], boxes[12]
            scores[4:9] = scores[4]
        for offset in (0, 1):
            for threshold in (0.0, 0.3, 0.6):
                yield f'nms {n} {offset} {threshold}', ops.nms(boxes, scores, threshold, offset)
        if not n:
            continue
        yield f'nms {n} few', ops.nms(boxes, scores, 0.5, score_threshold=0.3, max_num=9)
        for split in (10, 1000):
            nms = dict(type='nms', iou_threshold=0.5, split_thr=split)
            yield f'batched_nms {n} {split}', ops.batched_nms(boxes, scores, classes, nms)
        for method in ('naive', 'linear', 'gaussian'):
            for least in (0.0, 0.2):
                soft = dict(min_score=least, method=method)
                yield f'soft_nms {n} {method} {least}', ops.soft_nms(boxes, scores, 0.4, **soft)
        groups = ops.nms_match(torch.cat((boxes, scores.unsqueeze(1)), 1), 0.4)
        yield f'nms_match {n}', (torch.cat(groups), torch.tensor([len(one) for one in groups]))


def regions(draw):
    from mmcv import ops

    for case in (
        dict(sampling_ratio=0, pool_mode='avg', aligned=True),
        dict(sampling_ratio=3, pool_mode='avg', aligned=False),
        dict(sampling_ratio=0, pool_mode='max', aligned=True),
        dict(sampling_ratio=0, pool_mode='max', aligned=False),
        dict(sampling_ratio=1, pool_mode='max', aligned=True),
    ):
        maps = draw(2, 3, 7, 10, low=-1).requires_grad_()
        boxes = draw.boxes(8, 40)
        boxes[0] -= 60  # outside
        boxes[1, 2:] = boxes[1, :2]  # of no area
        boxes[2] = torch.tensor([0, 0, 40, 28])
        if not case['aligned']:
            boxes[3] = boxes[3, [2, 3, 0, 1]]  # upside down
        rois = torch.cat((draw.whole(2, 8, 1).float(), boxes), 1)
        out = ops.roi_align(maps, rois, (3, 2), 0.25, *case.values())
        out.backward(draw(*out.shape, low=-1))
        yield ' '.join(map(str, ('roi_align', *case.values()))), (out, maps.grad)
        none = ops.roi_align(maps, rois[:0], (3, 2), 0.25, *case.values())
        yield ' '.join(map(str, ('roi_align', *case.values(), 'none'))), (none,)


def convolutions(draw):
    from mmcv import ops

    for kernel, stride, padding, dilation, groups, deform in (
        ((3, 3), (1, 1), (1, 1), (1, 1), 1, 1),
        ((2, 3), (2, 1), (0, 2), (1, 2), 2, 4),
        ((1, 1), (1, 2), (1, 0), (1, 1), 1, 2),
    ):
        size = [
            (side + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
            for i, side in enumerate((6, 5))
        ]
        places = deform * kernel[0] * kernel[1]
        maps, mask = draw(2, 8, 6, 5, low=-1), draw(2, places, *size)
        weight, bias = draw(4, 8 // groups, *kernel, low=-1), draw(4)
        moved = draw(2, 2 * places, *size, low=-2, high=2)
        for name, offset in dict(moved=moved, whole=moved.round(), still=moved * 0).items():
            # Deformable convolution comes with an offset of 0; then places lie on pixels.
            tensors = [t.clone().requires_grad_() for t in (maps, offset, weight)]
            out = ops.deform_conv2d(*tensors, stride, padding, dilation, groups, deform, False, 1)
            out.backward(draw(*out.shape, low=-1))
            yield f'deform_conv {kernel} {name}', (out, *(t.grad for t in tensors))
            tensors = [t.clone().requires_grad_() for t in (maps, offset, mask, weight, bias)]
            out = ops.modulated_deform_conv2d(*tensors, stride, padding, dilation, groups, deform)
            out.backward(draw(*out.shape, low=-1))
            yield f'modulated_deform_conv {kernel} {name}', (out, *(t.grad for t in tensors))


def others(draw):
    from mmcv.ops import bbox_overlaps
    from mmcv.ops.psa_mask import psa_mask

    first, second = draw.boxes(6, 30), draw.boxes(5, 30)
    for mode in ('iou', 'iof'):
        for offset in (0, 1):
            yield (
                f'bbox_overlaps {mode} {offset}',
                (
                    bbox_overlaps(first, second, mode, False, offset),
                    bbox_overlaps(first[:5], second, mode, True, offset),
                ),
            )
    for kind in (0, 1):
        for size in ((3, 5), (9, 7)):
            masks = draw(2, size[0] * size[1], 5, 4).requires_grad_()
            out = psa_mask(masks, kind, size)
            out.backward(draw(*out.shape, low=-1))
            yield f'psa_mask {kind} {size}', (out, masks.grad)


if __name__ == '__main__':
    found = find_spec('mmcv._ext')
    if not str(getattr(found, 'origin', '')).endswith(('.so', '.pyd')):
        raise SystemExit('this mmcv is not compiled; make install OPS=compiled')
    np.savez_compressed(RECORD, **results(SEED))
    print(f'{RECORD.name}: {RECORD.stat().st_size} bytes')
