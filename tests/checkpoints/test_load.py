"""Every published form fills a model completely, or leaves it as it was and says why."""

import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.model import PretrainedInit

from mmhybrid.checkpoints import CheckpointError, load_pretrained, load_weights
from mmhybrid.models.backbones import CMT, ViTAdapter, ViTCoMer
from mmhybrid.testing import Golden, build_original
from tests.checkpoints import published
from tests.checkpoints.published import (
    ARCH,
    DEPTH,
    FORMS,
    HEADS,
    WIDTH,
    build_vit,
    copy_state,
    same_state,
)
from tests.models.backbones.test_cmt import TINY as TINY_CMT

GOLDEN = Path(__file__).resolve().parents[1] / 'golden'
PARTS = {'vit': ''}
OUR_NAMES = {
    'storage_tokens': 'register_tokens',
    'reg_token': 'register_tokens',
    'rel_pos_bias.relative_position_bias_table': 'blocks.0.relative_bias.table',
}
forms = pytest.mark.parametrize('form', FORMS)


def refused(model, checkpoint, **options):
    """The message of a refusal, after which the model is as it was."""
    before = copy_state(model)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, checkpoint, parts=getattr(model, 'pretrained_parts', PARTS), **options)
    assert same_state(model, before)
    return str(error.value)


def used_keys(form):
    """Keys of a form without which its model cannot be filled."""
    state_dict, source, _ = FORMS[form]
    report = load_weights(build_vit(form), state_dict(), parts=PARTS)
    assert report.source.startswith(source)
    free = set(report.unused) | set(report.dropped)
    # The model has its own RoPE periods and its own mask.
    return [k for k in state_dict() if k not in free and not k.endswith(('.periods', '.bias_mask'))]


@forms
def test_fills_every_parameter(form):
    state_dict, source, _ = FORMS[form]
    model = build_vit(form)
    before = copy_state(model)
    report = load_weights(model, state_dict(), parts=PARTS, file='weights.pth')
    assert report.source.startswith(source)
    assert report.percent == 100
    assert not report.resized and not report.untouched
    assert set(report.matched) | set(report.converted) == set(before)
    for name, tensor in model.state_dict().items():
        assert not torch.equal(tensor, before[name]), name
    for name in report.matched:
        assert torch.equal(model.state_dict()[name], state_dict()[name])


@forms
def test_each_missing_key_is_refused(form):
    for key in used_keys(form):
        state_dict = FORMS[form][0]()
        del state_dict[key]
        message = refused(build_vit(form), state_dict)
        place = '.'.join(key.split('.')[:2]) if key.startswith('blocks.') else key
        place = OUR_NAMES.get(place, place)
        if 'no known source' in message:  # it is known by this key
            assert f'{key.rpartition(".")[2]} is missing' in message, message
        elif (form, key) == ('deit3', 'pos_embed'):  # timm's RoPE ViTs have its other keys
            assert 'RoPE' in message
        else:
            assert 'partly filled' in message and place in message, message


@forms
def test_each_renamed_key_is_refused(form):
    for key in used_keys(form):
        state_dict = FORMS[form][0]()
        state_dict[f'{key}_renamed'] = state_dict.pop(key)
        message = refused(build_vit(form), state_dict)
        if 'no known source' in message:
            assert f'{key.rpartition(".")[2]} is missing' in message, message
        elif f'({FORMS[form][1]}' in message:  # without a key by which it is known: another
            assert 'in the file only' in message and 'renamed' in message, message


@forms
def test_each_reshaped_key_is_refused(form):
    for key in used_keys(form):
        for axis in range(FORMS[form][0]()[key].ndim):
            state_dict = FORMS[form][0]()
            state_dict[key] = torch.cat([state_dict[key]] * 2, dim=axis)
            if key == 'patch_embed.proj.weight' and axis > 1:
                continue  # a larger patch: resized
            message = refused(build_vit(form), state_dict)
            assert 'shape' in message or 'partly filled' in message, (key, axis, message)


@forms
@pytest.mark.parametrize('size', [dict(width=64), dict(depth=DEPTH + 1), dict(depth=DEPTH - 1)])
def test_another_architecture_is_named(form, size):
    message = refused(build_vit(form), FORMS[form][0](**size))
    assert 'wrong architecture' in message
    assert f'{size.get("width", WIDTH)} wide, {size.get("depth", DEPTH)} blocks' in message
    assert f'{WIDTH} wide, {DEPTH} blocks' in message


