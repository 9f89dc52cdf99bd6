# CMT-S on CIFAR-100 at 224 pixels: 91.7 top-1 in the paper.
_base_ = './cifar10_cmt_s.py'

data_root = 'data/cifar100'
model = dict(data_preprocessor=dict(num_classes=100), backbone=dict(num_classes=100))
train_dataloader = dict(dataset=dict(type='CIFAR100', data_root=data_root))
val_dataloader = dict(dataset=dict(type='CIFAR100', data_root=data_root))
test_dataloader = val_dataloader
