"""A training step, an evaluation and a checkpoint of every head with every family of backbones.

The list is made from the names of the configs: of each pair the smallest, its head made narrow.
"""

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.runner.checkpoint import save_checkpoint

from mmhybrid import config_path
from mmhybrid.engine import load_trained
from mmhybrid.testing.tasks import ConfigTask
from tools._zoo import NAME, config_names

# Sizes, small ones first; those of other names come after them.
SIZES = (
    *('xxs', 'ti', 't', 'pico', 'xs', '1gf', '4gf', '13', '18', 's', '21', '50', 'splus'),
    *('b', '101', '18gf', '36gf', '200', 'l', 'w24'),
)
# Heads as published but for the number of their channels, layers, proposals and queries: what those
# cost is no matter of a test.
FEW = {
    'roi_head.mask_head.num_convs': 1,
    'roi_head.mask_head.conv_out_channels': 16,
    'test_cfg.rpn.max_per_img': 32,
    'test_cfg.rcnn.max_per_img': 8,
    'test_cfg.rcnn.score_thr': 0.0,  # so that there is something to evaluate
}
NARROW = {
    'maskrcnn': {
        'roi_head.bbox_head.fc_out_channels': 32,
        'train_cfg.rcnn.sampler.num': 32,
        **FEW,
    },
    'cascade': {
        **FEW,
        **{
            key.format(stage): value
            for stage in range(3)
            for key, value in {
                'roi_head.bbox_head.{}.fc_out_channels': 32,
                'roi_head.bbox_head.{}.conv_out_channels': 16,
                'train_cfg.rcnn.{}.sampler.num': 32,
            }.items()
        },
    },
    'retinanet': {'bbox_head.stacked_convs': 1},
    'atss': {'bbox_head.stacked_convs': 1},
    'gfl': {'bbox_head.stacked_convs': 1},
    'dino': {'encoder.num_layers': 1, 'decoder.num_layers': 1, 'num_queries': 30},
    'upernet': {'decode_head.channels': 32, 'auxiliary_head.channels': 16},
    'mask2former': {
        'decode_head.num_queries': 20,
        'decode_head.train_cfg.num_points': 64,
        'decode_head.pixel_decoder.encoder.num_layers': 1,
        'decode_head.transformer_decoder.num_layers': 2,
    },
}
NARROW |= {
    f'mask2former_{kind}': {
        'panoptic_head.num_queries': 20,
        'train_cfg.num_points': 64,
        'panoptic_head.pixel_decoder.encoder.num_layers': 1,
        'panoptic_head.transformer_decoder.num_layers': 2,
    }
    for kind in ('panoptic', 'instance')
}
# Pairs whose smallest config is a large one get a smaller backbone.
SMALL = {
    ('imagenet', 'resnetrs'): {'model_name': 'resnet26'},
}


def smallest_of_each_pair():
    """``(head, family) -> the name of its smallest config``, plain ones before variants.

    A config whose name does not follow the scheme is an error.
    """
    pairs = {}
    for name in config_names():
        match = NAME.fullmatch(name)
        size = SIZES.index(match['size']) if match['size'] in SIZES else len(SIZES)
        rank = (size, name.startswith('demo_'), len(match['variant']), name)
        head = 'imagenet' if match['head'].startswith('cifar') else match['head']
        pairs.setdefault((head, match['family']), []).append((rank, name))
    return {pair: min(found)[1] for pair, found in sorted(pairs.items())}


PAIRS = smallest_of_each_pair()


def test_every_pair_is_here():
    assert len(PAIRS) >= 60
    assert set(SMALL) <= set(PAIRS) and set(NARROW) <= {head for head, _ in PAIRS}
    heads = {head for head, _ in PAIRS}
    assert heads >= {
        *('retinanet', 'maskrcnn', 'cascade', 'atss', 'gfl', 'dino', 'upernet', 'fpn', 'linear'),
        *('mask2former', 'mask2former_panoptic', 'mask2former_instance', 'imagenet'),
    }
    for head in heads - {'imagenet', 'linearseg'}:
        assert {'cmt', 'vit', 'vitcomer'} <= {family for h, family in PAIRS if h == head}, head


@pytest.mark.parametrize('pair', PAIRS, ids='-'.join)
def test_one_step(pair, tmp_path):
    torch.manual_seed(0)
    name = PAIRS[pair]
    options = NARROW.get(pair[0], {}) | SMALL.get(pair, {})
    options = {f'model.{key}': value for key, value in options.items()}
    # MLP mixers are tied to the size of their images.
    size = (224, 224) if name.endswith('_mlp.py') else (64, 96)
    task = ConfigTask(config_path(name), 2, size, torch.device('cpu'), options)
    model = task.model = revert_sync_batchnorm(task.model).train()
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    loss = task.loss()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    # A parameter without a gradient stops distributed training.
    trained = getattr(model, 'backbone', model).named_parameters()
    assert not [key for key, p in trained if p.requires_grad and p.grad is None]

    metrics = task.evaluate()
    assert metrics
    assert all(-1 <= value <= 100 for value in metrics.values())

    # As the checkpoint hook writes it and tools/test.py reads it.
    path = str(tmp_path / 'iter_1.pth')
    saved = {key: value.clone() for key, value in model.state_dict().items()}
    checkpoint = dict(state_dict=saved, meta=dict(iter=1))
    save_checkpoint(checkpoint, path, backend_args=dict(backend='mmhybrid.atomic'))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert load_trained(model, path) == dict(iter=1)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.items())
