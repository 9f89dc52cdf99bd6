# SPACH-Hybrid-MS-XS. The authors' table gives 82.4 % top-1.
_base_ = './linear_spach_s_imagenet.py'

model = dict(backbone=dict(arch='ms_xs_hybrid'))
