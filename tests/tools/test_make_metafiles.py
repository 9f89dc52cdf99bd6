import itertools
from pathlib import Path

import pytest
import yaml
from modelindex.load_model_index import load

from mmhybrid import config_path
from tools._zoo import HEADS, ROOT


@pytest.fixture
def metafiles(tool):
    return tool('make_metafiles')


@pytest.fixture
def models(metafiles):
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    found = [yaml.safe_load((ROOT / path).read_text())['Models'] for path in index['Import']]
    return [model for models in found for model in models]


def test_the_files_are_those_that_the_tool_makes(metafiles):
    """With the counts that they hold; tests/configs/test_configs.py compares those with models."""
    for path, text in metafiles.make_files(metafiles.read_counts()).items():
        assert path.read_text() == text, (
            f'{path.relative_to(ROOT)}: run python tools/make_metafiles.py'
        )


def test_every_config_of_the_zoo_is_listed_once(metafiles, models):
    assert sorted(model['Name'] for model in models) == metafiles.zoo_names()
    assert len(models) > 150
    for model in models:
        assert (ROOT / model['Config']).is_file()


def test_a_new_config_is_asked_for(metafiles):
    counts = metafiles.read_counts()
    counts.pop('maskrcnn_vitcomer_b')
    with pytest.raises(ValueError, match='maskrcnn_vitcomer_b; run python tools/make_metafiles.py'):
        metafiles.make_files(counts)
    assert set(metafiles.HEADS) == set(HEADS) == {h for s in metafiles.SECTIONS.values() for h in s}


def test_mim_reads_them(monkeypatch):
    monkeypatch.chdir(ROOT)
    index = load('model-index.yml')
    index.build_models_with_collections()
    model = next(m for m in index.models if m.name == 'maskrcnn_vitcomer_b')
    assert model.config == 'configs/maskrcnn_vitcomer_b.py'
    assert model.metadata.data['Pretrained Weights'] == 'dinov2_vitb14'
    assert model.results[0].metrics == {'box AP': 52.0}


def test_every_result_has_its_source(metafiles, models):
    with_results = [model for model in models if 'Results' in model]
    assert len(with_results) > 80
    for model in models:
        about = model['Metadata']
        assert ('Results' in model) == ('Results From' in about) == ('Results URL' in about)
    for model in with_results:
        about = model['Metadata']
        assert about['Results From'] and about['Results Reproduced Here'] is False
        assert about['Results URL'].startswith(('https://arxiv.org/abs/', 'https://github.com/'))


def test_what_is_printed_stands_in_the_config(metafiles):
    """The lines that head a config name its first figure."""
    groups = yaml.safe_load(metafiles.PUBLISHED.read_text())['published']
    for name, values in [row for group in groups for row in group['rows'].items()]:
        lines = Path(config_path(name)).read_text().splitlines()
        head = ' '.join(itertools.takewhile(lambda line: line.startswith('#'), lines))
        assert str(values[0]) in head, f'{name} does not name its {values[0]}'


def test_multiply_adds_are_counted_anew(metafiles):
    counts = metafiles.read_counts()
    for name in ('retinanet_cmt_ti', 'upernet_vit_t', 'imagenet_vitc_1gf'):
        parameters, macs = metafiles.count(name)
        assert parameters == counts[name][0]
        assert macs == pytest.approx(counts[name][1], rel=1e-2), name
    # Of a classifier's backbone they are what the paper prints, 1.1 G (arXiv 2106.14881, Table 1).
    assert counts['imagenet_vitc_1gf'][1] / 1e9 == pytest.approx(1.1, abs=0.05)


@pytest.mark.parametrize(
    'row, message',
    [
        ('maskrcnn_vitcomer_xl: [1.0]', 'no config maskrcnn_vitcomer_xl'),
        ('maskrcnn_vitcomer_b: [1.0]\n    maskrcnn_vitcomer_b_3x: [1.0, 2.0, 3.0]', 'more values'),
    ],
)
def test_what_is_printed_belongs_to_a_config(metafiles, monkeypatch, tmp_path, row, message):
    file = tmp_path / 'published.yml'
    file.write_text(
        'collections: {}\npublished:\n- source: somewhere\n  url: https://arxiv.org/\n'
        f'  metrics: [box AP, mask AP]\n  rows:\n    {row}\n'
    )
    monkeypatch.setattr(metafiles, 'PUBLISHED', file)
    with pytest.raises(ValueError, match=message):
        metafiles.make_files({})
