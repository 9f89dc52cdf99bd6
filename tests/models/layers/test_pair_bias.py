import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from mmhybrid.models.layers import PairBias, biased_attention, pair_bias

SCALE = 0.5


def random_inputs(query_grid, key_grid, heads=2, n=2, requires_grad=False):
    generator = torch.Generator().manual_seed(0)

    def draw(grid):
        shape = (n, heads, grid[0] * grid[1], 4)
        return torch.randn(shape, generator=generator).requires_grad_(requires_grad)

    return draw(query_grid), draw(key_grid), draw(key_grid)


def plain_attention(q, k, v, bias):
    return ((q @ k.transpose(2, 3)) * SCALE + bias).softmax(-1) @ v


def test_the_training_size_is_the_table_itself():
    bias = PairBias((4, 4), (2, 2), 2)
    assert bias((4, 4), (2, 2)).whole is bias.table


@pytest.mark.parametrize('query_grid', [(8, 12), (2, 3), (4, 9)])
def test_resizing_is_bicubic_along_each_side(query_grid):
    bias, key_grid = PairBias((4, 4), (2, 2), 2), (3, 5)
    got = bias(query_grid, key_grid).whole
    # Over the key grid for each query, then over the query grid for each key.
    x = F.interpolate(bias.table.view(-1, 1, 2, 2), size=key_grid, mode='bicubic').flatten(1)
    x = x.view(2, 4, 4, -1).permute(0, 3, 1, 2)
    x = F.interpolate(x, size=query_grid, mode='bicubic').flatten(2).transpose(1, 2)
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-5)


