"""The long runs, short; what they find when something does grow or break."""

import pytest
import torch

from mmhybrid.models.backbones import BACKBONES
from tests.endurance import __main__ as endurance


def test_every_family_is_here():
    assert {contract.backbone for contract in endurance.FAMILIES.values()} == set(BACKBONES)


@pytest.mark.parametrize('family', ['cmt', 'vitcomer'])
def test_memory_is_flat(family):
    assert endurance.main(['inference', '--family', family, '--count', '80']) == 0


def test_training_stays_finite():
    assert endurance.main(['health', '--family', 'cmt', '--count', '40']) == 0


class Faulty:
    """Builds a model that keeps its outputs, or that divides by nothing at its tenth step."""

    def __init__(self, fault):
        self.fault = fault

    def __call__(self):
        return self

    def build(self, drop_path_rate=0.0):
        model, kept = torch.nn.Conv2d(3, 8, 3), []
        model.out_channels = (8,)

        def hook(module, inputs, out):
            kept.append(out)
            if self.fault == 'nan' and len(kept) >= 10:
                out = out / 0
            return (out,)

        model.register_forward_hook(hook)
        return model


def test_faults_are_found(monkeypatch, capsys):
    monkeypatch.setitem(endurance.FAMILIES, 'vit', Faulty('leak'))
    assert endurance.main(['inference', '--family', 'vit', '--count', '40']) == 1
    assert 'GROWS' in capsys.readouterr().out
    monkeypatch.setitem(endurance.FAMILIES, 'vit', Faulty('nan'))
    assert endurance.main(['health', '--family', 'vit', '--count', '40']) == 1
    assert '9 steps finite' in capsys.readouterr().out
