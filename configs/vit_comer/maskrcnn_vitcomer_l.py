# ViT-CoMer-L with DINOv2 weights, COCO 1x: 53.4 box AP and 46.8 mask AP (arXiv 2403.07392, Table
# 1). The authors publish no config of L: windows, drop path and layer decay are those of
# ViT-Adapter-L with these weights.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='l',
        windows=[14, 14, 14, 14, 14, 0],
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitl14'),
    ),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