def test_size_is_guessed():
    shapes = published.timm_shapes(width=192, depth=12, patch=16, grid=2)
    message = refused(build_vit(), published.tensors(shapes))
    assert 't/16 (192 wide, 12 blocks)' in message


@pytest.mark.parametrize(
    ('form', 'options', 'advice'),
    [
        ('dinov2', dict(layer_scale=None), 'layer_scale=1.0'),
        ('beit', dict(position='absolute'), "position='relative'"),
        ('deit', dict(dist_token=True), 'dist_token=False'),
        ('deit', dict(num_registers=4), 'num_registers=0'),
        ('dinov2_giant', dict(ffn='mlp'), "ffn='swiglu'"),
        ('dinov3_timm', dict(position='absolute'), "position='rope'"),
    ],
)
def test_option_behind_a_refusal_is_named(form, options, advice):
    assert advice in refused(build_vit(form, **options), FORMS[form][0]())


def test_source_that_always_has_layer_scale_needs_it():
    state_dict = {k: v for k, v in published.dinov2().items() if 'gamma' not in k}
    message = refused(build_vit('dinov2'), state_dict)
    assert f'missing {2 * DEPTH}: blocks.0.ls1.gamma' in message


def test_source_without_layer_scale_has_scales_of_one():
    model = build_vit(layer_scale=0.1)
    report = load_weights(model, published.deit(), parts=PARTS)
    assert len(report.neutral) == 2 * DEPTH
    assert torch.equal(model.blocks[1].ls2.gamma.detach(), torch.ones(WIDTH))
    plain = build_vit()
    load_weights(plain, published.deit(), parts=PARTS)
    image = torch.randn(1, 3, 32, 32)
    assert torch.allclose(model.eval()(image)[0], plain.eval()(image)[0], atol=1e-5)


@pytest.mark.parametrize('form', ['beit', 'beit_pretraining'])
def test_beit_without_layer_scale_has_scales_of_one(form):
    model = build_vit(form)
    state_dict = {k: v for k, v in FORMS[form][0]().items() if '.gamma_' not in k}
    assert len(load_weights(model, state_dict, parts=PARTS).neutral) == 2 * DEPTH


def test_other_classes_begin_anew():
    saved, model = (CMT(TINY_CMT, num_classes=n) for n in (5, 3))
    assert r"fresh=r'head\.fc\.'" in refused(model, saved.state_dict())
    parts = model.pretrained_parts
    report = load_weights(model, saved.state_dict(), parts=parts, fresh=r'head\.fc\.')
    assert set(report.untouched) == {'head.fc.weight', 'head.fc.bias'}


def test_position_biases_of_another_size_name_the_option():
    saved, model = (CMT(TINY_CMT, pretrain_size=size) for size in (64, 96))
    assert 'pretrain_size of the file' in refused(model, saved.state_dict())


def test_batches_need_not_have_been_counted():
    saved, model = CMT(TINY_CMT), CMT(TINY_CMT)
    counts = [k for k in saved.state_dict() if k.endswith('.num_batches_tracked')]
    state_dict = {k: v for k, v in saved.state_dict().items() if k not in counts}
    report = load_weights(model, state_dict, parts=model.pretrained_parts)
    assert list(report.untouched) == counts
    assert same_state(model, saved.state_dict())


def test_deit3_is_not_told_from_vits_with_rope():
    assert 'with RoPE' in str(load_weights(build_vit('deit3'), published.deit3(), parts=PARTS))


def test_tokens_are_dropped_by_option_and_reported():
    model = build_vit('dinov2', class_token=False)
    state_dict = published.dinov2_registers()
    report = load_weights(model, state_dict, parts=PARTS)
    assert report.dropped['cls_token'] == 'class_token=False'
    assert report.dropped['register_tokens'] == 'num_registers=0'
    assert torch.equal(model.pos_embed, state_dict['pos_embed'][:, 1:])

    model = build_vit()
    load_weights(model, state_dict := published.deit_distilled(), parts=PARTS)
    rows = torch.cat([state_dict['pos_embed'][:, :1], state_dict['pos_embed'][:, 2:]], dim=1)
    assert torch.equal(model.pos_embed, rows)


def test_class_token_of_a_relative_table_is_dropped():
    model = build_vit('beit', class_token=False)
    load_weights(model, state_dict := published.beit(), parts=PARTS)
    table = state_dict['blocks.0.attn.relative_position_bias_table']
    assert torch.equal(model.blocks[0].relative_bias.table, table[:-3])


