"""The table of weights on the page about DINOv3 is true."""

import pytest
import torch
import yaml

from mmhybrid.cli.vit import official_weights
from mmhybrid.config_files import list_configs
from mmhybrid.models.backbones import ViT
from tests.docs.pages import DOCS, ROOT

PAGE = (DOCS / 'dinov3.md').read_text()
ROWS = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in PAGE.splitlines()
    if line.startswith('| `dinov') and line.count('|') == 6
]


def test_there_is_every_size():
    names = [name.strip(' `') for row in ROWS for name in row[1].split(',')]
    own = [it for it in ViT.arch_settings if it.startswith('dinov')]
    without_weights = {'dinov3_t', 'dinov3_lplus'}  # EUPE's, and one of the code alone
    assert sorted(names) == sorted(set(own) - without_weights)


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0])
def test_a_row(row):
    weights, names, sizes, millions, score = row
    for name, checkpoint in zip(names.split(', '), weights.split(', '), strict=True):
        assert official_weights(name.strip('`')) == checkpoint.strip('`')
        with torch.device('meta'):
            vit = ViT(name.strip('`'))
        assert sizes == f'{vit.depth} x {vit.embed_dims}'
        count = sum(p.numel() for p in vit.parameters())
        assert count / 1e6 == pytest.approx(float(millions), abs=0.06)
    published = yaml.safe_load((ROOT / 'configs/published.yml').read_text())['published']
    config = 'linearseg_vit_s_dinov3_frozen'
    (group,) = (it for it in published if config in it['rows'])
    figures = {'dinov3_vits16': group['rows'][config], **group['weights'][config]}
    assert [score] == [str(it) for it in figures.get(weights.strip('`'), [''])]


def test_every_recipe_is_named():
    recipes = [it for it in list_configs('*_frozen*') if not it.endswith('_cityscapes')]
    assert len(recipes) >= 12
    assert not [name for name in recipes if f'`{name}`' not in PAGE]
