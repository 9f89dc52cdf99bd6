import json

import cv2
import pytest
import torch


def test_a_config(tool, job, tmp_path, capsys):
    config, options = job(
        'mmdet',
        'model.backbone.frozen_stages=1',
        'optim_wrapper.constructor=mmhybrid.LayerDecayOptimWrapperConstructor',
        'optim_wrapper.paramwise_cfg._delete_=True',
        'optim_wrapper.paramwise_cfg.layer_decay_rate=0.5',
    )
    model = tool('models').open_model(config).model
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=3)), tmp_path / 'a.pth')
    arguments = [config, '--size', '64', '96', '--out', 'out', '--checkpoint', 'a.pth']
    facts = tool('analyze').main([*arguments, *options])
    output = capsys.readouterr().out

    params = sum(p.numel() for p in model.parameters())
    vit = model.backbone.vit
    frozen = [*vit.patch_embed.parameters(), vit.pos_embed, *vit.blocks[0].parameters()]
    assert facts['costs']['params'] == params
    assert facts['costs']['frozen'] == sum(p.numel() for p in frozen)
    assert facts['costs']['macs'] > 0 and facts['costs']['kept'] > 0
    assert f'{sum(facts["launches"].values())} in a training step: ' in output
    assert facts['launches']['aten::convolution_backward'] > 0
    children = {child['name']: child for child in facts['costs']['children']}
    assert set(children) == {'data_preprocessor', 'backbone', 'neck', 'rpn_head', 'roi_head'}
    for name in ('backbone', 'neck', 'rpn_head', 'roi_head'):
        assert children[name]['macs'] > 0, name
    expected = ['backbone.vit.pos_embed', 'backbone.vit.patch_embed', 'backbone.vit.blocks.0']
    assert sorted(facts['frozen']) == sorted(expected)

    rates = {(row['part'], row['depth']): row['rates'] for row in facts['learning_rates']}
    # Four blocks make six depths: the embeddings and the first block are frozen.
    assert rates == {
        **{('backbone', depth): [1e-3 * 0.5 ** (5 - depth)] for depth in (2, 3, 4, 5)},
        **{(part, None): [1e-3] for part in ('neck', 'rpn_head', 'roi_head')},
    }
    assert 'backbone, depth 2' in output and '0.000125' in output
    assert 'all of its' in output and 'epoch 3' in output
    assert json.loads((tmp_path / 'out/tiny_mmdet.json').read_text()) == facts
    for kind in ('costs', 'learning_rates'):
        picture = cv2.imread(str(tmp_path / f'out/tiny_mmdet_{kind}.png'))
        assert picture.shape[1] > 500 and picture.std() > 10


def test_like_siblings_are_one_row(tool, capsys):
    facts = tool('analyze').main(['vit_t', '--size', '32', '64', '--depth', '2'])
    output = capsys.readouterr().out
    assert '0 to 11' in output and '12 x Block' in output
    blocks = next(c for c in facts['costs']['children'] if c['name'] == 'blocks')
    assert len(blocks['children']) == 12
    assert facts['frozen'] == [] and 'learning_rates' not in facts


def test_what_light_recomputation_keeps_is_not_counted(tool, capsys):
    main = tool('analyze').main
    light = main(["vit_t,with_cp='light'", '--size', '32', '32'])
    assert "without the results that with_cp='light' keeps" in capsys.readouterr().out
    whole = main(['vit_t,with_cp=True', '--size', '32', '32'])
    assert "with_cp='light'" not in capsys.readouterr().out
    assert light['costs']['kept'] == whole['costs']['kept']
    assert sum(light['launches'].values()) < sum(whole['launches'].values())


def test_published_weights_are_reported(tool, tmp_path, capsys):
    import mmhybrid

    model = mmhybrid.build_backbone('cmt_ti')
    torch.save(model.state_dict(), tmp_path / 'own.pth')
    main = tool('analyze').main
    main(['cmt_ti', '--size', '64', '64', '--checkpoint', 'own.pth'])
    assert '100.0 %' in capsys.readouterr().out
    state = dict(tool('models').open_model('timm:resnet18').model.state_dict())
    state.pop('conv1.weight')
    torch.save(state, tmp_path / 'foreign.pth')
    main(['timm:resnet18', '--size', '64', '64', '--checkpoint', 'foreign.pth'])
    output = capsys.readouterr().out
    assert 'missing           1: conv1.weight' in output and 'of its values' in output


def test_bad_input(tool, job, tmp_path, capsys):
    main = tool('analyze').main
    config, options = job('mmpretrain')
    with pytest.raises(ValueError, match='names no pretrained weights'):
        main([config, '--checkpoint', 'pretrained', *options])
    with pytest.raises(ValueError, match='for configs: give a file'):
        main(['vit_t', '--checkpoint', 'pretrained'])
    with pytest.raises(ValueError, match='checkpoint not found: nothing.pth'):
        main([config, '--checkpoint', 'nothing.pth', *options])
    with pytest.raises(ValueError, match='fails at --size 32x32 and --batch 1: Expected more than'):
        main(['cmt_ti', '--size', '32', '32'])
    with pytest.raises(SystemExit):
        main(['vit_t', '--size', '16', '64'])
    assert '--size is at least 32 32' in capsys.readouterr().err
    assert not list(tmp_path.glob('work_dirs/**/*.png'))