def test_another_patch_and_image_size():
    model = build_vit('dinov2', patch_size=10, pretrain_size=60)
    report = load_weights(model, published.dinov2(), parts=PARTS, patch_resize='pseudo_inverse')
    assert set(report.resized) == {'pos_embed', 'patch_embed.proj.weight'}
    assert '4x4 -> 6x6 grid' in report.resized['pos_embed']
    assert '8x8 -> 10x10 pixels, pseudo_inverse' in report.resized['patch_embed.proj.weight']

    model = build_vit('beit', pretrain_size=24)
    report = load_weights(model, published.beit(), parts=PARTS)
    assert len(report.resized) == DEPTH


def test_positions_on_a_grid_that_is_no_square():
    state_dict = published.deit()
    state_dict['pos_embed'] = torch.randn(1, 1 + 2 * 12, WIDTH)
    state_dict['pos_embed'][:, 1:13] = 1.0
    state_dict['pos_embed'][:, 13:] = -1.0
    model = build_vit()
    report = load_weights(model, state_dict, parts=PARTS, position_grid=(2, 12))
    assert '2x12 -> 4x4' in report.resized['pos_embed']
    rows = model.pos_embed[0, 1:].view(4, 4, WIDTH)
    assert (rows[0] > 0.9).all() and (rows[3] < -0.9).all()
    state_dict['pos_embed'] = torch.randn(1, 1 + 2 * 9, WIDTH)
    message = refused(build_vit(), state_dict)
    assert 'position_grid=(height, width)' in message


def test_image_channels_go_where_the_user_says():
    model = build_vit(in_channels=4)
    message = refused(model, published.deit())
    assert 'rgb_channels=(0, 1, 2)' in message and 'the file has 3 image channels' in message
    load_weights(model, state_dict := published.deit(), parts=PARTS, rgb_channels=(3, 1, 0))
    weight, rgb = model.patch_embed.proj.weight, state_dict['patch_embed.proj.weight']
    assert torch.equal(weight[:, [3, 1, 0]], rgb)
    assert not weight[:, 2].any()

    grey = build_vit(in_channels=1)
    load_weights(grey, published.deit(), parts=PARTS, rgb_channels=(0, 0, 0))
    rgb = build_vit()
    load_weights(rgb, published.deit(), parts=PARTS)
    image = torch.randn(1, 1, 32, 32)
    assert torch.allclose(grey(image)[0], rgb(image.repeat(1, 3, 1, 1))[0], atol=1e-2)

    assert 'must name' in refused(build_vit(in_channels=1), published.deit(), rgb_channels=(0, 1))


def test_image_channels_in_another_order():
    model = build_vit()
    report = load_weights(model, published.deit(), parts=PARTS, rgb_channels=(2, 1, 0))
    weight, rgb = model.patch_embed.proj.weight, published.deit()['patch_embed.proj.weight']
    assert torch.equal(weight[:, [2, 1, 0]], rgb)
    assert 'image channels (2, 1, 0) of 3' in report.resized['patch_embed.proj.weight']
    assert 'must name' in refused(build_vit(), published.deit(), rgb_channels=(2, 1, 'x'))


def test_another_number_of_heads_is_seen_by_rope():
    model = build_vit('dinov3', arch=dict(ARCH, num_heads=1))
    assert 'another number of heads' in refused(model, published.dinov3())


WRAPPERS = {
    'state_dict': lambda s: {'state_dict': s, 'meta': {'epoch': 1}},
    'model': lambda s: {'model': s, 'optimizer': {'state': {}}},
    'module': lambda s: {'module': s},
    'data parallel': lambda s: {f'module.{k}': v for k, v in s.items()},
    'compiled': lambda s: {f'_orig_mod.{k}': v for k, v in s.items()},
    'inside': lambda s: {
        'backbone.'
        + k.replace('blocks.1.', 'blocks.1._orig_mod._checkpoint_wrapped_module.')
        .replace('blocks.2.', '_fsdp_wrapped_module.blocks.2.module.')
        .replace('.attn.qkv.', '.attn.module.qkv._orig_mod.'): v
        for k, v in s.items()
    },
    'dino training': lambda s: {
        'student': {f'backbone.{k}': v + 1 for k, v in s.items()},
        'teacher': {f'backbone.{k}': v for k, v in s.items()} | {'dino_head.w': torch.ones(1)},
    },
    'dino keys': lambda s: {
        'model': {f'student.backbone.{k}': v + 1 for k, v in s.items()}
        | {f'teacher.backbone.{k}': v for k, v in s.items()}
    },
    'detector': lambda s: {
        'state_dict': {f'backbone.{k}': v for k, v in s.items()}
        | {
            'neck.lateral_convs.0.conv.weight': torch.ones(2),
            'rpn_head.rpn_cls.bias': torch.ones(2),
        }
    },
    'encoder': lambda s: {f'encoder.{k}': v for k, v in s.items()},
    'ema': lambda s: {'state_dict_ema': s},
    'pycls': lambda s: {'epoch': 9, 'model_state': s, 'ema_state': s, 'cfg': 'MODEL: ...'},
}


