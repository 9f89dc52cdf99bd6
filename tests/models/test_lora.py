"""LoRA in every backbone that takes it: what learns, what it computes, and the names it has."""

import copy
import inspect
import re
import sys

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmhybrid.checkpoints import CheckpointError, load_weights
from mmhybrid.deploy import backbone_graph
from mmhybrid.deploy.graphs import prepare
from mmhybrid.engine import LayerDecayOptimWrapperConstructor
from mmhybrid.lora import has_lora, is_of_lora, merge_lora
from mmhybrid.models.backbones import CMT, STA, ViT, ViTCoMer
from tests.checkpoints import published
from tests.models.drawn import draw_loss, draw_parameters
from tests.models.families import contracts

pytest.importorskip('peft')
FAMILIES = {
    name: contract
    for name, contract in contracts().items()
    if 'lora' in inspect.signature(contract.backbone).parameters
}
every_family = pytest.mark.parametrize('family', FAMILIES)
TINY = dict(embed_dims=16, depth=3, num_heads=2, pretrain_size=64)


def build(family, *, learned=True, lora=None, **options):
    """A tiny model without LoRA, and the same with it, which has learned something."""
    contract = FAMILIES[family]
    arguments = copy.deepcopy(contract.arguments) | options
    torch.manual_seed(0)
    plain = draw_parameters(contract.backbone(**arguments))
    model = contract.backbone(**arguments, lora=lora or dict(r=2))
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert missing and all(map(is_of_lora, missing)) and not unexpected
    if learned:
        learn(model)
    return plain, model


def learn(model):
    for name, parameter in model.named_parameters():
        if '.lora_B.' in name:
            nn.init.normal_(parameter, std=0.3)


def image(n=2):
    return torch.randn(n, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def run(model):
    with torch.no_grad():
        return model.eval()(image())


def vit_of(model):
    return getattr(model, 'vit', model)


def test_every_adapter_takes_it():
    assert {'vit', 'vitcomer', 'vitadapter'} <= FAMILIES.keys()


@every_family
def test_it_begins_as_the_base(family):
    plain, model = build(family, learned=False)
    assert all(map(torch.equal, run(model), run(plain)))
    learn(model)
    assert not any(map(torch.equal, run(model), run(plain)))


@every_family
def test_what_learns(family):
    _, model = build(family, learned=False)
    inside = '' if isinstance(model, ViT) else 'vit.'
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the first leaves A as it is, since B is 0
        optimizer.zero_grad()
        draw_loss(model.train()(image())).backward()
        optimizer.step()
    learning = set()
    for name, parameter in model.named_parameters():
        learns = is_of_lora(name) or not name.startswith(inside)
        assert parameter.requires_grad == (parameter.grad is not None) == learns, name
        learning |= {name} if learns else set()
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert all(is_of_lora(name) or not name.startswith(inside) for name in changed)
    still = learning - changed
    assert all(re.search(FAMILIES[family].without_gradient, name) for name in still), still
    blocks = {name.split('blocks.')[1].split('.')[0] for name in changed if is_of_lora(name)}
    assert len(blocks) == len(vit_of(model).blocks)


@every_family
@pytest.mark.parametrize('with_cp', [True, 'light'])
def test_recomputed_gradients_are_the_same(family, with_cp):
    dropping = dict(lora=dict(r=2, dropout=0.5, targets=['qkv', 'proj', 'fc1', 'fc2']))
    found = []
    for option in (False, with_cp):
        _, model = build(family, with_cp=option, **dropping)
        torch.manual_seed(3)
        draw_loss(model.train()(image())).backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        found.append(grads)
    expected, got = found
    assert expected.keys() == got.keys() and any(map(is_of_lora, got))
    for name, grad in expected.items():
        assert grad.isfinite().all()
        assert not is_of_lora(name) or grad.any(), name
        torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=1e-5 * grad.abs().max())


