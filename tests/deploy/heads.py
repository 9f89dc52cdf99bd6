"""Tiny models with every head of which one file holds the final results."""

import copy

import torch

from tests.cli.conftest import CONFIGS
from tests.models.drawn import build_model, draw_parameters

WIDTHS = [8, 16, 32, 64]
BACKBONE = dict(
    type='mmhybrid.SPACH', arch=dict(embed_dims=8, num_heads=1, stages=[[('conv', 1)]] * 4)
)
DENSE = dict(in_channels=32, feat_channels=32, stacked_convs=1, num_classes=3)
GROUPS = dict(norm_cfg=dict(type='GN', num_groups=8))
FEW = dict(nms_pre=60, max_per_img=20, score_thr=0.3)
RPN = dict(in_channels=32, feat_channels=32)
EXTRACTOR = dict(out_channels=32)
BOX = dict(in_channels=32, conv_out_channels=32, fc_out_channels=32, num_classes=3)
MASK = dict(in_channels=32, conv_out_channels=32, num_convs=1, num_classes=3)
ROIS = dict(bbox_roi_extractor=EXTRACTOR, mask_roi_extractor=EXTRACTOR, mask_head=MASK)
PROPOSALS = dict(rpn=dict(nms_pre=60, max_per_img=25), rcnn=dict(score_thr=0.2, max_per_img=15))
ATTENTION = dict(embed_dims=32, num_heads=4)
FFN = dict(embed_dims=32, feedforward_channels=32)
SAMPLING = dict(self_attn_cfg=dict(ATTENTION, num_points=2), ffn_cfg=FFN)
QUERIES = dict(self_attn_cfg=ATTENTION, cross_attn_cfg=ATTENTION, ffn_cfg=FFN)
MASKS = dict(
    in_channels=WIDTHS,
    feat_channels=32,
    out_channels=32,
    num_queries=10,
    pixel_decoder=dict(
        encoder=dict(num_layers=1, layer_cfg=SAMPLING), positional_encoding=dict(num_feats=16)
    ),
    positional_encoding=dict(num_feats=16),
    transformer_decoder=dict(num_layers=2, layer_cfg=QUERIES),
)
# A config of each head, and what makes it tiny.
HEADS = {
    'retinanet_cmt_ti': dict(bbox_head=DENSE, test_cfg=FEW),
    'atss_cmt_ti': dict(bbox_head=DENSE | GROUPS, test_cfg=FEW),
    'gfl_cmt_ti': dict(bbox_head=DENSE | GROUPS, test_cfg=FEW),
    'fcos': dict(
        type='FCOS',
        bbox_head=DENSE | GROUPS | dict(_delete_=True, type='FCOSHead'),
        test_cfg=FEW,
    ),
    'maskrcnn_cmt_ti': dict(
        rpn_head=RPN, roi_head=ROIS | dict(bbox_head=BOX), test_cfg=PROPOSALS
    ),
    'cascade_cmt_ti': dict(
        rpn_head=RPN, roi_head=ROIS, test_cfg=PROPOSALS
    ),
    'dino_cmt_ti': dict(
        num_queries=20,
        encoder=dict(num_layers=1, layer_cfg=SAMPLING),
        decoder=dict(
            num_layers=2,
            layer_cfg=QUERIES | dict(cross_attn_cfg=dict(ATTENTION, num_points=2)),
        ),
        positional_encoding=dict(num_feats=16),
        bbox_head=dict(num_classes=3, embed_dims=32),
        test_cfg=dict(max_per_img=15),
    ),
    'mask2former_instance_cmt_ti': dict(
        panoptic_head=MASKS | dict(num_things_classes=3),
        panoptic_fusion_head=dict(num_things_classes=3),
        test_cfg=dict(max_per_image=8),
    ),
}  # fmt: skip
MAPS = {
    'upernet_cmt_ti': dict(
        decode_head=dict(in_channels=WIDTHS, channels=16, num_classes=5),
        auxiliary_head=dict(in_channels=32),
        test_cfg=dict(_delete_=True, mode='whole'),
    ),
    'fpn_cmt_ti': dict(decode_head=dict(in_channels=[32] * 4, channels=16, num_classes=5)),
    'mask2former_cmt_ti': dict(
        decode_head=MASKS | dict(num_classes=5, loss_cls=dict(class_weight=[1.0] * 5 + [0.1])),
        test_cfg=dict(_delete_=True, mode='whole'),
    ),
    'linear_cmt_ti': dict(
        neck=[
            dict(type='GlobalAveragePooling'),
            dict(type='ClsBatchNormNeck', input_features=WIDTHS[-1]),
        ],
        head=dict(in_channels=WIDTHS[-1], num_classes=7),
    ),
}
BASES = dict(fcos='retinanet_cmt_ti')


def tiny_config(name):
    """A config with a tiny model."""
    from mmengine.config import Config

    cfg = Config.fromfile(CONFIGS / 'cmt' / f'{BASES.get(name, name)}.py')
    given = copy.deepcopy((HEADS | MAPS)[name])
    old = cfg.model
    indices = old.backbone.get('out_indices', [0, 1, 2, 3])
    given['backbone'] = BACKBONE | dict(_delete_=True, out_indices=indices)
    if isinstance(old.get('neck'), dict):
        given['neck'] = dict(in_channels=[WIDTHS[i] for i in indices], out_channels=32)
    if name.startswith('cascade'):  # a list is replaced, not merged
        heads = old.roi_head.bbox_head
        given['roi_head']['bbox_head'] = [head | BOX | dict(num_shared_convs=1) for head in heads]
    cfg.merge_from_dict(dict(model=given))
    return cfg


def tiny(name):
    """A tiny model of a config, in which much is found."""
    return drawn(tiny_config(name))


def drawn(cfg):
    """The model of a config, with drawn weights; mmdet's DINO writes into what it is given."""
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    return draw_parameters(revert_sync_batchnorm(build_model(copy.deepcopy(cfg.model)))).eval()
