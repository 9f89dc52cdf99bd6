"""The pictures of visualize.py: that they are drawn of what was asked, and not otherwise."""

import cv2
import pytest


@pytest.fixture
def image(data):
    return str(next((data / 'images/val').iterdir()))


def test_all_pictures_of_an_adapter_beside_another_backbone(tool, job, image, tmp_path, capsys):
    config, options = job('mmseg')
    names = [config, 'timm:test_vit']
    written = tool('visualize').main([*names, '--image', image, '--out', 'out', *options])
    stem = 'tiny_mmseg'
    kinds = ('attention', 'heads', 'exchange', 'points')
    expected = {'features', 'field', 'timm_test_vit_attention', 'timm_test_vit_heads'}
    expected |= {f'{stem}_{kind}' for kind in kinds}
    assert {path.stem for path in written} == expected
    assert {path.stem for path in (tmp_path / 'out').iterdir()} == expected
    for path in written:
        picture = cv2.imread(str(path))
        assert min(picture.shape[:2]) > 150 and picture.std() > 10
        border = [picture[0], picture[-1], picture[:, 0], picture[:, -1]]
        assert all((edge == 255).all() for edge in border), f'{path.name} is cut off'
    told = capsys.readouterr()
    assert 'no exchange of timm_test_vit' in told.err and 'no points of timm_test_vit' in told.err
    assert told.out.count('.png') == len(expected)


def test_only_what_is_asked_of_a_trained_model(tool, job, image, tmp_path):
    import torch

    config, options = job('mmdet')
    models = tool('models')
    model = models.open_model(config).model
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    arguments = ['--image', image, '--size', '64', '64', '--weights', 'a.pth', '--at', '0.2', '0.7']
    written = tool('visualize').main([config, *arguments, '--show', 'points,field', *options])
    assert [path.name for path in written] == ['tiny_mmdet_points.png', 'field.png']
    looked = models.open_model(config, 'a.pth')
    assert looked.weights == 'a.pth' and looked.backbone is looked.model.backbone
    for key, value in model.state_dict().items():
        assert torch.equal(looked.model.state_dict()[key].cpu(), value.cpu())


def test_names_with_arguments(tool):
    split_name = tool('models').split_name
    assert split_name('vit_s') == ('vit_s', {})
    name, options = split_name('x,a=(1,2),b=dict(c=3,d="e"),f=g,h=None')
    assert (name, options) == ('x', dict(a=(1, 2), b=dict(c=3, d='e'), f='g', h=None))
    assert split_name('x,a=[(1,2),(3,4)],b=5') == ('x', dict(a=[(1, 2), (3, 4)], b=5))


def test_host_backbones_and_their_divisor(tool):
    open_model = tool('models').open_model
    looked = open_model('mmdet.ResNet,depth=18')
    assert type(looked.backbone).__name__ == 'ResNet' and not looked.backbone.training
    assert looked.divisor == 32
    assert open_model('vit_t,patch_size=14,pretrain_size=224').divisor == 14


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['vit_xxl'], "no backbone 'vit_xxl'"),
        (['vit_t,patchsize=3'], "no argument 'patchsize'; did you mean 'patch_size'"),
        (['vit_t,3'], "expected name=value after the comma, got '3'"),
        (['timm:resnet_nothing'], "timm has no 'resnet_nothing'"),
        (['vit_t,arch=s'], 'vit_t,arch=...: a name stands for its arch; give .* vit_s'),
        (['mmdet.ResNet,depth=51'], 'mmdet.ResNet: KeyError: invalid depth 51'),
        (['mmdet.Nothing'], "mmdet has no backbone 'Nothing'"),
        (['configs/demo_maskrcnn.py'], 'config not found'),
    ],
)
def test_bad_names(arguments, message, tool, image):
    with pytest.raises(ValueError, match=message):
        tool('visualize').main([*arguments, '--image', image])


@pytest.mark.parametrize(
    'arguments',
    [
        ['--show', 'features,dreams'],
        ['--at', '0.5', '1.5'],
        ['--size', '16', '64'],
        ['--weights', 'a.pth', 'b.pth'],
        ['--cfg-options', 'data_root=x'],
    ],
)
def test_bad_arguments(arguments, tool, image, capsys):
    with pytest.raises(SystemExit):
        tool('visualize').main(['vit_t', '--image', image, *arguments])
    assert f'error: {arguments[0]}' in capsys.readouterr().err


def test_bad_images_and_models_without_maps(tool, image, tmp_path):
    main = tool('visualize').main
    with pytest.raises(ValueError, match='image not found: nothing.jpg'):
        main(['vit_t', '--image', 'nothing.jpg'])
    (tmp_path / 'a.jpg').write_text('text')
    with pytest.raises(ValueError, match='a.jpg cannot be read as an image'):
        main(['vit_t', '--image', 'a.jpg'])
    with pytest.raises(ValueError, match='ViT.* gives no maps|no maps .* out_indices'):
        main(
            ['mmpretrain.VisionTransformer,arch=deit-tiny', '--image', image, '--show', 'features']
        )