@every_family
def test_merged_it_is_a_plain_model(family):
    plain, model = build(family)
    expected = run(model)
    assert merge_lora(model) is model
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert dict(model.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    for got, out in zip(run(model), expected, strict=True):
        assert (got - out).abs().max() < 1e-5 * out.abs().max()
    plain.load_state_dict(model.state_dict())
    assert all(map(torch.equal, run(plain), run(model)))
    assert not has_lora(model)


def test_exported_models_are_merged():
    _, model = build('vitcomer')
    prepared = prepare(backbone_graph(model), 'gather')
    assert has_lora(model) and not has_lora(prepared)
    with torch.no_grad():
        outs = prepared(image())
    for got, out in zip(outs, run(model), strict=True):
        assert (got - out).abs().max() < 1e-4 * out.abs().max()


@every_family
def test_freezing_survives_training_modes(family):
    _, model = build(family)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    model.eval().train()
    assert frozen == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert vit_of(model).blocks[0].training  # stochastic depth and dropout are at work


def test_compiled():
    model = ViT(dict(TINY, depth=1), lora=dict(r=2))
    learn(draw_parameters(model).train())
    found = []
    for run_it in (model, torch.compile(model, backend='aot_eager', fullgraph=True)):
        model.zero_grad()
        outs = run_it(image())
        draw_loss(outs).backward()
        found.append([*outs, *(p.grad for p in model.parameters() if p.requires_grad)])
    assert len(found[0]) == 5
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    torch.compiler.reset()


@every_family
def test_bfloat16(family):
    _, model = build(family)
    with torch.autocast('cpu', torch.bfloat16):
        draw_loss(model.train()(image())).backward()
    for name, parameter in model.named_parameters():
        if is_of_lora(name):
            assert parameter.dtype == torch.float32 and parameter.grad.any(), name


@every_family
def test_an_average_keeps_the_base(family):
    _, model = build(family)
    average = ExponentialMovingAverage(model, momentum=0.1)
    base = {n: v.clone() for n, v in vit_of(model).state_dict().items() if not is_of_lora(n)}
    average.update_parameters(model)
    learn(model)
    average.update_parameters(model)
    found = vit_of(average.module).state_dict()
    assert all(torch.equal(found[name], value) for name, value in base.items())
    ours = {n: v for n, v in vit_of(model).state_dict().items() if '.lora_B.' in n}
    assert ours and not any(torch.equal(found[name], value) for name, value in ours.items())


@every_family
def test_layer_wise_rates(family):
    plain, model = build(family)
    options = dict(optimizer=dict(type='AdamW', lr=1.0))

    def rates(one):
        wrapper = LayerDecayOptimWrapperConstructor(options, dict(layer_decay_rate=0.5))(one)
        names = {id(p): name for name, p in one.named_parameters()}
        groups = wrapper.optimizer.param_groups
        return {names[id(p)]: group['lr'] for group in groups for p in group['params']}

    of_plain, found = rates(plain), rates(model)
    assert found.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, rate in found.items():
        assert rate == of_plain[re.sub(r'\.lora_[AB]\.default', '', name)], name
    assert len({rate for name, rate in found.items() if is_of_lora(name)}) == len(
        vit_of(model).blocks
    )


# Names and files


def test_published_weights_fill_the_base():
    expected, model = published.build_vit('deit'), published.build_vit('deit', lora=dict(r=2))
    load_weights(expected, published.deit(), parts={'vit': ''})
    report = load_weights(model, published.deit(), parts={'vit': ''})
    base = {n: v for n, v in model.state_dict().items() if not is_of_lora(n)}
    assert published.same_state(expected, base)
    assert len(report.untouched) == 4 * published.DEPTH and all(map(is_of_lora, report.untouched))


def test_a_file_with_lora_is_taken_whole_or_refused():
    _, model = build('vitcomer')
    _, other = build('vitcomer', learned=False)
    parts = ViTCoMer.pretrained_parts
    load_weights(other, model.state_dict(), parts=parts)
    assert published.same_state(other, model.state_dict())
    plain, _ = build('vitcomer')
    with pytest.raises(CheckpointError, match=r'(?s)lora_A.*try lora=dict\(r='):
        load_weights(plain, model.state_dict(), parts=parts)


def test_layers_that_are_chosen():
    model = ViT(TINY, lora=dict(r=3, targets=['fc1'], alpha=6, dropout=0.1), frozen_stages=1)
    wrapped = [name for name, layer in model.named_modules() if hasattr(layer, 'lora_A')]
    assert wrapped == ['blocks.1.mlp.fc1', 'blocks.2.mlp.fc1']
    layer = model.blocks[1].mlp.fc1
    assert layer.scaling == {'default': 2} and layer.lora_dropout['default'].p == 0.1
    assert layer.lora_A['default'].weight.shape == (3, 16)
    model = ViT(TINY, lora=dict(r=3), out_indices=[1])  # the last block reaches no output
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {name.split('.')[1] for name in names} == {'0', '1'}
    assert model.blocks[0].attn.qkv.scaling == {'default': 2}
    swiglu = ViT(dict(TINY, ffn='swiglu'), lora=dict(r=1, targets='w12'))
    assert hasattr(swiglu.blocks[0].mlp.w12, 'lora_A')


def test_the_callers_dict_is_left_alone():
    given = dict(r=2, targets=['qkv'])
    ViT(TINY, lora=given)
    assert given == dict(r=2, targets=['qkv'])


@pytest.mark.parametrize(
    'lora, error, message',
    [
        (8, TypeError, r'lora=8: expected a dict such as dict\(r=8\)'),
        (dict(targets='qkv'), TypeError, 'it takes r, targets, alpha, dropout'),
        (dict(r=8, rank=8), TypeError, 'rank.*it takes r, targets'),
        (dict(r=0), ValueError, 'r=0: expected a whole number, at least 1'),
        (dict(r=2.5), ValueError, 'r=2.5: expected a whole number'),
        (dict(r=True), ValueError, 'r=True: expected a whole number'),
        (dict(r=8, alpha='16'), ValueError, "alpha='16': expected a number above 0"),
        (dict(r=8, dropout='0.1'), ValueError, "dropout='0.1': expected a number in"),
        (dict(r=8, alpha=0), ValueError, 'alpha=0: expected a number above 0'),
        (dict(r=8, dropout=1), ValueError, r'dropout=1: expected a number in \[0, 1\)'),
        (dict(r=8, targets=['kv']), ValueError, "'kv'.* are 'qkv', 'proj', 'fc1', 'fc2'"),
        (dict(r=8, targets=[]), ValueError, r"targets=\(\).* are 'qkv'"),
    ],
)
def test_what_is_refused(lora, error, message):
    with pytest.raises(error, match=message):
        ViT(TINY, lora=lora)


def test_where_it_is_refused():
    with pytest.raises(ValueError, match='frozen_stages=3 leaves no block'):
        ViT(TINY, lora=dict(r=2), frozen_stages=3)
    contract = FAMILIES['vitcomer']
    with pytest.raises(ValueError, match="freeze='vit'.* with lora None"):
        ViTCoMer(**copy.deepcopy(contract.arguments), lora=dict(r=2), freeze='vit')
    with pytest.raises(ValueError, match="freeze='vit'.* with lora None"):
        STA(dict(vit=TINY, stem_channels=8), freeze='vit', vit=dict(lora=dict(r=2)))
    with pytest.raises(TypeError, match="'lora': LoRA is for a plain ViT and its adapters"):
        CMT('ti', lora=dict(r=2))


def test_without_peft(monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(ImportError, match=r'pip install mmhybrid\[lora\]'):
        ViT(TINY, lora=dict(r=2))