@pytest.mark.parametrize('form', ['deit', 'dinov2_registers', 'dinov3', 'beit'])
@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrappers_are_opened(form, wrapper):
    plain, wrapped = build_vit(form), build_vit(form)
    state_dict = FORMS[form][0]()
    load_weights(plain, state_dict, parts=PARTS)
    report = load_weights(wrapped, WRAPPERS[wrapper](state_dict), parts=PARTS)
    assert same_state(wrapped, plain.state_dict())
    assert report.percent == 100


def test_entry_and_prefix_can_be_given():
    first, second = published.deit(), {k: v + 1 for k, v in published.deit().items()}
    model = build_vit()
    load_weights(model, checkpoint := {'state_dict': first, 'ema': second}, parts=PARTS)
    assert torch.equal(model.cls_token, first['cls_token'])
    load_weights(model, checkpoint, parts=PARTS, entry='ema')
    assert torch.equal(model.cls_token, second['cls_token'])
    prefixed = {f'odd.{k}': v for k, v in first.items()}
    assert 'of no known source' in refused(model, prefixed)
    load_weights(model, prefixed, parts=PARTS, prefix='odd.')
    assert torch.equal(model.cls_token, first['cls_token'])
    load_weights(model, {f'odd.{k}': v for k, v in second.items()}, parts=PARTS, prefix='odd')
    assert torch.equal(model.cls_token, second['cls_token'])
    assert "no key starts with prefix='even.'" in refused(model, prefixed, prefix='even.')
    assert "no entry 'swa'" in refused(model, checkpoint, entry='swa')


def test_unknown_weights_are_refused():
    resnet = published.tensors({'conv1.weight': (4, 3, 7, 7), 'layer1.0.bn1.weight': (4,)})
    message = refused(build_vit(), resnet)
    assert 'of no known source' in message and 'conv1.weight' in message and 'DINOv2' in message
    names = [f'interactions.{i}.mixer.attn.proj{j}.weight' for i in range(4) for j in range(12)]
    adapter = published.tensors({'spm.stem.0.weight': (4, 3, 3, 3)} | dict.fromkeys(names, (1,)))
    adapter |= published.deit()
    assert 'of no known source' in refused(build_vit(), adapter)
    for empty in ({}, {'state_dict': {}}, {'epoch': 3}, [torch.ones(1)], None):
        assert 'no weights in it' in refused(build_vit(), empty)
    elsewhere = {'epoch': 3, 'network': published.deit()}
    assert "give 'network' as the option entry" in refused(build_vit(), elsewhere)
    two = {'model': published.deit(), 'model_ema': published.deit()}
    assert "entry='model_ema'" in str(load_weights(build_vit(), two, parts=PARTS))


def test_unknown_options_raise():
    model = build_vit()
    with pytest.raises(TypeError, match='strict'):
        load_weights(model, published.deit(), parts=PARTS, strict=False)
    with pytest.raises(ValueError, match='patch_resize'):
        load_weights(model, published.deit(), parts=PARTS, patch_resize='nearest')
    with pytest.raises(ValueError, match='extra_channels'):
        load_weights(model, published.deit(), parts=PARTS, extra_channels='noise')


def test_half_precision_files_load():
    state_dict = {k: v.bfloat16() for k, v in published.dinov2().items()}
    model = build_vit('dinov2', patch_size=10)
    load_weights(model, state_dict, parts=PARTS)
    assert model.norm.__class__ is torch.nn.Identity
    assert model.blocks[0].attn.qkv.weight.dtype == torch.float32
    assert torch.equal(
        model.blocks[0].attn.qkv.weight, state_dict['blocks.0.attn.qkv.weight'].float()
    )


