import pytest
import torch
import torch.nn.functional as F

from mmhybrid.models.layers import PairBias


def test_the_training_size_is_the_table_itself():
    bias = PairBias((4, 4), (2, 2), 2)
    assert bias((4, 4), (2, 2)) is bias.table


@pytest.mark.parametrize('query_grid', [(8, 12), (2, 3), (4, 9)])
def test_resizing_is_bicubic_along_each_side(query_grid):
    bias, key_grid = PairBias((4, 4), (2, 2), 2), (3, 5)
    got = bias(query_grid, key_grid)
    # Over the key grid for each query, then over the query grid for each key.
    x = F.interpolate(bias.table.view(-1, 1, 2, 2), size=key_grid, mode='bicubic').flatten(1)
    x = x.view(2, 4, 4, -1).permute(0, 3, 1, 2)
    x = F.interpolate(x, size=query_grid, mode='bicubic').flatten(2).transpose(1, 2)
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-5)
    grads = [torch.autograd.grad(out.square().sum(), bias.table)[0] for out in (got, x)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_a_bias_that_depends_on_columns_stays_so():
    """Resizing the flattened table does not keep it: rows of one column are alike."""
    columns = torch.arange(4.0).repeat(4)[None, :, None].expand(1, 16, 4)
    spread = {}
    for resize in ('separable', 'flat'):
        bias = PairBias((4, 4), (2, 2), 1, resize=resize)
        bias.table.data = columns.clone()
        spread[resize] = bias((4, 6), (2, 3)).view(4, 6, -1).std(dim=0).max()
    assert spread['separable'] < 1e-5 < 0.1 < spread['flat']


@pytest.mark.parametrize('resize', ['separable', 'flat'])
def test_resizing_keeps_full_precision(resize):
    bias = PairBias((4, 4), (2, 2), 2, resize=resize)
    expected = bias((6, 5), (3, 4))
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(bias((6, 5), (3, 4)), expected)
    assert bias.bfloat16()((6, 5), (3, 4)).dtype == torch.float32


def test_an_unknown_way_to_resize():
    with pytest.raises(ValueError, match=r"bias_resize='nearest': expected 'separable' or 'flat'"):
        PairBias((4, 4), (2, 2), 2, resize='nearest')
