"""A ViT that ``freeze='vit'`` freezes: it computes as in evaluation, and keeps nothing."""

import copy
from collections import Counter

import pytest
import torch

from mmhybrid.models.backbones import STA, ViT, ViTAdapter, ViTCoMer

SIZES = dict(embed_dims=32, depth=4, num_heads=2)
TINY = dict(SIZES, windows=0, deform_heads=2)
WRAPPED = dict(pretrain_size=64)
MODELS = {
    'plain': (ViT, dict(arch=dict(SIZES, **WRAPPED), out_indices=(1, 3), final_norm=True)),
    'vitadapter': (ViTAdapter, dict(arch=TINY, vit=WRAPPED, injectors=False)),
    'sta': (STA, dict(arch=dict(vit=dict(SIZES, **WRAPPED), stem_channels=8))),
    'vitcomer': (ViTCoMer, dict(arch=TINY, vit=WRAPPED, cti_to_vit=False)),
}


def build(name, **arguments):
    kind, own = MODELS[name]
    model = kind(**own, drop_path_rate=0.5, freeze='vit', **arguments)
    return model, getattr(model, 'vit', model)


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.mark.parametrize('with_cp', [False, True, 'light'])
def test_it_stays_in_evaluation_mode_and_keeps_no_graph(name, with_cp):
    model, vit = build(name, with_cp=with_cp)
    assert not any(p.requires_grad for p in vit.parameters())
    seen, kept = [], []
    for part in (vit.patch_embed, *vit.blocks):
        part.register_forward_hook(lambda _, __, out: seen.append(out))
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for module in vit.modules())

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outs = model(torch.randn(2, 3, 64, 64))
    assert len(seen) == 5
    assert not any(out.requires_grad for out in [seen[0][0], *seen[1:]])
    assert [out.requires_grad for out in outs] == [name != 'plain'] * len(outs)
    assert bool(kept) == (name != 'plain')


def test_a_step_leaves_it_as_it_was(name):
    model, vit = build(name)
    before = copy.deepcopy(vit.state_dict())
    model.train()
    torch.manual_seed(0)
    image = torch.randn(2, 3, 64, 64)
    tokens = []
    vit.blocks[-1].register_forward_hook(lambda _, __, out: tokens.append(out))
    outs = model(image)
    if name != 'plain':
        parameters = [p for p in model.parameters() if p.requires_grad]
        sum(out.pow(2).mean() for out in outs).backward()
        assert all(p.grad is not None for p in parameters)
        torch.optim.SGD(parameters, lr=0.1).step()
    model(image)
    model.eval()
    with torch.no_grad():
        model(image)
    torch.testing.assert_close(vit.state_dict(), before)
    # No drop path: training, training after a step, and evaluation see the same tokens.
    torch.testing.assert_close(tokens[1:], tokens[:1] * 2)


def test_what_it_takes():
    with pytest.raises(ValueError, match="freeze='all': expected None or 'vit'"):
        ViT(SIZES, freeze='all')


@pytest.mark.parametrize('kind', [ViTCoMer, ViTAdapter])
def test_blocks_that_carry_gradients_are_recomputed(kind, monkeypatch):
    """Where something goes back into the frozen ViT, each block after it has a graph."""
    from mmhybrid.models.backbones import base

    counts, results = Counter(), []
    recompute = base.recompute

    def count(module, *args, **kwargs):
        counts[type(module).__name__] += 1
        return recompute(module, *args, **kwargs)

    monkeypatch.setattr(base, 'recompute', count)
    image = torch.randn(2, 3, 64, 64)
    torch.manual_seed(0)
    model = kind(arch=TINY, vit=WRAPPED, freeze='vit').train()
    for with_cp in (False, True):
        for part in (model, model.vit):
            part.with_cp = with_cp
        model.zero_grad()
        sum(out.pow(2).mean() for out in model(image)).backward()
        results.append([p.grad for p in model.parameters() if p.requires_grad])
    assert counts['Block'] == len(model.vit.blocks)
    torch.testing.assert_close(*results)
