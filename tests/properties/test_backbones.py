"""What holds for every backbone, whatever its architecture and image."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mmhybrid.models.layers import LayerScale
from tests.models.drawn import draw_loss
from tests.properties.families import FAMILIES, images

pytestmark = pytest.mark.parametrize('family', FAMILIES)
few = settings(suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])


def scale_of(maps):
    return max(m.abs().max().item() for m in maps)


def assert_same(got, expected, *, relative):
    """Maps that differ by no more than so much of their largest value."""
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max().item() <= relative * scale_of(expected)


@few
@given(data=st.data())
def test_shapes_and_numbers(family, data):
    drawn = data.draw(FAMILIES[family])
    channels = data.draw(st.integers(1, 5))
    levels = data.draw(st.sets(st.integers(0, drawn.levels - 1), min_size=1))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    model = drawn.build(in_channels=channels, out_indices=tuple(levels)).eval().to(dtype)
    image = data.draw(images(channels=channels)).to(dtype)
    with torch.no_grad():
        maps = model(image)
    assert len(maps) == len(levels) == len(model.out_channels) == len(model.out_strides)
    for m, width, stride in zip(maps, model.out_channels, model.out_strides, strict=True):
        h, w = (-(-side // stride) for side in image.shape[2:])
        assert m.shape == (len(image), width, h, w)
        assert m.dtype == dtype
        assert m.isfinite().all()


@few
@given(data=st.data())
def test_an_image_alone_and_in_a_batch(family, data):
    model = data.draw(FAMILIES[family]).build().eval().double()
    image = data.draw(images(batch=st.integers(2, 3))).double()
    with torch.no_grad():
        together = model(image)
        alone = [model(one[None]) for one in image]
    assert_same(together, [torch.cat(maps) for maps in zip(*alone, strict=True)], relative=1e-10)


# The multiple of which a backbone makes both sides, where it pads an image once, at the beginning.
PADS_TO = {
    'vit': lambda model: model.patch_size,
    'convstemvit': lambda model: model.patch_size,
    'vitcomer': lambda model: 32,
    'vitadapter': lambda model: 32,
    'sta': lambda model: 32,
    'cmt': lambda model: model.size_divisor,
}


@few
@given(data=st.data())
def test_padding_by_hand_changes_nothing(family, data):
    if family not in PADS_TO:
        pytest.skip('pads between its stages')
    model = data.draw(FAMILIES[family]).build().eval().double()
    image = data.draw(images(batch=st.just(1))).double()
    with torch.no_grad():
        maps = model(image)
        padded = model(model.pad_image(image, PADS_TO[family](model)))
    cut = [
        model.crop_map(m, image.shape[2:], stride)
        for m, stride in zip(padded, model.out_strides, strict=True)
    ]
    assert_same(cut, maps, relative=1e-10)


# The fully convolutional part of a family.
CONVOLUTIONS = {
    'vit': lambda model: model.patch_embed.proj,
    'convstemvit': lambda model: torch.nn.Sequential(*model.stem.layers, model.stem.proj),
    'vitcomer': lambda model: model.cnn,
    'vitadapter': lambda model: model.cnn,
    'sta': lambda model: model.cnn,
    'cmt': lambda model: model.stem or model.stages[0].patch_embed,
    'cvt': lambda model: model.stages[0].patch_embed.proj,
    'spach': lambda model: model.stem,
}


@few
@given(data=st.data())
def test_padding_is_seen_by_what_lies_beside_it_alone(family, data):
    """Where convolutions do not reach the padding, their maps are those of the image alone."""
    assert PADS_TO.keys() | CONVOLUTIONS.keys() <= FAMILIES.keys()
    if family not in CONVOLUTIONS:
        pytest.skip('its convolutions are no module of their own')
    part = CONVOLUTIONS[family](data.draw(FAMILIES[family]).build().eval().double())
    aligned = st.just(224)  # a multiple of every stride and patch
    image = data.draw(images(batch=st.just(1), sides=aligned)).double()
    right, bottom = data.draw(st.sampled_from([(224, 0), (0, 224), (224, 224)]))
    # What depends on a number that is none is none.
    padded = torch.nn.functional.pad(image, (0, right, 0, bottom), value=float('nan'))
    with torch.no_grad():
        small, large = part(image), part(padded)
    if torch.is_tensor(small):
        small, large = [small], [large]
    for one, other in zip(small, large, strict=True):
        other = other[:, :, : one.shape[2], : one.shape[3]]
        untouched = other.isfinite()
        assert untouched.any()
        torch.testing.assert_close(other[untouched], one[untouched])


@few
@given(data=st.data(), seed=st.integers(0, 2**31 - 1))
def test_a_seed_repeats_a_training_step(family, data, seed):
    drawn = data.draw(FAMILIES[family])
    image = data.draw(images(batch=st.integers(2, 3), sides=st.integers(32, 96)))

    def step():
        model = drawn.build(drop_path_rate=0.3).train()
        torch.manual_seed(seed)
        maps = model(image)
        draw_loss(maps).backward()
        return [m.detach() for m in maps], [p.grad for p in model.parameters()]

    (maps, gradients), (maps_again, gradients_again) = step(), step()
    assert all(map(torch.equal, maps, maps_again))
    assert [g is None for g in gradients] == [g is None for g in gradients_again]
    for one, other in zip(gradients, gradients_again, strict=True):
        assert one is None or torch.equal(one, other)


LAYERS = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.LayerNorm,
    nn.modules.batchnorm._BatchNorm,
    LayerScale,
)


class LowRank(nn.Module):
    """What a library for low-rank adaptation puts around a linear layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.update = nn.Parameter(0.1 * torch.randn_like(layer.weight))

    def forward(self, x):
        return self.layer(x) + F.linear(x, self.update)