def tiny_vit_comer(**vit):
    options = dict(patch_size=16, pretrain_size=64, layer_scale=1.0) | vit
    arch = dict(embed_dims=WIDTH, depth=4, num_heads=HEADS)
    return ViTCoMer(arch, vit=options, windows=0, stem_channels=8, deform_heads=2, num_points=1)


def test_the_vit_inside_vit_comer_is_filled_from_dinov2():
    model = tiny_vit_comer()
    before = copy_state(model)
    state_dict = published.dinov2_registers(depth=4, patch=14)
    report = load_weights(model, state_dict, parts=model.pretrained_parts)
    assert report.part == 'vit.' and report.percent == 100
    inside = [name for name in before if name.startswith('vit.')]
    assert len(inside) > 40
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (not name.startswith('vit.')), name
    assert set(report.untouched) == set(before) - set(inside)
    assert model.vit.patch_embed.proj.weight.shape[-2:] == (16, 16)
    gamma = state_dict['blocks.3.ls2.gamma']
    assert torch.equal(model.vit.blocks[3].ls2.gamma, gamma)


@pytest.mark.parametrize('wrap', [lambda s: s, WRAPPERS['detector']])
def test_own_files_fill_the_whole_model(wrap):
    saved, model = tiny_vit_comer(), tiny_vit_comer()
    state_dict = {k: torch.rand_like(v.float()).to(v.dtype) for k, v in copy_state(saved).items()}
    report = load_weights(model, wrap(state_dict), parts=model.pretrained_parts)
    assert report.source == 'mmhybrid' and report.part == '' and not report.untouched
    assert same_state(model, state_dict)
    for key in list(state_dict)[::20]:
        broken = dict(state_dict)
        del broken[key]
        assert key in refused(model, wrap(broken))
    resized = tiny_vit_comer(pretrain_size=96)
    report = load_weights(resized, wrap(state_dict), parts=model.pretrained_parts)
    assert '4x4 -> 6x6' in report.resized['vit.pos_embed']


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
def test_levels_that_do_not_come_out_are_dropped(backbone):
    arch = dict(embed_dims=48, depth=4, num_heads=3, stem_channels=4, windows=0)
    all_levels, two = (backbone(arch, out_indices=levels) for levels in ((0, 1, 2, 3), (1, 3)))
    report = load_weights(two, copy_state(all_levels), parts=two.pretrained_parts)
    assert report.dropped['norms.2.weight'] == report.dropped['upsample.weight'] == 'out_indices'
    assert same_state(two, copy_state(all_levels))
    assert 'try out_indices' in refused(all_levels, copy_state(two))


def test_a_family_the_model_does_not_take_is_refused():
    official = published.deit() | published.tensors(
        {'spm.stem.0.weight': (4, 3, 3, 3), 'interactions.0.cti_toc.query_norm.weight': (WIDTH,)}
    )
    message = refused(build_vit(), official)
    assert 'ViT-CoMer checkpoint' in message and 'ViT takes vit' in message


def test_report_is_logged_once_and_readable(tmp_path, caplog):
    path = tmp_path / 'weights.pth'
    torch.save({'model': published.dinov2_registers()}, path)
    model = build_vit('dinov2', pretrain_size=48)
    with caplog.at_level(logging.INFO, 'mmhybrid'):
        report = load_pretrained(model, path, parts=PARTS)
    assert caplog.messages == [str(report)]
    lines = dict(line.strip().split('  ', 1) for line in str(report).splitlines()[1:])
    lines = {label: text.strip() for label, text in lines.items()}
    assert lines['file'] == f'{path} [model]'
    assert lines['source'].startswith('DINOv2') and f'{WIDTH} wide' in lines['source']
    assert lines['into'].startswith('ViT, 100.0 %')
    assert lines['resized'] == 'pos_embed: 4x4 -> 6x6 grid, bicubic'
    assert 'register_tokens: num_registers=0' in lines['dropped by option']
    assert lines['unused'] == '1: mask_token'


@pytest.mark.parametrize(
    'kind', ['Pretrained', 'mmengine.Pretrained', 'PretrainedInit', PretrainedInit]
)
def test_init_cfg_loads(tmp_path, kind):
    path = tmp_path / 'weights.pth'
    torch.save(published.deit(), path)
    options = dict(type=kind, checkpoint=str(path), map_location='cpu')
    model = build_vit(init_cfg=options)
    model.init_weights()
    assert torch.equal(model.cls_token, published.deit()['cls_token'])
    torch.save({k: v for k, v in published.deit().items() if k != 'cls_token'}, path)
    with pytest.raises(CheckpointError, match='missing 1: cls_token'):
        build_vit(init_cfg=[options]).init_weights()


