"""The backward pass in Python gives the gradients of torch's own."""

import torch
from torch import nn

from mmhybrid.inspect.backward import backward, current_node, gradients
from mmhybrid.models.backbones import CMT, ViTCoMer

ARCH = dict(embed_dims=24, depth=4, num_heads=2, deform_heads=2, stem_channels=8, extra_cti=1)


def check(model, image):
    def loss():
        torch.manual_seed(0)
        return sum(out.square().mean() for out in model(image))

    loss().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    backward([loss()])
    found = [parameter.grad for parameter in model.parameters()]
    assert any(grad is not None for grad in found)
    torch.testing.assert_close(found, expected)


def test_backbones():
    for with_cp in (False, True, 'light'):
        check(ViTCoMer(ARCH, windows=0, with_cp=with_cp).train(), torch.randn(1, 3, 64, 64))
    small = dict(embed_dims=(8, 16, 32, 64), stem_channels=4, depths=(1, 1, 1, 1))
    check(CMT({**CMT.arch_settings['ti'], **small}).train(), torch.randn(2, 3, 64, 64))


def test_gradients_of_inputs_as_torch_computes_them():
    x, y, unused = (torch.randn(3, 4, requires_grad=True) for _ in range(3))
    middle = x * y
    out, other = middle.unbind(0)[1].exp(), (middle + x).sum()
    wanted = [x, middle, y, unused]
    grads = [torch.randn(4), None]
    options = dict(allow_unused=True, retain_graph=True)
    expected = torch.autograd.grad([out, other], wanted, grads, **options)
    found = gradients([out, other], wanted, grads)
    assert found[3] is expected[3] is None
    torch.testing.assert_close(found[:3], expected[:3])
    assert x.grad is None


def test_the_node_that_runs_is_known():
    names = []

    class Net(nn.Module):
        def forward(self, x):
            return Known.apply(x * 2)

    class Known(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            names.append(current_node())
            return grad

    x = torch.ones(2, requires_grad=True)
    backward([Net()(x).sum()])
    Net()(x).sum().backward()
    assert names == ['KnownBackward'] * 2 and current_node() is None
    assert x.grad.tolist() == [4, 4]
