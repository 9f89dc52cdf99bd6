# ViT-CoMer-S with DINOv2 weights, COCO 3x. The authors' table gives 52.1 box AP and 45.8 mask AP.
# The recipe is that of maskrcnn_vitcomer_s.py.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='s', drop_path_rate=0.2, init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14')
    ),
    neck=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
