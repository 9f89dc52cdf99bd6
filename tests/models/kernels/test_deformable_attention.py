import pytest
import torch

from mmhybrid.models.kernels import deformable_attention, sample_around

SHAPES = {'three levels': ((8, 12), (4, 6), (2, 3)), 'one level': ((5, 7),), 'a pixel': ((1, 1),)}

PORTABLE = ('embedding_bag', 'grid_sample', 'gather')
"""Backends that need nothing but torch."""


def sample(shapes, dtype=torch.float64, n=2, queries=11, heads=3, dims=4, points=2):
    generator = torch.Generator().manual_seed(0)
    tokens = sum(h * w for h, w in shapes)
    value = torch.randn(n, tokens, heads, dims, generator=generator, dtype=dtype)
    # A third of the points lies outside the image.
    locations = torch.rand(
        n, queries, heads, len(shapes), points, 2, generator=generator, dtype=dtype
    )
    locations = locations * 1.5 - 0.25
    weights = torch.rand(n, queries, heads, len(shapes), points, generator=generator, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (value, locations, weights)]


def by_hand(value, shapes, locations, weights):
    """The definition, pixel by pixel."""
    n, _, heads, dims = value.shape
    out = torch.zeros(n, locations.shape[1], heads, dims, dtype=torch.float64)
    for image, query, head in torch.cartesian_prod(*map(torch.arange, out.shape[:3])):
        first = 0
        for level, (h, w) in enumerate(shapes):
            for point in range(locations.shape[4]):
                x, y = locations[image, query, head, level, point] * torch.tensor([w, h]) - 0.5
                for row in range(h):
                    for column in range(w):
                        near = (1 - (x - column).abs()).clamp(min=0)
                        near = near * (1 - (y - row).abs()).clamp(min=0)
                        weight = weights[image, query, head, level, point] * near
                        token = value[image, first + row * w + column, head]
                        out[image, query, head] += weight * token
            first += h * w
    return out.flatten(2)


@pytest.mark.parametrize('backend', PORTABLE)
def test_the_definition(backend):
    shapes = ((3, 4), (2, 2))
    value, locations, weights = sample(shapes, n=2, queries=3, heads=2)
    expected = by_hand(value.detach(), shapes, locations.detach(), weights.detach())
    out = deformable_attention(value.float(), shapes, locations, weights, backend)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('shapes', SHAPES.values(), ids=SHAPES)
def test_backends_agree(shapes):
    results = []
    for backend in PORTABLE:
        inputs = sample(shapes, torch.float32)
        value, locations, weights = inputs
        out = deformable_attention(value, shapes, locations, weights, backend)
        out.square().sum().backward()
        results.append([out.detach(), *(tensor.grad for tensor in inputs)])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shapes', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize('backend', PORTABLE)
def test_around_points(backend, shapes):
    """Offsets in pixels of each level are the same samples, and so are their gradients."""
    value, offsets, weights = sample(shapes, torch.float32)
    offsets.data.sub_(0.5).mul_(4)
    points = torch.rand(offsets.shape[1], 2)
    sides = torch.tensor(shapes).flip(1).unsqueeze(1)  # (levels, 1, 2), width and height
    locations = points[:, None, None, None] + offsets / sides
    inputs, results = (value, offsets, weights), []
    for out in (
        deformable_attention(value, shapes, locations, weights, 'grid_sample'),
        sample_around(value, shapes, points, offsets, weights, backend),
    ):
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('wanted', range(3), ids=['value', 'locations', 'weights'])
def test_a_gradient_alone(wanted):
    shapes = SHAPES['three levels']
    full, alone = sample(shapes, torch.float32), sample(shapes, torch.float32)
    for i, tensor in enumerate(alone):
        tensor.requires_grad_(i == wanted)
    for value, locations, weights in (full, alone):
        deformable_attention(value, shapes, locations, weights).square().sum().backward()
    torch.testing.assert_close(alone[wanted].grad, full[wanted].grad)
    assert [tensor.grad is not None for tensor in alone] == [i == wanted for i in range(3)]


@pytest.mark.parametrize('backend', PORTABLE)
def test_an_empty_batch(backend):
    shapes = SHAPES['three levels']
    value, locations, weights = sample(shapes, torch.float32, n=0)
    out = deformable_attention(value, shapes, locations, weights, backend)
    assert out.shape == (0, 11, 12)
    out.sum().backward()
    assert value.grad.shape == value.shape


@pytest.mark.parametrize('backend', PORTABLE)
def test_bfloat16_values(backend):
    value, locations, weights = sample(SHAPES['three levels'], torch.float32)
    shapes = SHAPES['three levels']
    exact = deformable_attention(value, shapes, locations, weights, backend)
    out = deformable_attention(value.bfloat16(), shapes, locations, weights, backend)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, rtol=0.1, atol=0.1)
    out.sum().backward()
    assert value.grad.isfinite().all()


def test_everything_outside_is_zero():
    value, _, weights = sample(SHAPES['three levels'], torch.float32)
    locations = torch.full((*weights.shape, 2), 3.0)
    for backend in PORTABLE:
        out = deformable_attention(value, SHAPES['three levels'], locations, weights, backend)
        assert not out.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='mmcv runs its operator on a GPU')
@pytest.mark.parametrize('shapes', SHAPES.values(), ids=SHAPES)
def test_mmcv_agrees(shapes):
    pytest.importorskip('mmcv.ops')
    value, locations, weights = (tensor.float().cuda() for tensor in sample(shapes))
    expected = deformable_attention(value, shapes, locations, weights, 'grid_sample')
    out = deformable_attention(value, shapes, locations, weights, 'mmcv')
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_mmcvs_own_cpu_form_agrees():
    """mmcv's reference in Python, for those without a GPU to run its operator on."""
    ops = pytest.importorskip('mmcv.ops.multi_scale_deform_attn')
    shapes = SHAPES['three levels']
    value, locations, weights = (tensor.float() for tensor in sample(shapes))
    expected = ops.multi_scale_deformable_attn_pytorch(
        value, torch.tensor(shapes), locations, weights
    )
    out = deformable_attention(value, shapes, locations, weights)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_errors():
    value, locations, weights = sample(((4, 4),), torch.float32)
    with pytest.raises(ValueError, match=r'value has 16 tokens, but the levels .* have 20'):
        deformable_attention(value, ((4, 5),), locations, weights)
    with pytest.raises(ValueError, match=r"unknown backend 'fast'"):
        deformable_attention(value, ((4, 4),), locations, weights, 'fast')
    with pytest.raises(RuntimeError, match=r"backend='mmcv' needs mmcv .* a CUDA tensor"):
        deformable_attention(value, ((4, 4),), locations, weights, 'mmcv')
