"""The table of official files: what each row says, and what is said of it when it is loaded."""

import datetime
import logging
import re

import pytest
import torch

from mmhybrid.checkpoints import OFFICIAL_FILES, CheckpointError, load, load_pretrained, locate
from mmhybrid.checkpoints.names import HUB, find_licence
from tests.checkpoints.published import build_vit, deit

DINOV3 = [name for name in OFFICIAL_FILES if 'dinov3' in name and 'eupe' not in name]
EUPE = [name for name in OFFICIAL_FILES if 'eupe' in name]
CONVNEXT = [name for name in OFFICIAL_FILES if 'convnext' in name]


def test_rows():
    for name, official in OFFICIAL_FILES.items():
        publication = official.publication
        assert publication.source and datetime.date.fromisoformat(publication.read)
        assert official.sha256 is None or re.fullmatch('[0-9a-f]{8}', official.sha256), name
        assert (official.url is None) == (official.request is not None), name
        if official.other:  # the same weights, which can be had
            assert OFFICIAL_FILES[official.other].url, name
    files = [official.file_name for official in OFFICIAL_FILES.values()]
    assert len(files) == len(set(files))


def test_all_sizes_of_dinov3_and_eupe():
    assert len([n for n in DINOV3 if n.startswith('dinov3_')]) == 13  # 9 ViTs, 4 ConvNeXts
    assert len([n for n in DINOV3 if not n.startswith('dinov3_')]) == 18
    assert len(EUPE) == 6 and len(CONVNEXT) == 8


@pytest.mark.parametrize('name', CONVNEXT)
def test_convnext_is_refused_before_anyone_asks_for_it(name):
    with pytest.raises(CheckpointError, match='no backbone'):
        locate(name)


def test_a_file_on_request_names_one_without():
    with pytest.raises(CheckpointError) as error:
        locate('dinov3_vits16')
    assert 'vit_small_patch16_dinov3_qkvb.lvd1689m' in str(error.value)


@pytest.mark.parametrize(
    ('checkpoint', 'words'),
    [
        *((name, 'DINOv3 License') for name in DINOV3),
        *((name, 'Noncommercial') for name in EUPE),
        (OFFICIAL_FILES['vit_base_patch16_dinov3.lvd1689m'].url, 'DINOv3 License'),
        ('/data/dinov3_vits16_pretrain_lvd1689m-08c60483.pth', 'DINOv3 License'),
        ('hf://facebook/dinov3-vits16-pretrain-lvd1689m', 'DINOv3 License'),
        ('hf://facebook/dinov3-vitb16-pretrain-lvd1689m@refs/pr/1/model.safetensors', 'DINOv3'),
        (f'{HUB}facebook/dinov3-vits16-pretrain-lvd1689m/resolve/main/model.safetensors', 'DINOv3'),
        (f'{HUB}facebook/DINOv3-ViTS16/resolve/1a2b3c/weights/a.pth?download=true', 'DINOv3'),
        (f'{HUB}timm/vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m/resolve/v2/a.bin', 'Noncommercial'),
        (f'{HUB}facebook/vit-mae-base/resolve/main/pytorch_model.bin', 'no commercial use'),
        (f'https://a.org/{OFFICIAL_FILES["dinov3_vits16"].file_name}?Policy=a/b&c=d', 'DINOv3'),
        ('hf://timm/vit_base_patch16_dinov3_qkvb.eupe_lvd1689m', 'Noncommercial'),
        ('hf://facebook/vit-mae-base', 'no commercial use'),
        ('mae_pretrain_vit_base', 'no commercial use'),
    ],
)
def test_licences_that_bind(checkpoint, words):
    assert words in find_licence(checkpoint)


@pytest.mark.parametrize(
    'checkpoint',
    [
        'dinov2_vits14',
        '/data/dinov3/my.pth',
        'hf://google/vit',
        'hf://google/vit/dinov3.pth',
        f'{HUB}facebook/dinov2-small/resolve/main/model.safetensors',
        'https://a.org/dinov3/mine/my.pth',
    ],
)
def test_others_are_not_given_a_licence(checkpoint):
    assert not find_licence(checkpoint)


def test_the_licence_is_said_at_the_first_load(tmp_path, caplog):
    load._say_licence.cache_clear()
    path = tmp_path / OFFICIAL_FILES['mae_pretrain_vit_base'].file_name
    torch.save(deit(), path)
    said = []
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            load_pretrained(build_vit(), path, parts={'vit': ''})
        said.append([r.getMessage() for r in caplog.records if 'CC BY-NC' in r.getMessage()])
        caplog.clear()
    assert len(said[0]) == 1 and not said[1]
