# SPACH-Conv-MS-XXS. The authors' table gives 73.1 % top-1.
_base_ = './imagenet_spach_s.py'

model = dict(backbone=dict(arch='ms_xxs_conv'))
