"""Every row of every plan of a study: its config is there, its options fit the backbone."""

from functools import cache

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmhybrid.cli.config import _check_options
from mmhybrid.cli.keys import check_nested
from mmhybrid.cli.plan import read_plan
from mmhybrid.cli.study import Study
from mmhybrid.cli.train import build_parser
from mmhybrid.data import fit
from tests.docs.pages import ROOT, blocks

PLANS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted((ROOT / 'configs/experiments').rglob('*.yml'))
    if path.name != 'metafile.yml'
} | {str(block): block.text for block in blocks('yaml') if '\nrows:' in block.text}


@cache
def config(name):
    """The caller copies it."""
    (path,) = (ROOT / 'configs').rglob(f'{name}.py')
    return Config.fromfile(path)


def test_plans_are_found():
    assert {name.partition(':')[0] for name in PLANS} >= {
        *(f'configs/experiments/small_data/{name}.yml' for name in ('semantic', 'instance')),
        'docs/training.md',
    }  # fmt: skip


@pytest.mark.parametrize('name', PLANS)
def test_options_of_every_row_fit_its_backbone(name, tmp_path):
    path = tmp_path / 'plan.yml'
    path.write_text(PLANS[name])
    plan = read_plan(path)
    study = Study(plan, tmp_path, None, 'weights.pth')
    for row in plan.rows:
        cfg = Config(config(row.config).to_dict())
        for run in (*study.search(row)[:1], study.finals(row, rate=plan.rates[0])[0]):
            options = build_parser().parse_args(list(run.command[1:])).cfg_options
            _check_options(cfg, options, row.config)
            check_nested(cfg, options, cfg.default_scope)
            for key in options:
                if (folder := key.partition('.')[0]) in fit.KINDS:
                    fit._check_options(folder, [key.partition('.')[2]])
        model = {key: value for key, value in options.items() if key.startswith('model.')}
        rates = {key: value for key, value in options.items() if key.startswith('optim_wrapper.')}
        # Tests of the configs build those without.
        if model or any('paramwise_cfg' in key for key in rates):
            cfg.merge_from_dict(model | rates)
            init_default_scope(cfg.default_scope)
            with torch.device('meta'):
                backbone = MODELS.build(cfg.model.backbone)
                trained = torch.nn.ModuleDict(dict(backbone=backbone, head=torch.nn.Linear(1, 1)))
            build_optim_wrapper(trained, cfg.optim_wrapper)
