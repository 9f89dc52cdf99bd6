"""`--tta` of every head: a flipped view is joined with the image as it is."""

import copy

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmhybrid import config_path
from mmhybrid.cli.test import _augment, flipped_too
from mmhybrid.cli.usage import UsageError
from mmhybrid.engine.tta import DetectorTTA, flip_boxes
from tests.configs.test_one_step import NARROW, PAIRS
from tests.models.drawn import build_model

HEADS = sorted({head for head, family in PAIRS if family == 'cmt'} - {'mask2former_panoptic'})
SIZE = (48, 80)


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp('tta') / 'image.png'
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (9, 9), 0))
    return path


def small_config(head):
    """The config of a head with its smallest CMT, narrow, on images as small as those of a test."""
    cfg = Config.fromfile(config_path(PAIRS[head, 'cmt']))
    cfg.merge_from_dict({f'model.{key}': value for key, value in NARROW.get(head, {}).items()})
    cfg.model.backbone.pop('init_cfg', None)
    if 'score_thr' in (cfg.model.get('test_cfg') or {}):
        cfg.model.test_cfg.score_thr = 0.0
    for step in cfg.test_dataloader.dataset.pipeline:
        if step['type'] in ('Resize', 'ResizeEdge'):
            step['scale'] = 64 if step['type'] == 'ResizeEdge' else (128, 64)
    return cfg


def predict(model, pipeline, path):
    steps = [step for step in pipeline if 'LoadAnnotations' not in str(step['type'])]
    data = Compose(steps)(dict(img_path=str(path), img_id=0, sample_idx=0))
    with torch.no_grad():
        (sample,) = model.eval().test_step(pseudo_collate([data]))
    return sample


def arrays(sample):
    if 'pred_instances' in sample:
        found = sample.pred_instances
        return [
            found.bboxes,
            found.scores,
            found.labels,
            *([found.masks] if 'masks' in found else []),
        ]
    if 'pred_sem_seg' in sample:
        return [sample.pred_sem_seg.data.squeeze()]
    return [sample.pred_score]


@pytest.mark.parametrize('head', HEADS)
def test_every_head(head, image):
    cfg = small_config(head)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    plain = copy.deepcopy(cfg)
    _augment(cfg, head)
    wrapper = build_model(cfg.model)
    pipeline = cfg.test_dataloader.dataset.pipeline
    views = pipeline[-1]['transforms']
    views[:] = [view for view in views if 'LoadAnnotations' not in str(view[0]['type'])]
    joined = predict(wrapper, pipeline, image)
    alone = predict(wrapper.module, plain.test_dataloader.dataset.pipeline, image)
    for one, other in zip(arrays(joined), arrays(alone), strict=True):
        assert one.dtype == other.dtype and one.ndim == other.ndim
        assert one.shape[1:] == other.shape[1:]

    (flips,) = (view for view in views if view[0]['type'] == 'RandomFlip')
    flips[1]['prob'] = 0.0  # two views that are the same: the result is that of one
    same = predict(wrapper, pipeline, image)
    if 'pred_instances' in same:
        found, kept = alone.pred_instances, same.pred_instances
        assert len(found) and len(kept)
        # Of equal views one survives; NMS may join what a head of queries had kept.
        assert len(kept) <= len(found)
        for box, score in zip(kept.bboxes, kept.scores, strict=True):
            near = (found.bboxes - box).abs().amax(dim=1) < 1e-3
            assert (found.scores[near] - score).abs().min() < 1e-5
        return
    for one, other in zip(arrays(same), arrays(alone), strict=True):
        torch.testing.assert_close(one, other)


def test_panoptic_says_why_not():
    cfg = Config.fromfile(config_path(PAIRS['mask2former_panoptic', 'cmt']))
    with pytest.raises(UsageError, match='panoptic'):
        _augment(cfg, 'x')


def test_annotations_are_not_turned():
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(64, 64)),
        dict(type='LoadAnnotations'),
        dict(type='PackDetInputs', meta_keys=('ori_shape',)),
    ]
    given = copy.deepcopy(steps)
    loader, views = flipped_too(steps)
    assert steps == given and loader == steps[0]
    kinds = [view[0]['type'] for view in views['transforms']]
    assert kinds == ['Resize', 'RandomFlip', 'LoadAnnotations', 'PackDetInputs']
    assert views['transforms'][-1][0]['meta_keys'] == ('ori_shape', 'flip', 'flip_direction')


class Finder(nn.Module):
    """Finds the bright object of each view, surer of it in a flipped one."""

    def test_step(self, data):
        for pixels, sample in zip(data['inputs'], data['data_samples'], strict=True):
            assert not sample.flip
            mask = pixels[0] > 128
            rows, columns = torch.nonzero(mask, as_tuple=True)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([box], dtype=torch.float32),
                scores=torch.tensor([0.9 if sample.turned else 0.5]),
                labels=torch.tensor([1]),
                masks=mask[None],
            )
        return data['data_samples']


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_boxes_and_masks_are_turned_back(direction, tmp_path):
    init_default_scope('mmdet')
    pixels = np.zeros((40, 70, 3), np.uint8)
    pixels[5:15, 10:31] = 255
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), pixels)
    keys = ('ori_shape', 'img_shape', 'scale_factor')
    steps = flipped_too(
        [dict(type='LoadImageFromFile'), dict(type='PackDetInputs', meta_keys=keys)]
    )
    steps[-1]['transforms'][0][1]['direction'] = direction
    found = predict(DetectorTTA(module=Finder()), steps, path).pred_instances
    assert found.bboxes.tolist() == [[10, 5, 31, 15]]
    assert found.scores.tolist() == pytest.approx([0.9]) and found.labels.tolist() == [1]
    assert (found.masks[0].numpy() == (pixels[..., 0] > 128)).all()


def test_flipping_twice_changes_nothing():
    boxes = torch.tensor([[1.0, 2, 11, 5], [0, 0, 20, 10]])
    flipped = flip_boxes(boxes, width=20)
    assert flipped.tolist() == [[9, 2, 19, 5], [0, 0, 20, 10]]
    assert torch.equal(flip_boxes(flip_boxes(boxes, 20, 10), 20, 10), boxes)


def test_every_part_of_a_joined_data_set(image):
    cfg = small_config('upernet')
    part = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[part, copy.deepcopy(part)])
    _augment(cfg, 'upernet')
    for one in cfg.test_dataloader.dataset.datasets:
        assert one.pipeline[-1]['type'] == 'TestTimeAug'


@pytest.mark.parametrize(('most', 'kept'), [(1, 1), (-1, 2)])
def test_the_most_objects(most, kept, tmp_path):
    model = DetectorTTA(iou_threshold=0.5, max_per_img=most, module=Finder())
    boxes = torch.tensor([[0.0, 0, 5, 5], [20, 20, 30, 30]])
    found = InstanceData(bboxes=boxes, scores=torch.tensor([0.5, 0.9]), labels=torch.zeros(2))
    sample = DetDataSample(metainfo=dict(ori_shape=(40, 40), turned=None), pred_instances=found)
    (joined,) = model.merge_preds([[sample]])
    assert len(joined.pred_instances) == kept
    assert joined.pred_instances.scores[0] == 0.9
