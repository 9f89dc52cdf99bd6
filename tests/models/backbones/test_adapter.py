"""What ViT-CoMer and ViT-Adapter share."""

import pytest

from mmhybrid.models.backbones import adapter


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
