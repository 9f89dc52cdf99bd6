# ResNet-RS-101.
_base_ = './upernet_resnetrs_50.py'

model = dict(backbone=dict(model_name='resnetrs101'))