def test_init_cfg_has_no_option_to_be_lenient(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(published.deit(), path)
    model = build_vit(init_cfg=dict(type='Pretrained', checkpoint=str(path), strict=False))
    with pytest.raises(TypeError, match='strict'):
        model.init_weights()


@pytest.mark.parametrize('wrap', [str, lambda path: [path]])
def test_init_cfg_that_is_a_path(wrap, tmp_path):
    with pytest.raises(TypeError, match=r"init_cfg has .*expected a dict.*type='Pretrained'"):
        build_vit(init_cfg=wrap(tmp_path / 'weights.pth')).init_weights()


def test_official_vit_comer_fills_the_whole_model():
    golden = Golden(GOLDEN / 'tiny_vitcomer_options.json')
    state_dict = golden.state_dict()
    model = build_original(golden)
    report = load_weights(model, {'state_dict': state_dict}, parts=model.pretrained_parts)
    assert report.source == 'ViT-CoMer' and report.percent == 100
    assert report.part == '' and not report.untouched

    filled = copy_state(model)
    refusals = 0
    for key in list(state_dict)[::3]:
        broken = dict(state_dict)
        del broken[key]
        model = build_original(golden)
        try:
            load_weights(model, broken, parts=model.pretrained_parts)
        except CheckpointError as error:
            refusals += 1
            assert 'partly filled' in str(error) and 'missing 1' in str(error), key
        else:  # the original has parameters that it never uses
            assert same_state(model, filled), key
    assert refusals > 60

    renamed = {k.replace('cti_toc', 'cti_to_c'): v for k, v in state_dict.items()}
    message = refused(build_original(golden), renamed)
    assert 'ViT-CoMer, but interactions.' in message and 'cti_to_c' in message
    reshaped = state_dict | {'up.weight': torch.zeros(4, 4, 2, 2)}
    assert 'upsample.weight: (4, 4, 2, 2) in the file' in refused(build_original(golden), reshaped)
    wide = {k: torch.cat([v, v]) if v.ndim else v for k, v in state_dict.items()}
    assert 'wrong architecture' in refused(build_original(golden), wide)


@pytest.mark.parametrize('name', ['tiny_vitcomer_options', 'tiny_vitadapter_light'])
def test_whole_adapters_fill_those_of_fewer_levels(name, monkeypatch):
    golden = Golden(GOLDEN / f'{name}.json')
    whole = build_original(golden)
    load_weights(whole, golden.state_dict(), parts=whole.pretrained_parts)
    image = golden.image()
    for cls in (ViTCoMer, ViTAdapter):
        fewer = partial(cls, out_indices=(1, 3))
        monkeypatch.setattr(f'mmhybrid.testing.originals.{cls.__name__}', fewer)
    for state_dict in (golden.state_dict(), whole.state_dict()):  # the authors' form and ours
        model = build_original(golden)
        report = load_weights(model, state_dict, parts=model.pretrained_parts)
        assert report.percent == 100 and set(report.dropped.values()) == {'out_indices'}
        for got, expected in zip(model(image), whole(image)[1::2], strict=True):
            torch.testing.assert_close(got, expected)


def test_swiglu_without_bias():
    state_dict = {k: v for k, v in published.dinov3_swiglu().items() if not _is_ffn_bias(k)}
    model = published.build_vit('dinov3_swiglu', ffn_bias=False)
    assert load_weights(model, state_dict, parts={'vit': ''}).percent == 100
    with pytest.raises(CheckpointError, match='ffn_bias=False'):
        load_weights(published.build_vit('dinov3_swiglu'), state_dict, parts={'vit': ''})
    with pytest.raises(CheckpointError, match='ffn_bias=True'):
        load_weights(model, published.dinov3_swiglu(), parts={'vit': ''})


def _is_ffn_bias(key):
    return '.mlp.' in key and key.endswith('.bias')


def test_advice_on_the_kind_of_network_alone():
    with pytest.raises(CheckpointError) as error:
        load_weights(published.build_vit(), published.dinov2_giant(), parts={'vit': ''})
    assert "ffn='swiglu'" in str(error.value) and 'ffn_bias' not in str(error.value)
