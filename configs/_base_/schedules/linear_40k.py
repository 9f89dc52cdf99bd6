# 40,000 steps of 16 images (8 GPUs x 2) for a linear head, with the rates of DINOv3's authors: AdamW,
# gradients bounded, warm-up and a cosine.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=35.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=1500, end=40000, eta_min=0.0),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
