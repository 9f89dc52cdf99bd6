import pytest
import torch
import torch.nn.functional as F

from mmhybrid.models.kernels import resize_map
from mmhybrid.models.kernels.resize import resize_by_matrices


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('size', [(7, 5), (3, 11), (2, 2)])
def test_bicubic_by_matrices_is_torchs(size, antialias):
    maps = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    expected = F.interpolate(maps, size=size, mode='bicubic', antialias=antialias)
    torch.testing.assert_close(resize_by_matrices(maps, size, 0.0, antialias), expected)


def test_an_offset_of_the_scale():
    maps, size = torch.randn(2, 3, 5, 6, dtype=torch.float64), (7, 11)
    scale = (7.1 / 5, 11.1 / 6)
    expected = F.interpolate(maps, scale_factor=scale, mode='bicubic')
    torch.testing.assert_close(resize_by_matrices(maps, size, 0.1, False), expected)
    torch.testing.assert_close(resize_by_matrices(maps, (5, 6), 0.1, False), maps)


def test_bilinear_compiled_is_bilinear():
    """Compiled code resizes by matrices, into one graph for all sizes."""
    torch._dynamo.reset()
    compiled = torch.compile(resize_map, backend='aot_eager', fullgraph=True, dynamic=True)
    for old, new in (((5, 6), (10, 12)), ((9, 7), (4, 5)), ((3, 8), (5, 3))):
        level, results = torch.randn(2, 3, *old, requires_grad=True), []
        for resize in (compiled, lambda *args: F.interpolate(*args, mode='bilinear')):
            out = resize(level, new)
            results.append([out, *torch.autograd.grad(out.square().sum(), level)])
        torch.testing.assert_close(*results)


def test_a_map_of_the_same_size_stays_as_it_is():
    level = torch.randn(2, 3, 5, 4)
    assert resize_map(level, (5, 4)) is level