@few
@given(data=st.data())
def test_linear_layers_can_be_wrapped(family, data):
    drawn = data.draw(FAMILIES[family])
    model = drawn.build().eval().double()
    image = data.draw(images()).double()
    merged = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            parent, _, attribute = name.rpartition('.')
            wrapped = LowRank(layer)
            setattr(model.get_submodule(parent), attribute, wrapped)
            merged.get_submodule(name).weight.data += wrapped.update.data
    with torch.no_grad():
        assert_same(model(image), merged(image), relative=1e-10)
    assert_same(model(image), merged(image), relative=1e-10)
    draw_loss(model(image)).backward()
    # The weight of a single key is constant, and so is that of a single sample, which may also lie
    # outside for all queries.
    of_one_key = [f'{name}.{part}' for name, _ in model.named_modules() for part in 'qk']
    one_sample = drawn.arguments['arch'].get('num_points') == 1
    for name, module in model.named_modules():
        if isinstance(module, LowRank):
            may_be_still = one_sample and '.attn.' in name or name in of_one_key
            assert module.update.grad is not None, name
            assert may_be_still or module.update.grad.any(), name


@few
@given(data=st.data(), training=st.booleans())
def test_hooks_of_layers_are_called(family, data, training):
    model = data.draw(FAMILIES[family]).build().train(training)
    image = data.draw(images(batch=st.just(2), sides=st.integers(64, 96)))
    called, kept = set(), []

    def listen(name, layer, out):
        called.add(name)
        if torch.is_tensor(out):
            kept.append((out, out.detach().clone()))

    for name, layer in model.named_modules():
        layer.register_forward_hook(lambda layer, _, out, name=name: listen(name, layer, out))
    with torch.set_grad_enabled(training):
        maps = model(image)
    if training:
        draw_loss(maps).backward()
    for name, layer in model.named_modules():
        if isinstance(layer, LAYERS):
            unused = training and all(p.grad is None for p in layer.parameters())
            assert unused or name in called
    assert all(torch.equal(out, value) for out, value in kept)
