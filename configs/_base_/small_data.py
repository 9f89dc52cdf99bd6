# What the study of small data has in common, experiments/small_data: UPerNet, narrow, on small crops,
# so that a CPU trains it.
_base_ = ['./models/upernet_small.py', './custom_semantic.py']

image_size = (480, 360)
crop_size = (192, 192)
model = dict(decode_head=dict(in_channels=[384] * 4), auxiliary_head=dict(in_channels=384))
