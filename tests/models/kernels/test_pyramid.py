import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from mmhybrid.models.kernels import join_levels, reference_points, split_levels
from mmhybrid.models.kernels.pyramid import level_sizes


def test_levels_split_into_views_and_join_again():
    shapes = ((4, 6), (2, 3))
    tokens = torch.randn(2, 30, 5)
    maps = split_levels(tokens, shapes)
    assert [tuple(m.shape) for m in maps] == [(2, 5, 4, 6), (2, 5, 2, 3)]
    assert maps[0].data_ptr() == tokens.data_ptr()
    assert torch.equal(maps[1][1, :, 1, 2], tokens[1, 29])
    assert torch.equal(join_levels(maps), tokens)


def test_sizes_of_levels_are_brought_to_a_device_once():
    shapes, device = ((4, 6), (2, 3)), torch.device('cpu')
    with torch.inference_mode():
        sizes = level_sizes(shapes, device)
    assert sizes.tolist() == [[6, 4], [3, 2]] and not sizes.is_inference()
    assert level_sizes(shapes, device) is sizes
    with FakeTensorMode():
        fake = level_sizes(shapes, device)
        assert isinstance(fake, FakeTensor)
        fake = level_sizes(((8, 8),), device)
    assert not isinstance(level_sizes(((8, 8),), device), FakeTensor)


def test_reference_points_are_pixel_centres():
    points = reference_points(((1, 2), (1, 1)), torch.device('cpu'))
    assert points.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.5]]
