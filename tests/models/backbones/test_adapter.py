"""What ViT-CoMer and ViT-Adapter share."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmhybrid.engine.flops import count_macs
from mmhybrid.models.backbones import ViTAdapter, ViTCoMer, adapter, vit_adapter, vit_comer
from mmhybrid.models.layers import blocks

TINY = dict(
    embed_dims=32, depth=4, num_heads=2, deform_heads=2, num_points=2, stem_channels=8, windows=2
)
ADAPTERS = [(ViTCoMer, vit_comer), (ViTAdapter, vit_adapter)]


class Sizes(TorchDispatchMode):
    """Notes how many values every result has."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.seen += [out.numel()] if isinstance(out, torch.Tensor) else []
        return out


@pytest.mark.parametrize(('backbone', 'module'), ADAPTERS)
@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_the_finest_map_is_whole_but_once(backbone, module, norm, monkeypatch):
    norm_cfg = dict(type=norm, num_groups=4) if norm == 'GN' else dict(type=norm)
    model = backbone(TINY, vit=dict(pretrain_size=64), norm_cfg=norm_cfg).eval()
    for buffer in model.norms.buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 2)
    given = []

    def merge(*arguments):
        given[:] = arguments
        return adapter.merge_maps(*arguments)

    monkeypatch.setattr(module, 'merge_maps', merge)
    expected = model(torch.randn(2, 3, 70, 100))
    monkeypatch.setattr(blocks, 'BLOCK', 1)
    with torch.no_grad(), Sizes() as sizes:
        outs = adapter.merge_maps(*given)
    torch.testing.assert_close(outs, expected)
    assert outs[0].shape == (2, 32, 18, 25)
    assert outs[0].is_contiguous()
    large = [count for count in sizes.seen if count >= outs[0].numel()]
    if norm == 'BN':
        assert len(large) == 1
    else:  # group norm has to see the whole map
        assert len(large) > 1


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
@pytest.mark.parametrize('values', [1, 2000])
def test_the_stem_in_bands(backbone, values, monkeypatch):
    cnn = backbone(TINY, vit=dict(pretrain_size=64)).cnn.eval()
    for buffer in cnn.buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 2)
    for norm in cnn.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.bias, -1, 1)
    image = torch.randn(2, 3, 122, 75)
    whole = 2 * 8 * 61 * 38  # values of a map of stride 2
    with Sizes() as sizes:
        expected = cnn.stem(image)
    assert whole in sizes.seen
    macs = count_macs(cnn, image)
    monkeypatch.setattr('mmhybrid.models.layers.conv_pyramid.BLOCK', values)
    with torch.no_grad(), Sizes() as sizes:
        finest, *_ = cnn(image)
    torch.testing.assert_close(finest, expected)
    assert finest.shape[2:] == (31, 19)
    assert finest.is_contiguous(memory_format=torch.channels_last)
    assert whole not in sizes.seen
    assert count_macs(cnn, image) == macs  # bands overlap, which is not counted


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
@pytest.mark.parametrize('prepare', ['train', 'eval', 'fuse'])
def test_the_stem_keeps_its_convolutions_alone(backbone, prepare):
    model = backbone(TINY, vit=dict(pretrain_size=64))
    getattr(model, prepare)()
    plain, thrifty = copy.deepcopy(model.cnn), model.cnn
    image = torch.randn(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    expected = plain.stem(image)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.data_ptr(), tensor), lambda tensor: tensor
    ):
        out = thrifty(image)[0]
    assert [tensor.numel() for tensor in kept.values()].count(2 * 8 * 32 * 48) == 3  # of stride 2
    torch.testing.assert_close(out, expected)
    grad = torch.randn(out.shape)
    expected.backward(grad)
    out.backward(grad)
    for ours, theirs in zip(thrifty.stem.parameters(), plain.stem.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(thrifty.stem.state_dict(), plain.stem.state_dict())


@pytest.mark.parametrize(
    ('depth', 'given', 'expected'),
    [
        (8, None, ((0, 1), (2, 3), (4, 5), (6, 7))),
        (5, [[0, 1], [2, 4]], ((0, 1), (2, 4))),
        (3, [(0,), (1, 2)], ((0, 0), (1, 2))),
    ],
)
def test_groups_of_blocks(depth, given, expected):
    assert adapter.group_blocks(depth, given) == expected


@pytest.mark.parametrize(
    ('depth', 'given', 'message'),
    [
        (6, None, r'6 blocks do not make four equal stages'),
        (4, [(0, 1)], r'do not cover the 4 blocks .* \[\(0, 1\), \(2, 3\)\]'),
        (4, [(0, 2), (2, 3)], r'do not cover the 4 blocks'),
    ],
)
def test_groups_that_do_not_fit(depth, given, message):
    with pytest.raises(ValueError, match=message):
        adapter.group_blocks(depth, given)
