# 36 epochs of 16 images a step (8 GPUs x 2): those of ViT-Adapter's panoptic Mask2Former, with a
# tenth of the learning rate for the backbone as in Mask2Former itself (arXiv 2112.01527), whose
# query and level embeddings and norms do not decay; here biases do not, either.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=36, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmhybrid.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=0.1, no_decay=('query_embed', 'query_feat', 'level_embed')),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[26, 32], gamma=0.1)
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
