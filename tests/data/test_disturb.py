"""Disturbed images: the channels keep their order, and noise is that of the image."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from torchvision.io import decode_jpeg, encode_jpeg

from mmhybrid.data.coco import DataError
from mmhybrid.data.disturb import KINDS, Disturb
from mmhybrid.registry import TRANSFORMS


@pytest.fixture
def image():
    """A picture in BGR, blue from left to right and red from top to bottom."""
    ramp = np.linspace(40, 200, 48, dtype=np.uint8)
    blue, red = np.meshgrid(ramp, ramp[:32])
    return np.stack([blue, np.full_like(blue, 90), red], axis=-1)


def disturb(image, kind, strength, index=0):
    return Disturb(kind, strength)(dict(img=image, sample_idx=index))['img']


@pytest.mark.parametrize(
    ('kind', 'strength'), [('jpeg', 10), ('blur', 2.0), ('noise', 0.1), ('brightness', 0.5)]
)
def test_an_image_stays_one(kind, strength, image):
    before = image.copy()
    after = disturb(image, kind, strength)
    assert after.shape == image.shape and after.dtype == np.uint8
    assert after.flags['C_CONTIGUOUS'] and np.array_equal(image, before)
    assert not np.array_equal(after, image)
    wanted = image.astype(float) * (0.5 if kind == 'brightness' else 1)
    assert np.abs(after.mean((0, 1)) - wanted.mean((0, 1))).max() < 4  # each channel is its own


def test_jpeg_is_told_the_colours(image):
    """It keeps green better than blue, so an order taken for another shows."""
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    wanted = decode_jpeg(encode_jpeg(rgb, quality=30)).permute(1, 2, 0).numpy()
    assert np.array_equal(disturb(image, 'jpeg', 30)[..., ::-1], wanted)


def test_kinds_are_named():
    with pytest.raises(ValueError, match=r"kind='gauss': expected jpeg, blur, noise, brightness"):
        Disturb('gauss', 1.0)


def test_noise_is_that_of_the_image(image):
    state = torch.get_rng_state()
    first = disturb(image, 'noise', 0.1, index=3)
    torch.rand(5)
    assert np.array_equal(disturb(image, 'noise', 0.1, index=3), first)
    assert not np.array_equal(disturb(image, 'noise', 0.1, index=4), first)
    torch.set_rng_state(state)
    drawn = torch.rand(1)
    torch.set_rng_state(state)
    disturb(image, 'noise', 0.1)
    assert torch.rand(1) == drawn  # others draw as before
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert disturb(grey, 'noise', 0.1).std() == pytest.approx(25.5, rel=0.05)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_every_host_builds_it(scope):
    import importlib

    registry = importlib.import_module(f'{scope}.registry').TRANSFORMS
    init_default_scope(scope)
    for kind in KINDS:
        built = registry.build(dict(type='mmhybrid.Disturb', kind=kind, strength=1))
        assert type(built) is TRANSFORMS.get('Disturb')


@pytest.mark.parametrize(
    ('bad', 'shape'), [(np.zeros((4, 5, 3), np.float32), '4x5x3 float32'),
                       (np.zeros((4, 5), np.uint8), '4x5 uint8')],
)  # fmt: skip
def test_what_is_no_image_of_8_bits_is_refused(bad, shape):
    with pytest.raises(DataError, match=f'{shape}.*to_float32'):
        disturb(bad, 'brightness', 0.5)
