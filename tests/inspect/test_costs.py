import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from mmhybrid.engine.flops import count_macs
from mmhybrid.inspect import measure_costs
from mmhybrid.models.backbones import ViT, ViTCoMer

ARCH = dict(embed_dims=24, depth=4, num_heads=2, deform_heads=2, stem_channels=8, extra_cti=1)


class Net(nn.Module):
    """A convolution, a linear layer used twice, and a product outside of both."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        x = self.head(self.head(x))
        return x @ x.T


def costs(model, image):
    cost = measure_costs(model, lambda: model(image), lambda: model(image).mean())
    return dict(cost.walk())


def test_known_costs():
    net = Net().eval()
    for parameter in net.conv.parameters():
        parameter.requires_grad_(False)
    rows = costs(net, torch.randn(2, 3, 8, 8))
    conv, linear, product = 2 * 64 * 9 * 3 * 4, 2 * 2 * 4 * 4, 2 * 2 * 4
    assert rows['conv'].macs == conv
    assert rows['head'].macs == rows['head.0'].macs == linear
    assert rows[''].macs == conv + linear + product
    assert (rows['conv'].params, rows['conv'].frozen) == (112, 112)
    assert (rows[''].params, rows[''].frozen) == (132, 112)
    assert rows['conv'].activations == 2 * 4 * 64
    assert rows[''].activations == 2 * 4 * 64 + 2 * 2 * 4 + 2 * 2
    # Kept: two inputs of the linear layer and two outputs of ReLU, of which one is that input and
    # one that of the product; nothing of the frozen convolution.
    assert rows['conv'].kept == 0
    assert rows[''].kept == 3 * 2 * 4 * 4
    assert not net.training and not net.conv._forward_hooks


def test_kept_memory_grows_with_the_batch_alone():
    net = Net()
    one, two = (costs(net, torch.randn(n, 3, 8, 8)) for n in (1, 2))
    assert two['conv'].kept == 2 * one['conv'].kept > 0
    assert two['conv'].params == one['conv'].params


@pytest.mark.parametrize('with_cp', [False, True])
def test_a_backbones_costs_add_up(with_cp):
    model = ViTCoMer(ARCH, windows=0, with_cp=with_cp, freeze='vit')
    image = torch.randn(1, 3, 64, 64)
    cost = measure_costs(
        model, lambda: model(image), lambda: sum(out.mean() for out in model(image))
    )
    assert cost.macs == count_macs(model.eval(), image)
    assert cost.params == sum(p.numel() for p in model.parameters())
    rows = dict(cost.walk())
    vit = sum(p.numel() for p in model.vit.parameters())
    assert rows['vit'].frozen == rows['vit'].params == cost.frozen == vit
    for row in rows.values():
        for key in ('params', 'frozen', 'macs', 'activations', 'kept'):
            assert getattr(row, key) >= sum(getattr(child, key) for child in row.children)
    if with_cp:
        assert cost.kept < costs_kept(ViTCoMer(ARCH, windows=0, freeze='vit'), image)


def test_measuring_changes_nothing_that_is_kept():
    """Bytes are those that a training step keeps without the hooks of the measurement."""
    model = ViT(dict(embed_dims=16, depth=2, num_heads=2, pretrain_size=64, layer_scale=1.0))
    image = torch.randn(1, 3, 64, 64)
    kept = {}

    def keep(tensor):
        return kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = sum(out.mean() for out in model.train()(image))
    for tensor in (*model.parameters(), *model.buffers()):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    assert costs_kept(model, image) == sum(t.untyped_storage().nbytes() for t in kept.values())
    del loss


def costs_kept(model, image):
    cost = measure_costs(
        model, lambda: model(image), lambda: sum(out.mean() for out in model(image))
    )
    return cost.kept
