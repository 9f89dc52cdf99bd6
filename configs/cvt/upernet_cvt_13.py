# UPerNet, CvT-13, ADE20K, 160k steps. Its authors publish nothing on segmentation; UPerNet takes
# the three maps that CvT has. For the weights see maskrcnn_cvt_13.py.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CvT',
        arch='13',
        drop_path_rate=0.1,
        proj_norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CvT-13-224x224-IN-1k.pth'),
    ),
    decode_head=dict(in_channels=[64, 192, 384], in_index=[0, 1, 2]),
    auxiliary_head=dict(in_channels=384),
)
