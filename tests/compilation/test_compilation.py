"""The long check, with a backend that takes no time; what it says of code that is wrong."""

import pytest
import torch

from tests.compilation import __main__ as compilation
from tests.models.test_compile import MODELS


@pytest.mark.parametrize('what', compilation.RUNS)
def test_code_that_is_right(what):
    assert compilation.main([what, '--model', 'vit', '--backend', 'eager']) == 0


def test_code_that_is_wrong(monkeypatch, capsys):
    build = MODELS['vit']

    def build_wrong():
        model = build()
        model.register_forward_hook(enlarge)
        return model

    def enlarge(model, inputs, outs):
        return tuple(out * (1.001 if torch.compiler.is_compiling() else 1) for out in outs)

    monkeypatch.setitem(compilation.MODELS, 'vit', build_wrong)
    assert compilation.main(['inference', '--model', 'vit', '--backend', 'eager']) == 1
    assert 'FAILS' in capsys.readouterr().out
