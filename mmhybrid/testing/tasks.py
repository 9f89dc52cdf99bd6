"""Models with something to do: a batch made up of noise, inference and a loss on it."""

from pathlib import Path

import torch
from torch import nn

from mmhybrid.engine.flops import count_macs


class BackboneTask:
    """A backbone on a batch of noise; the loss is the mean of its outputs.

    Args:
        model: takes ``(N, 3, H, W)``, gives a tensor or a sequence of tensors.
        size: ``(H, W)``.
    """

    def __init__(self, model: nn.Module, batch: int, size: tuple[int, int], device: torch.device):
        self.model = model.to(device)
        self.image = torch.randn(batch, 3, *size, device=device)

    def macs(self) -> int:
        """Multiply-adds of one inference."""
        return count_macs(self.model.eval(), self.image)

    def infer(self):
        return self.model(self.image)

    def loss(self) -> torch.Tensor:
        outs = self.model(self.image)
        outs = outs if isinstance(outs, (tuple, list)) else (outs,)
        return sum(out.float().mean() for out in outs)


class ConfigTask:
    """The whole model of a config, detector, segmentor or classifier, on made-up data."""

    def __init__(self, config: str, batch: int, size: tuple[int, int], device: torch.device):
        from mmengine.config import Config
        from mmengine.registry import MODELS, init_default_scope

        cfg = Config.fromfile(config)
        scope = cfg.get('default_scope')
        if scope not in SAMPLES:
            raise ValueError(
                f'{Path(config).name} has default_scope={scope!r}; expected one of {list(SAMPLES)}'
            )
        init_default_scope(scope)
        cfg.model.pop('init_cfg', None)
        cfg.model.get('backbone', {}).pop('init_cfg', None)
        preprocessor = cfg.model.get('data_preprocessor') or {}
        if 'size' in preprocessor:  # a segmentor's crop, to which images would be padded
            preprocessor.size = size
        self.model = MODELS.build(cfg.model).to(device)
        self.batch = make_batch(cfg, batch, size)

    def macs(self) -> int:
        """Multiply-adds of one inference."""
        return count_macs(self.model.eval(), forward=self.infer)

    def infer(self):
        return self.model.test_step(self.batch)

    def loss(self) -> torch.Tensor:
        data = self.model.data_preprocessor(self.batch, True)
        losses = self.model(**data, mode='loss')
        return self.model.parse_losses(losses)[0]


def make_batch(cfg, batch: int, size: tuple[int, int]) -> dict:
    """Images of noise and targets for the model of a config, as its ``test_step`` takes them."""
    scope = cfg.default_scope
    head = 'decode_head' if scope == 'mmseg' else 'head'
    classes = cfg.model.get(head, {}).get('num_classes', 2)
    samples = [SAMPLES[scope](size, classes) for _ in range(batch)]
    image = torch.randint(256, (3, *size), dtype=torch.uint8)
    return dict(inputs=[image] * batch, data_samples=samples)


def _detection(size: tuple[int, int], classes: int):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    h, w = size
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.3, 0.4, 0.9, 0.8], [0.6, 0.1, 0.8, 0.3]])
    boxes = boxes * torch.tensor([w, h, w, h])
    masks = torch.zeros(len(boxes), h, w, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    sample = DetDataSample(metainfo=_metainfo(size))
    sample.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(len(boxes), dtype=torch.long),
        masks=BitmapMasks(masks.numpy(), h, w),
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    return sample


def _segmentation(size: tuple[int, int], classes: int):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=_metainfo(size))
    sample.gt_sem_seg = PixelData(data=torch.randint(classes, (1, *size)))
    return sample


def _classification(size: tuple[int, int], classes: int):
    from mmpretrain.structures import DataSample

    return DataSample(metainfo=_metainfo(size)).set_gt_label(0)


def _metainfo(size: tuple[int, int]) -> dict:
    return dict(
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
        img_path='noise',
    )


SAMPLES = dict(mmdet=_detection, mmseg=_segmentation, mmpretrain=_classification)
