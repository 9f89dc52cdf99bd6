import pytest
import torch

from mmhybrid.models.kernels import short_softmax


@pytest.mark.parametrize('shape', [(2, 7, 3, 12), (5, 1), (0, 4, 3), (3, 9)])
def test_it_is_torchs(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out, expected = short_softmax(x), x.softmax(-1)
    torch.testing.assert_close(out, expected)
    grad = torch.randn(shape, dtype=torch.float64)
    grads = [torch.autograd.grad(one, x, grad) for one in (out, expected)]
    torch.testing.assert_close(*grads)
