"""`--lora` from the training to everything that reads its checkpoints."""

from pathlib import Path

import pytest
import torch

import mmhybrid
from mmhybrid.cli.convert_weights import main as convert
from mmhybrid.engine import read_checkpoint
from mmhybrid.lora import is_of_lora
from mmhybrid.models.backbones import ViT

from .test_bad_input import fails

pytest.importorskip('peft')
ARCH = dict(embed_dims=24, depth=4, num_heads=2, class_token=False, layer_scale=1.0)


@pytest.fixture
def weights(tmp_path):
    """The file of a ViT that fits the small jobs."""
    torch.manual_seed(1)
    path = tmp_path / 'vit.pth'
    torch.save(ViT(ARCH).state_dict(), path)
    return path


def frozen_names(path):
    names = read_checkpoint(path)['state_dict']
    return [name for name in names if '.vit.' in name and not is_of_lora(name)]


def test_from_a_training_to_files(tool, job, weights, data, tmp_path, capsys):
    config, options = job('mmpretrain', 'optim_wrapper.optimizer.lr=0.01')
    arguments = [config, '--lora', '2', '--weights', str(weights), '--work-dir', 'work']
    runner = tool('train').main([*arguments, *options])
    said = capsys.readouterr().out
    assert f'not in the checkpoint, but in {weights}; mmhybrid convert --merge-lora' in said
    checkpoint, config = 'work/epoch_1.pth', f'work/{Path(config).name}'
    assert frozen_names(checkpoint) == []
    learned = {k: v for k, v in read_checkpoint(checkpoint)['state_dict'].items() if is_of_lora(k)}
    assert learned and all(value.any() for value in learned.values())
    assert {name.split('.')[-4] for name in learned} == {'qkv', 'proj'}

    image = next(Path(data).rglob('*.jpg'))
    expected = mmhybrid.predict('work', image)[0].scores
    assert convert([checkpoint, 'merged.pth']) == 1 and not Path('merged.pth').exists()
    assert convert([checkpoint, 'merged.pth', '--merge-lora', config]) == 0
    merged = read_checkpoint('merged.pth')
    assert not any(map(is_of_lora, merged['state_dict']))
    classes = merged['meta']['dataset_meta']['classes']
    assert classes == runner.train_dataloader.dataset.metainfo['classes']
    without = {'model.backbone.lora': None}
    found = mmhybrid.predict(config, image, 'merged.pth', cfg_options=without)[0].scores
    assert found == pytest.approx(expected, rel=1e-4)

    weights.unlink()
    fails(tool('test').main, [config, checkpoint], 'holds LoRA', 'vit.pth')


@pytest.mark.parametrize(
    'options, settings, parts',
    [
        (['--lora', '0'], [], ['--lora 0', 'at least 1']),
        (['--lora', '2'], ['model.backbone.type=mmhybrid.CMT'], ['CMT has no lora; it takes']),
        (['--lora', '2'], [], ['random ones', '--weights']),
    ],
)
def test_what_is_refused(options, settings, parts, tool, job):
    config, settings = job('mmseg', *settings)
    fails(tool('train').main, [config, *options, *settings], *parts)


def test_without_peft(tool, job, monkeypatch):
    config, settings = job('mmseg')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    fails(tool('train').main, [config, '--lora', '2', *settings], 'pip install mmhybrid[lora]')


def test_it_goes_on_from_a_config(tool, job, weights):
    config, settings = job('mmseg', 'model.backbone.freeze=vit')
    train = tool('train')
    with open(config, 'a') as file:
        file.write("model['backbone']['lora'] = dict(r=4, alpha=4)\n")
    args = train.parse_args([config, '--lora', '2', '--weights', str(weights), *settings])
    cfg = train.load_config(args)
    train._apply(args, cfg)
    backbone = cfg.model.backbone
    assert (backbone.lora, backbone['freeze']) == (dict(r=2, alpha=4), None)


def test_what_analyze_says(tool, capsys):
    facts = tool('analyze').main(['vit_t,lora=dict(r=2)', '--size', '32', '64'])
    learned = 12 * 2 * ((192 + 3 * 192) + (192 + 192))  # A and B of qkv and proj
    assert facts['costs']['params'] - facts['costs']['frozen'] == learned
    output = capsys.readouterr().out
    assert f'trained                 {learned / 1e6:.3f} M of ' in output
    assert 'blocks.0-11.norm1, blocks.0-11.attn.qkv.base_layer, ' in output
