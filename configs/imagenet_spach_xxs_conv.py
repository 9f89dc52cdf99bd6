# SPACH-Conv-MS-XXS. The authors' table gives 73.1 % top-1.
_base_ = './linear_spach_s_imagenet.py'

model = dict(backbone=dict(arch='ms_xxs_conv'))
