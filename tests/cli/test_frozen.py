"""Own images on a frozen ViT: the weights tell the model, and a training goes on and is used."""

import pytest
import torch
from mmengine.config import Config

from mmhybrid.models.backbones import ViT

COMMON = (
    *('max_iters=2', 'image_size=96,64', 'train_dataloader.batch_size=2'),
    *(f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')),
)
HEADS = dict(
    linearseg_vit_s_frozen_custom=('classes=7', 'crop_size=64,64'),
    dino_vitcomer_s_frozen_custom=(
        *('model.num_queries=20', 'model.encoder.num_layers=1', 'model.decoder.num_layers=1'),
        *('model.dn_cfg.group_cfg.num_dn_queries=10', 'model.test_cfg.max_per_img=10'),
    ),
)


@pytest.mark.parametrize('name', HEADS)
def test_own_images(name, tool, data, tmp_path):
    vit = ViT('dinov3_t', final_norm=True)
    torch.save(vit.state_dict(), tmp_path / 'weights.pth')
    train = [name, '--data', str(data), '--weights', str(tmp_path / 'weights.pth')]
    train += ['--work-dir', 'out', '--cfg-options', *COMMON, *HEADS[name]]
    runner = tool('train').main(train)

    saved = Config.fromfile(f'out/{name}.py')
    assert 'vit' not in saved and '_backbone' not in saved
    weights = torch.load('out/iter_2.pth', weights_only=False)['state_dict']
    prefix = 'backbone.vit.' if 'vitcomer' in name else 'backbone.'
    for key in ('blocks.11.mlp.fc2.weight', 'register_tokens'):
        assert torch.equal(weights[prefix + key], vit.state_dict()[key])

    runner = tool('train').main([*train, 'max_iters=3', '--resume'])
    assert runner.iter == 3
    tool('infer').main([f'out/{name}.py', 'out', str(data / 'images/val')])
    assert len(list((tmp_path / 'out/infer').rglob('*.jpg'))) == 2