def test_a_bias_that_depends_on_columns_stays_so():
    """What resizing the flattened table does not keep: rows of one column are alike."""
    columns = torch.arange(4.0).repeat(4)[None, :, None].expand(1, 16, 4)
    spread = {}
    for resize in ('separable', 'flat'):
        bias = PairBias((4, 4), (2, 2), 1, resize=resize)
        bias.table.data = columns.clone()
        spread[resize] = bias((4, 6), (2, 3)).whole.view(4, 6, -1).std(dim=0).max()
    assert spread['separable'] < 1e-5 < 0.1 < spread['flat']


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('limits', [{}, dict(MAX_BAND=200), dict(MAX_BAND=200, MAX_WHOLE=10)])
def test_attention_in_bands_is_attention(monkeypatch, limits, n):
    for name, value in limits.items():
        monkeypatch.setattr(pair_bias, name, value)
    bias, grids = PairBias((4, 4), (2, 2), 2), ((6, 5), (3, 4))
    whole = bias._resize(*grids)
    inputs = random_inputs(*grids, n=n, requires_grad=True)
    expected = plain_attention(*inputs, whole)
    wanted = torch.autograd.grad(expected.square().sum(), (*inputs, bias.table))
    got = biased_attention(*inputs, bias(*grids), SCALE)
    assert len(bias(*grids).bands(2)) == 3
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(got.square().sum(), (*inputs, bias.table))
    torch.testing.assert_close(gradients, wanted, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        again = biased_attention(*inputs, bias.eval()(*grids), SCALE)
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('n', [1, 2])
def test_gradients_of_the_attention(n):
    q, k, v = (t.double().requires_grad_() for t in random_inputs((2, 3), (2, 2), n=n))
    bias = torch.randn(2, 6, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(pair_bias.BiasedAttention.apply, (q, k, v, bias, SCALE))


def test_training_takes_the_fused_kernel():
    bias, grids = PairBias((4, 4), (2, 2), 2), ((6, 5), (3, 4))
    inputs = random_inputs(*grids, requires_grad=True)
    with torch.profiler.profile(acc_events=True) as profile:
        biased_attention(*inputs, bias(*grids), SCALE)
    operations = {event.name for event in profile.events()}
    assert 'aten::_scaled_dot_product_flash_attention_for_cpu' in operations
    assert 'aten::_softmax' not in operations


def test_gradients_of_a_shared_bias_are_added_in_place():
    bias, grids = PairBias((4, 4), (2, 2), 2), ((6, 5), (3, 4))
    q, k, v = random_inputs(*grids, requires_grad=True)
    shared = bias(*grids)
    for _ in range(3):
        q = biased_attention(q, k, v, shared, SCALE)
    with torch.profiler.profile(acc_events=True, record_shapes=True) as profile:
        q.sum().backward()
    sizes = [e.input_shapes[0] for e in profile.events() if e.name == 'aten::add']
    assert list(shared.shape) not in sizes


class TestCache:
    grids = ((6, 5), (3, 4))

    def build(self):
        return PairBias((4, 4), (2, 2), 2).eval()

    def whole(self, bias):
        with torch.no_grad():
            return bias(*self.grids).whole

    def test_the_second_time_it_is_there(self):
        bias = self.build()
        assert self.whole(bias) is self.whole(bias)

    @pytest.mark.parametrize(
        'change',
        [
            lambda bias: bias.table.add_(1),
            lambda bias: bias.load_state_dict({'table': bias.table + 1}),
            lambda bias: setattr(bias, 'table', torch.nn.Parameter(bias.table + 1)),
            lambda bias: setattr(bias.table, 'data', bias.table + 1),
            # What an exponential moving average does before an evaluation.
            lambda bias: (bias.table.data.add_(1), bias.eval()),
            lambda bias: bias.double(),
        ],
    )
    def test_a_change_is_seen(self, change):
        bias = self.build()
        before = self.whole(bias)
        with torch.no_grad():
            change(bias)
            expected = bias._resize(*self.grids)
        after = self.whole(bias)
        assert after is not before
        torch.testing.assert_close(after, expected)

    def test_gradients_pass_in_evaluation_mode_too(self):
        bias = self.build()
        self.whole(bias)
        bias(*self.grids).whole.sum().backward()
        assert bias.table.grad is not None

    def test_inference_mode(self):
        bias = self.build()
        with torch.inference_mode():
            whole = bias(*self.grids).whole
        assert not whole.is_inference()
        assert self.whole(bias) is whole
        q, k, v = random_inputs(*self.grids, requires_grad=True)
        biased_attention(q, k, v, bias(*self.grids), SCALE).sum().backward()
        with torch.inference_mode():
            born_there = self.build()
            first = born_there(*self.grids).whole
            born_there.table.add_(1)
            assert not torch.equal(first, born_there(*self.grids).whole)

    def test_it_is_bounded(self, monkeypatch):
        monkeypatch.setattr(pair_bias, 'MAX_CACHED', 3000)
        bias = self.build()
        with torch.no_grad():
            for width in range(5, 12):
                bias((6, width), (3, 4))
            assert 0 < sum(t.numel() for t in bias._cache._tables.values()) <= 3000
            kept = len(bias._cache)
            bias((30, 30), (10, 10))
            assert len(bias._cache) == kept

    def test_copies_go_without_it(self):
        bias = self.build()
        self.whole(bias)
        assert bias._cache and not copy.deepcopy(bias)._cache


def test_kept_biases_are_of_the_tensor_they_were_made_of():
    """Tensors made for one call each, one after another in the same memory."""
    bias = PairBias((4, 4), (2, 2), 2).eval()
    table = bias.table.detach().clone()

    def resized(scale):
        given = {'table': table * scale}
        return torch.func.functional_call(bias, given, ((6, 5), (3, 3))).whole

    with torch.no_grad():
        expected = [PairBias.forward(bias, (6, 5), (3, 3)).whole * scale for scale in range(9)]
        for scale in range(9):
            torch.testing.assert_close(resized(scale), expected[scale])


def test_kept_biases_of_many_threads(monkeypatch):
    bias = PairBias((4, 4), (2, 2), 2).eval()
    monkeypatch.setattr(pair_bias, 'MAX_CACHED', 2000)
    grids = [((h, w), (h // 2, w // 2)) for h in range(2, 9) for w in range(2, 9)]
    with torch.no_grad():
        expected = [bias(*pair).whole for pair in grids]

    def run(start):
        with torch.no_grad():
            for i in [*range(start, len(grids)), *range(start)]:
                assert torch.equal(bias(*grids[i]).whole, expected[i])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(40)))


@pytest.mark.parametrize('width', [5, 8, 46])
def test_heads_of_any_width_in_aligned_ones(width):
    q, k, v = (torch.randn(2, 3, length, width) for length in (7, 4, 4))
    options = dict(attn_mask=torch.randn(1, 3, 7, 4), scale=0.3)
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    out = pair_bias.attend_in_aligned_heads(q, k, v, **options)
    torch.testing.assert_close(out, expected)


def test_an_unknown_way_to_resize():
    with pytest.raises(ValueError, match=r"bias_resize='nearest': expected 'separable' or 'flat'"):
        PairBias((4, 4), (2, 2), 2, resize='nearest')
