# SPACH-Hybrid-MS-S+. The authors' table gives 83.9 % top-1.
_base_ = './imagenet_spach_s.py'

model = dict(backbone=dict(arch='ms_splus_hybrid'))
