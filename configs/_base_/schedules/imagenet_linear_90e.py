# 90 epochs of LARS with a cosine, without weight decay, 1024 images a step: how MAE tries frozen
# features with a linear classifier (arXiv 2111.06377, Appendix A; there 16384 images a step, at the
# same rate for each).
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='LARS', lr=0.4, momentum=0.9, weight_decay=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=10, end=90),
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
