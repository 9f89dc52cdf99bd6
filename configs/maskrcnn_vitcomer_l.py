# ViT-CoMer-L with DINOv2 weights, COCO 1x. The authors' table gives 53.4 box AP and 46.8 mask AP,
# but they publish no config for L: drop path and layer decay are ours, beyond those of B.
_base_ = './maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='l',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitl14'),
    ),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.80))
