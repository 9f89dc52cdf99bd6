"""The notebook's cells run one after another, on tiny images and a tiny ViT."""

import json

import pytest
import torch

from mmhybrid.models.backbones import ViT
from tests.docs.pages import DOCS

FILE = DOCS / 'notebooks' / 'first_model.ipynb'
WORKERS = {f'{split}_dataloader.num_workers': 0 for split in ('train', 'val', 'test')}


@pytest.fixture
def cells():
    """The cells, as pairs of a kind and a text, with what is said of each."""
    notebook = json.loads(FILE.read_text(encoding='utf-8'))
    assert notebook['nbformat'] == 4
    return notebook['cells']


def test_the_first_cell_tells_of_colab(cells):
    assert cells[0]['cell_type'] == 'markdown' and '**On Colab**' in ''.join(cells[0]['source'])
    assert not any(cell.get('outputs') or cell.get('execution_count') for cell in cells)


def test_it_runs(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    shallow = {**ViT.arch_settings['dinov3_t'], 'depth': 4}  # a map after each
    monkeypatch.setitem(ViT.arch_settings, 'dinov3_t', shallow)
    vit = ViT('dinov3_t', final_norm=True)
    torch.save(vit.state_dict(), 'weights.pth')
    tiny = dict(
        IMAGES=4,
        WEIGHTS=str(tmp_path / 'weights.pth'),
        STEPS=2,
        IMAGE_SIZE=(64, 64),
        CROP_SIZE=(64, 64),
        OPTIONS={'train_dataloader.batch_size': 2, 'train_dataloader.persistent_workers': False},
    )
    names: dict = {'__name__': '__main__'}
    for number, cell in enumerate(cells):
        if cell['cell_type'] == 'code':
            exec(compile(''.join(cell['source']), f'cell {number}', 'exec'), names)
        if 'parameters' in cell['metadata'].get('tags', []):
            assert set(tiny) <= set(names)
            names.update(tiny)
    assert names['done'].metrics['mIoU'] >= 0
    assert len(names['predictions']) == 2
    assert names['onnx'].is_file()
    assert names['exported'][0].class_map.shape == (192, 256)
    assert min(names['agreement']) > 0.99
