# Mask2Former's 160,000 steps of 16 images (8 GPUs x 2, arXiv 2112.01527): AdamW in float32, a tenth
# of the learning rate for the backbone; query and level embeddings and norms do not decay, and here
# biases do not, either.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmhybrid.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=0.1, no_decay=('query_embed', 'query_feat', 'level_embed')),
)
param_scheduler = [dict(type='PolyLR', power=0.9, begin=0, end=160000, eta_min=0.0, by_epoch=False)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
