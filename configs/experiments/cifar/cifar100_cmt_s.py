# CMT-S on CIFAR-100 at 224 pixels: 91.7 top-1 in the paper. The recipe is that of cifar10_cmt_s.py.
_base_ = './cifar10_cmt_s.py'

data_root = '{{$MMHYBRID_DATA:data}}/cifar100'
model = dict(data_preprocessor=dict(num_classes=100), backbone=dict(num_classes=100))
train_dataloader = dict(dataset=dict(type='mmhybrid.CIFAR100', data_root=data_root))
val_dataloader = dict(dataset=dict(type='mmhybrid.CIFAR100', data_root=data_root))
test_dataloader = val_dataloader
