# UPerNet, an eighth as wide and with plain norms: for training from random weights, and on CPUs. A
# config adds the backbone and the heads' in_channels.
_base_ = './upernet.py'

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    decode_head=dict(channels=64, norm_cfg=norm_cfg),
    auxiliary_head=dict(channels=32, norm_cfg=norm_cfg),
    test_cfg=dict(_delete_=True, mode='whole'),
)
