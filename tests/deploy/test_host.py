"""A host's model that runs a file gives what it gave before, in the size of the original image."""

import pytest
import torch

from mmhybrid.deploy import ExportError, config_graphs, run_exported
from mmhybrid.deploy.exported import Exported
from mmhybrid.deploy.host import resized
from tests.deploy.heads import tiny


class InMemory(Exported):
    """In the place of a file: the graph's own module."""

    def __init__(self, graph):
        shape = [graph.free.get(i, side) for i, side in enumerate(graph.example.shape)]
        own = dict(input=graph.input, outputs=graph.outputs, shape=shape)
        super().__init__('model.onnx', graph.meta | own)
        self.module = graph.module

    def run(self, batch, names):
        with torch.no_grad():
            return list(self.module(batch))[: len(names)]


def predict(model, images, scale=2):
    """The objects on images that the pipeline has resized to a half, or by another scale."""
    from mmdet.structures import DetDataSample

    height, width = images.shape[2:]
    metas = dict(
        img_shape=(height, width), batch_input_shape=(height, width), pad_shape=(height, width),
        ori_shape=(scale * height, scale * width), scale_factor=(1 / scale, 1 / scale),
    )  # fmt: skip
    samples = [DetDataSample(metainfo=metas) for _ in images]
    with torch.no_grad():
        return [found.pred_instances for found in model.predict(images, samples)]


@pytest.mark.parametrize('pasted', [False, True])
def test_masks_are_those_of_the_host(pasted):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    model = tiny('maskrcnn_cmt_ti')
    expected = predict(model, images)
    if pasted:  # in the size of the image given, and then resized
        for want, small in zip(expected, predict(model, images, scale=1), strict=True):
            want.masks = torch.stack([resized(mask, (128, 192)) for mask in small.masks])
    (graph,) = config_graphs(model, name='model', pasted=pasted)
    model = run_exported(tiny('maskrcnn_cmt_ti'), InMemory(graph))
    for want, found in zip(expected, predict(model, images), strict=True):
        assert len(want) >= 4 and want.masks.any()
        assert found.masks.dtype == torch.bool
        torch.testing.assert_close(found.bboxes, want.bboxes, rtol=1e-4, atol=1e-2)
        assert (found.masks != want.masks).float().mean() < 1e-3 < want.masks.float().mean()


def test_no_object():
    model = tiny('maskrcnn_cmt_ti')
    model.roi_head.test_cfg.score_thr = 1.0
    images = torch.randn(1, 3, 64, 96)
    for pasted in (False, True):
        (graph,) = config_graphs(model, name='model', pasted=pasted)
        (found,) = predict(run_exported(tiny('maskrcnn_cmt_ti'), InMemory(graph)), images)
        assert found.masks.shape == (0, 128, 192) and found.masks.dtype == torch.bool


def test_what_does_not_fit_is_refused():
    (graph,) = config_graphs(tiny('maskrcnn_cmt_ti'), name='model')
    for other in ('fpn_cmt_ti', 'linear_cmt_ti'):
        with pytest.raises(ExportError, match='the detector model, which does not fit'):
            run_exported(tiny(other), InMemory(graph))
    model = run_exported(tiny('maskrcnn_cmt_ti'), InMemory(graph))
    with pytest.raises(ExportError, match='cannot be trained'):
        model.train()
