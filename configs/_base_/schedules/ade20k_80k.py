# 80,000 steps of 16 images (8 GPUs x 2) as PVT trains Semantic FPN (arXiv 2102.12122; its configs
# have half the steps, of twice the images at twice the rate): AdamW without layer-wise rates and
# without warm-up, polynomial decay.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, begin=0, end=80000, eta_min=0.0, by_epoch=False)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
