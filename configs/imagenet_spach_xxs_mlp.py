# SPACH-MLP-MS-XXS. The authors' table gives 74.5 % top-1.
_base_ = './linear_spach_s_imagenet.py'

model = dict(backbone=dict(arch='ms_xxs_mlp'))
