"""The config that a training saves serves the hosts' own functions, with the same predictions."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmhybrid.cli.arguments import argument_parser
from mmhybrid.cli.config import load_config
from mmhybrid.cli.predictors import Predictor

from .conftest import CONFIGS

OPTIONS = dict(
    upernet_cmt_ti_scratch_custom=['classes=7', 'image_size=96,64', 'crop_size=64'],
    retinanet_cmt_ti_custom=['image_size=96,64'],
    linear_cmt_ti_custom=['image_size=64'],
)


@pytest.fixture
def saved(tool, data, tmp_path):
    """A function of a config: what a training of it leaves, the path of a picture, its prediction.

    They are the paths of config and checkpoint, the picture's path and pixels, and a prediction.
    """

    def save(name):
        from mmengine.registry import MODELS, init_default_scope

        root = data / 'crops' if name.startswith('linear') else data
        arguments = [str(CONFIGS / f'{name}.py'), '--cfg-options', f'data_root={root}']
        cfg = load_config(argument_parser('').parse_args([*arguments, *OPTIONS[name]]))
        cfg.dump(tmp_path / 'saved.py')
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        meta = dict(dataset_meta=dict(classes=list(map(str, range(7)))))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'a.pth')
        picture = tmp_path / 'a.png'
        pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(picture)
        (found,) = Predictor(cfg, tmp_path / 'a.pth').predict([pixels])
        return str(tmp_path / 'saved.py'), str(tmp_path / 'a.pth'), str(picture), pixels, found

    return save


def test_mmsegmentation(saved):
    from mmseg.apis import inference_model, init_model

    config, checkpoint, picture, pixels, found = saved('upernet_cmt_ti_scratch_custom')
    model = init_model(config, checkpoint, device='cpu')
    for given in (picture, pixels[..., ::-1]):
        result = inference_model(model, given).pred_sem_seg.data[0].numpy()
        assert result.shape == (70, 90) and len(np.unique(result)) > 1
        assert np.array_equal(result, found['class_map'])


def test_mmdetection(saved):
    from mmdet.apis import inference_detector, init_detector

    config, checkpoint, picture, pixels, found = saved('retinanet_cmt_ti_custom')
    model = init_detector(config, checkpoint, device='cpu', cfg_options=ALL_SCORES)
    own = Predictor(model.cfg, model=model).predict([pixels])[0]['objects']
    assert len(own) > 3
    for given in (picture, np.ascontiguousarray(pixels[..., ::-1])):
        result = inference_detector(model, given).pred_instances
        assert np.allclose(result.bboxes.numpy(), [one['bbox'] for one in own], atol=1e-3)


ALL_SCORES = {'model.test_cfg.score_thr': 0.0, 'model.test_cfg.max_per_img': 10}


def test_mmpretrain(saved):
    from mmpretrain import ImageClassificationInferencer, get_model

    config, checkpoint, picture, pixels, found = saved('linear_cmt_ti_custom')
    model = get_model(config, checkpoint, device='cpu')
    for inferencer in (
        ImageClassificationInferencer(model),
        ImageClassificationInferencer(config, pretrained=checkpoint, device='cpu'),
    ):
        (result,) = inferencer(picture)
        assert np.allclose(result['pred_scores'], found['scores'], atol=1e-6)
        assert result['pred_class'] == str(found['scores'].argmax())


@pytest.mark.parametrize('name', OPTIONS)
def test_pipelines_at_the_top_of_a_saved_config(name, saved):
    from mmengine.config import Config

    cfg = Config.fromfile(saved(name)[0])
    assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline
    assert cfg.train_pipeline == cfg.train_dataloader.dataset.pipeline
    assert any({'scale', 'crop_size'} & step.keys() for step in cfg.test_pipeline)
