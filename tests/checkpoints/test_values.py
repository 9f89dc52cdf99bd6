"""Values that are no weights are refused by name."""

import pytest
import torch

from tests.checkpoints import published
from tests.checkpoints.published import FORMS, build_vit
from tests.checkpoints.test_load import PARTS, load_weights, refused

FORM = 'dinov2_registers'


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_what_is_not_finite_is_named(value, dtype):
    state_dict = {name: tensor.to(dtype) for name, tensor in FORMS[FORM][0]().items()}
    state_dict['blocks.1.mlp.fc2.weight'][3, :5] = value
    state_dict['cls_token'][0, 0, 1] = value
    message = refused(build_vit(FORM), state_dict)
    assert 'in 2 of' in message
    assert 'blocks.1.mlp.fc2.weight (5 of 4096 values)' in message
    assert 'cls_token (1 of 32 values)' in message


def test_what_would_be_resized_is_named():
    state_dict = FORMS[FORM][0]()
    state_dict['pos_embed'][0, 3] = float('nan')
    message = refused(build_vit(FORM, pretrain_size=48), state_dict)
    assert 'pos_embed (32 of' in message


@pytest.mark.parametrize('dtype', [torch.int8, torch.uint8, torch.bool, torch.int32])
def test_integers_are_named(dtype):
    state_dict = FORMS[FORM][0]()
    quantised = [name for name in state_dict if name.endswith(('fc1.weight', 'qkv.weight'))]
    for name in quantised:
        state_dict[name] = (state_dict[name] * 30).to(dtype)
    message = refused(build_vit(FORM), state_dict)
    assert f'integers, {len(quantised)} of' in message
    assert f'blocks.0.attn.qkv.weight ({str(dtype).removeprefix("torch.")})' in message
    scales = {f'{name}_scale': torch.ones(1) for name in quantised}
    message = refused(build_vit(FORM), state_dict | scales)
    assert 'blocks.0.attn.qkv.weight (' in message and 'quantised' in message


def test_float8_is_a_number():
    state_dict = FORMS[FORM][0]()
    name = 'blocks.0.attn.qkv.weight'
    state_dict[name] = state_dict[name].to(torch.float8_e4m3fn)
    model = build_vit(FORM)
    load_weights(model, state_dict, parts=PARTS)
    assert torch.equal(model.state_dict()[name], state_dict[name].float())
    state_dict[name].view(torch.uint8)[2, 1] = 0x7F  # NaN
    assert f'{name} (1 of 3072 values)' in refused(model, state_dict)


def test_what_is_not_taken_may_be_anything():
    state_dict = FORMS[FORM][0]()
    state_dict['mask_token'][:] = float('nan')
    load_weights(build_vit(FORM), state_dict, parts=PARTS)
    state_dict['register_tokens'][:] = float('nan')
    load_weights(build_vit(FORM, num_registers=0), state_dict, parts=PARTS)
    model = build_vit()
    before = model.state_dict()['blocks.0.norm1.weight'].clone()
    state_dict = published.deit()
    state_dict['blocks.0.norm1.weight'][:] = float('nan')
    load_weights(model, state_dict, parts=PARTS, fresh=r'blocks\.0\.norm1\.')
    assert torch.equal(model.state_dict()['blocks.0.norm1.weight'], before)
