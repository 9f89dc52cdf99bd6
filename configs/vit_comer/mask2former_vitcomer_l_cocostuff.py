# Mask2Former, ViT-CoMer-L with BEiTv2 weights, COCO-Stuff 164k at 896 pixels, 80k steps, as
# published, on 8 GPUs with 2 images each: 52.7 mIoU, single scale (the authors' segmentation
# folder).
_base_ = '../vit_adapter/mask2former_vitadapter_l_cocostuff.py'

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer', arch='l', windows=0, vit_features='stages', mrfp_ratio=6.0
    )
)
train_dataloader = dict(batch_size=2)
