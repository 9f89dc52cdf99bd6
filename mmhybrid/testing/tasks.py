"""Models with something to do: a batch made up of noise, inference and a loss on it."""

from pathlib import Path
from typing import Any

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

    def cast(self, dtype: torch.dtype) -> None:
        """Weights and image in another dtype."""
        self.model.to(dtype)
        self.image = self.image.to(dtype)

    def macs(self) -> int:
        """Multiply-adds of one inference."""
        return count_macs(self.model.eval(), self.image)

    def infer(self) -> Any:
        return self.model(self.image)

    def loss(self) -> torch.Tensor:
        outs = self.model(self.image)
        outs = outs if isinstance(outs, (tuple, list)) else (outs,)
        return sum(out.float().mean() for out in outs)


class ConfigTask:
    """The whole model of a config, detector, segmentor or classifier, on made-up data.

    Args:
        config: path of the config.
        size: ``(H, W)`` of the images.
        options: changes of the config, as ``--cfg-options`` makes them.
    """

    def __init__(
        self,
        config: str,
        batch: int,
        size: tuple[int, int],
        device: torch.device,
        options: dict | None = None,
    ):
        from mmengine.config import Config
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import MODELS, init_default_scope

        cfg = Config.fromfile(config)
        scope = cfg.get('default_scope')
        if scope not in SAMPLES:
            raise ValueError(
                f'{Path(config).name} has default_scope={scope!r}; expected one of {list(SAMPLES)}'
            )
        init_default_scope(scope)
        cfg.merge_from_dict(options or {})
        cfg.model.pop('init_cfg', None)
        cfg.model.get('backbone', {}).pop('init_cfg', None)
        preprocessor = cfg.model.get('data_preprocessor')
        if preprocessor and 'size' in preprocessor:
            # a segmentor's crop, to which images would be padded
            preprocessor.size = size
        model = MODELS.build(cfg.model)
        if device.type == 'cpu':  # where synchronised norms do not train
            model = revert_sync_batchnorm(model)
        self.model = model.to(device)
        if hasattr(self.model, 'level_embed'):  # of mmdet's DETRs, until init_weights any memory
            torch.nn.init.normal_(self.model.level_embed)
        self.num_classes = _num_classes(cfg.model)
        self._metrics = cfg.get('val_evaluator')
        self.batch = make_batch(cfg, batch, size)

    def macs(self) -> int:
        """Multiply-adds of one inference."""
        return count_macs(self.model.eval(), forward=self.infer)

    def infer(self) -> list:
        return self.model.test_step(self.batch)

    def loss(self) -> torch.Tensor:
        data = self.model.data_preprocessor(self.batch, True)
        losses = self.model(**data, mode='loss')
        return self.model.parse_losses(losses)[0]

    def evaluate(self) -> dict[str, float]:
        """The config's metrics of predictions for the batch; those that read files are left out."""
        from mmengine.evaluator import Evaluator

        metrics = self._metrics if isinstance(self._metrics, (list, tuple)) else [self._metrics]
        metrics = [dict(metric) for metric in metrics if metric.type not in NEED_FILES]
        for metric in metrics:
            metric.pop('ann_file', None)  # the truth is in the samples
        evaluator = Evaluator(metrics)
        evaluator.dataset_meta = dict(classes=[f'class {i}' for i in range(self.num_classes)])
        with torch.no_grad():
            predictions = self.model.eval().test_step(self.batch)
        evaluator.process(data_samples=predictions, data_batch=self.batch)
        return evaluator.evaluate(len(predictions))


NEED_FILES = ('CocoPanopticMetric',)


def make_batch(cfg: Any, batch: int, size: tuple[int, int]) -> dict:
    """Images of noise and targets for the model of a config, as its ``test_step`` takes them."""
    sample = SAMPLES[cfg.default_scope]
    return dict(
        inputs=[torch.randint(256, (3, *size), dtype=torch.uint8) for _ in range(batch)],
        data_samples=[sample(size, cfg.model, index) for index in range(batch)],
    )


def _num_classes(model: dict) -> int:
    """The number of classes that the heads of a model were built for."""
    found: list[int] = []

    def walk(node):
        if isinstance(node, dict):
            found.extend(node[key] for key in ('num_classes', 'num_things_classes') if key in node)
            node = list(node.values())
        if isinstance(node, (list, tuple)):
            for child in node:
                walk(child)

    walk(model)
    return found[0] if found else 2


def _detection(size: tuple[int, int], model: dict, index: int):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData, PixelData

    h, w = size
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.3, 0.4, 0.9, 0.8], [0.6, 0.1, 0.8, 0.3]])
    boxes = boxes * torch.tensor([w, h, w, h])
    masks = torch.zeros(len(boxes), h, w, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    truth = [dict(bbox=box, bbox_label=0, mask=_polygon(box)) for box in boxes.tolist()]
    sample = DetDataSample(metainfo=dict(_metainfo(size), img_id=index, instances=truth))
    sample.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(len(boxes), dtype=torch.long),
        masks=BitmapMasks(masks.numpy(), h, w),
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    if model.get('panoptic_head', {}).get('num_stuff_classes'):
        stuff = torch.full((1, h, w), _num_classes(model))  # the first class that is no thing
        sample.gt_sem_seg = PixelData(sem_seg=stuff)
    return sample


def _polygon(box: list[float]) -> list[list[float]]:
    x0, y0, x1, y1 = box
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def _segmentation(size: tuple[int, int], model: dict, index: int):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=_metainfo(size))
    sample.gt_sem_seg = PixelData(data=torch.randint(_num_classes(model), (1, *size)))
    return sample


def _classification(size: tuple[int, int], model: dict, index: int):
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
