# SPACH-Hybrid-MS-XS. The authors' table gives 82.4 % top-1.
_base_ = './imagenet_spach_s.py'

model = dict(backbone=dict(arch='ms_xs_hybrid'))
