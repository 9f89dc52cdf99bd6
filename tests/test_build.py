"""mmhybrid as plain PyTorch, and as a plugin by its scope alone."""

import subprocess
import sys

import pytest

import mmhybrid

HIDE_THE_REST = """
import sys

HIDDEN = ('mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'torchvision', 'timm')

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in HIDDEN:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Hide())

import torch
import mmhybrid

for name in mmhybrid.list_backbones('*_t'):
    model = mmhybrid.build_backbone(name).eval()
    with torch.no_grad():
        outs = model(torch.zeros(1, 3, 40, 64))
    assert tuple(out.shape[1] for out in outs) == model.out_channels
    print(name)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_and_mmengine_are_enough():
    assert {'vitcomer_t', 'vit_t'} <= set(run(HIDE_THE_REST).split())


def test_importing_mmhybrid_is_cheap():
    loaded = run('import sys, mmhybrid; print(*sys.modules)').split()
    assert not {'torch', 'mmengine', 'numpy'} & set(loaded)


@pytest.mark.parametrize('host', ['mmdet', 'mmseg', 'mmpretrain'])
def test_the_scope_finds_backbones_in_a_host(host):
    pytest.importorskip(host)
    out = run(f"""
from mmengine.registry import init_default_scope
init_default_scope('{host}')
from {host}.registry import MODELS
model = MODELS.build(dict(type='mmhybrid.ViTCoMer', arch='t', drop_path_rate=0.1))
print(type(model).__name__)
""")
    assert out.split()[-1] == 'ViTCoMer'


def test_list_backbones():
    names = mmhybrid.list_backbones()
    assert names == sorted(names)
    published = {f'vitcomer_{arch}' for arch in ('t', 's', 'b', 'l', 't_seg', 's_seg', 'b_seg')}
    assert published <= set(names)
    assert mmhybrid.list_backbones('vitcomer_*_seg') == [
        'vitcomer_b_seg',
        'vitcomer_s_seg',
        'vitcomer_t_seg',
    ]


def test_unknown_names_and_arguments():
    with pytest.raises(ValueError, match=r"no backbone 'vitcomer_xxl'; there are .*vitcomer_b"):
        mmhybrid.build_backbone('vitcomer_xxl')
    with pytest.raises(TypeError, match=r"did you mean 'drop_path_rate'"):
        mmhybrid.build_backbone('vitcomer_t', drop_path=0.1)


def test_arch_takes_the_name_with_and_without_its_family():
    from mmhybrid.models.backbones import ViTCoMer

    assert ViTCoMer('vitcomer_t').out_channels == ViTCoMer('t').out_channels
