"""The recipes of a frozen ViT: each is built for any ViT, steps, evaluates and resumes."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmhybrid import config_path
from mmhybrid.checkpoints import OFFICIAL_FILES, CheckpointError
from mmhybrid.cli.usage import UsageError
from mmhybrid.cli.vit import find_vit, fit_vit, official_weights
from mmhybrid.data.fit import _set_num_classes
from mmhybrid.models.backbones import ViT
from mmhybrid.testing.tasks import ConfigTask
from tests.configs.test_configs import build_model
from tests.configs.test_one_step import NARROW
from tools._zoo import NAME, config_names

RECIPES = [name.removesuffix('.py') for name in config_names() if '_frozen' in name]
SIZES = [
    *(f'dinov2_{size}{kind}' for size in 'sblg' for kind in ('', '_reg')),
    *(f'dinov3_{size}' for size in ('s', 'splus', 'b', 'l', 'lplus', 'hplus', '7b')),
]
# One of each pair of head and backbone; on other data sets only the number of classes differs.
STEPPED = [name for name in RECIPES if 'cityscapes' not in name and not name.endswith('_custom')]


def save(vit, path):
    torch.save(vit.state_dict(), path)
    return str(path)


def fitted(name, vit, weights=None):
    cfg = Config.fromfile(config_path(name))
    cfg.vit = vit
    fit_vit(cfg, weights)
    return cfg


def test_every_recipe_is_here():
    found = {
        (NAME.fullmatch(f'{it}.py')['head'], NAME.fullmatch(f'{it}.py')['family']) for it in RECIPES
    }
    assert found >= {
        *(('linearseg', 'vit'), ('upernet', 'vit'), ('upernet', 'sta')),
        *(('mask2former', 'vitadapter'), ('mask2former', 'vitcomer')),
        *(('maskrcnn', 'vitcomer'), ('dino', 'vitcomer'), ('maskrcnn', 'sta'), ('dino', 'sta')),
    }
    for head, family in found:
        of_pair = [it for it in RECIPES if it.startswith(f'{head}_{family}_')]
        assert any(it.endswith('_custom') for it in of_pair)
        data = 'cityscapes' if head in ('linearseg', 'upernet', 'mask2former') else 'frozen'
        assert any(it.endswith(data) for it in of_pair)


@pytest.mark.parametrize('name', RECIPES)
def test_the_vit_is_frozen_and_whole(name):
    """Global attention and all tokens, as the weights learned it; nothing is injected into it."""
    cfg = Config.fromfile(config_path(name))
    assert cfg.vit == 'dinov3_s' == cfg.model.backbone.get('vit', cfg.model.backbone).arch
    with torch.device('meta'):
        backbone = MODELS.build(cfg.model.backbone)
    vit = getattr(backbone, 'vit', backbone)
    assert not any(p.requires_grad for p in vit.parameters())
    assert not any(vit.windows) and vit.num_prefix_tokens == 5
    assert all(getattr(it, 'injector', None) is None for it in getattr(backbone, 'stages', ()))
    assert all(getattr(it, 'to_vit', None) is None for it in getattr(backbone, 'stages', ()))


@pytest.mark.parametrize(
    ('name', 'vit'),
    [
        *(('linearseg_vit_s_dinov3_frozen', vit) for vit in SIZES),
        *((name, 'dinov3_7b') for name in STEPPED),
    ],
)
def test_every_size_is_built(name, vit):
    cfg = fitted(name, vit)
    assert 'vit' not in cfg and not [key for key in cfg if key.startswith('_backbone')]
    assert cfg.model.backbone.init_cfg.checkpoint in OFFICIAL_FILES
    model = build_model(cfg)
    backbone = getattr(model.backbone, 'vit', model.backbone)
    own = ViT.resolve_arch(vit)
    assert (backbone.embed_dims, backbone.depth) == (own.embed_dims, own.depth)
    assert backbone.num_prefix_tokens == 1 + own.num_registers
    assert backbone.patch_size == 16 and backbone.position_grid == own.position_grid
    reader = cfg.model.get('neck') or cfg.model.decode_head
    widths = reader.in_channels
    assert (widths if isinstance(widths, list) else [widths]) == list(model.backbone.out_channels)


@pytest.mark.parametrize('name', STEPPED)
def test_a_recipe_steps_evaluates_and_resumes(name, tmp_path):
    options = {f'model.{k}': v for k, v in NARROW.get(name.split('_')[0], {}).items()}
    cfg = fitted(name, 'dinov3_t', weights='a file')
    cfg.dump(tmp_path / 'config.py')

    torch.manual_seed(0)
    task = ConfigTask(tmp_path / 'config.py', 2, (64, 96), torch.device('cpu'), options)
    task.model.train()
    trained = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)

    def step():
        torch.manual_seed(1)
        optimizer.zero_grad()
        loss = task.loss()
        loss.backward()
        optimizer.step()
        return loss.detach()

    backbone = task.model.backbone
    vit = getattr(backbone, 'vit', backbone)
    before = copy.deepcopy(vit.state_dict())
    first = step()
    without = [
        name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert not without
    state = copy.deepcopy((task.model.state_dict(), optimizer.state_dict()))
    second = step()
    assert first.isfinite() and second.isfinite() and first != second
    torch.testing.assert_close(vit.state_dict(), before)
    metrics = task.evaluate()
    assert metrics and all(-1 <= value <= 100 for value in metrics.values())

    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    task.model.train().load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    torch.testing.assert_close(step(), second)


@pytest.mark.parametrize(
    ('vit', 'options'),
    [
        ('s', dict(patch_size=16, pretrain_size=224)),
        ('deit_t_distilled', dict(patch_size=16, pretrain_size=224)),
        ('dinov2_s', dict(patch_size=16, pretrain_size=592)),
        ('dinov2_s_reg', dict(patch_size=16, pretrain_size=592)),
        ('dinov3_t', {}),
        ('rope_t', {}),
        ('dinov3_splus', {}),
    ],
)
def test_weights_tell_their_vit(vit, options, tmp_path):
    model = ViT(vit, final_norm=True)
    path = save(model, tmp_path / 'weights.pth')
    assert find_vit(path) == (vit, options)
    cfg = Config.fromfile(config_path('linearseg_vit_s_frozen_custom'))
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
    fit_vit(cfg, path)
    assert cfg.model.decode_head.channels == 4 * model.embed_dims
    backbone = ViT(**{k: v for k, v in cfg.model.backbone.items() if k != 'type'})
    backbone.init_weights()
    filled, given = backbone.state_dict(), model.state_dict()
    assert filled.keys() == given.keys()
    assert torch.equal(filled['blocks.3.attn.qkv.weight'], given['blocks.3.attn.qkv.weight'])


def test_weights_without_biases_of_queries(tmp_path):
    path = save(ViT('dinov3_t', qkv_bias=False), tmp_path / 'weights.pth')
    assert find_vit(path) == ('dinov3_t', dict(qkv_bias=False))


@pytest.mark.parametrize(
    ('vit', 'blocks'), [('dinov3_s', [2, 5, 8, 11]), ('dinov3_hplus', [7, 15, 23, 31])]
)
def test_maps_after_each_quarter_of_the_blocks(vit, blocks):
    cfg = fitted('linearseg_vit_s_frozen_custom', vit)
    assert cfg.model.backbone.out_indices == blocks
    assert cfg.model.neck.in_channels == [ViT.resolve_arch(vit).embed_dims] * 4


@pytest.mark.parametrize(
    ('blocks', 'count', 'options'),
    [
        ([4, 23], 2, ['model.backbone.out_indices']),
        ([2, 5], 2, ['model.backbone.out_indices']),
        (23, 1, ['model.backbone.out_indices']),
        ([-2, -1], 2, []),  # those of a config that says so count from the last of any ViT
        ([5, 23], 2, []),  # and these are no blocks of the config's own
    ],
)
def test_blocks_that_the_user_names_are_those_of_the_vit_he_asks_for(blocks, count, options):
    cfg = Config.fromfile(config_path('linearseg_vit_s_frozen_custom'))
    cfg.vit = 'dinov3_l'
    cfg.model.backbone.out_indices = blocks
    fit_vit(cfg, 'a file', options)
    assert cfg.model.backbone.out_indices == blocks
    assert cfg.model.neck.in_channels == [1024] * count
    assert cfg.model.decode_head.channels == 1024 * count


@pytest.mark.parametrize('blocks', [(-1,), (-4, -3, -2, -1)])
def test_the_linear_head_is_a_norm_and_a_convolution(blocks):
    cfg = Config.fromfile(config_path('linearseg_vit_s_dinov3_frozen'))
    cfg.vit = 'dinov3_t'
    cfg.model.backbone.out_indices = list(blocks)
    cfg.model.neck.norm_cfg = dict(type='BN')
    fit_vit(cfg, 'a file')
    cfg.model.backbone.pop('init_cfg')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model).eval()
    assert model.backbone.levels == tuple(12 + block for block in blocks)
    norm = torch.nn.BatchNorm2d(192 * len(blocks)).eval()
    conv = torch.nn.Conv2d(192 * len(blocks), 150, 1)
    learned = [model.neck.norms, model.decode_head]
    assert sum(p.numel() for it in learned for p in it.parameters()) == sum(
        p.numel() for it in (norm, conv) for p in it.parameters()
    )
    with torch.no_grad():
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            for own, theirs in zip(
                getattr(norm, name).chunk(len(blocks)), model.neck.norms, strict=True
            ):
                own.copy_(getattr(theirs, name).uniform_(0.5, 1.5))
        conv.load_state_dict(model.decode_head.conv_seg.state_dict())
        image = torch.randn(2, 3, 64, 96)
        maps = model.backbone(image)
        torch.testing.assert_close(
            model.decode_head(model.extract_feat(image)), conv(norm(torch.cat(maps, 1)))
        )


def test_what_the_user_says_stays():
    cfg = Config.fromfile(config_path('linearseg_vit_s_dinov3_frozen'))
    cfg.vit = 'dinov2_b'
    cfg.model.backbone.update(patch_size=14, pretrain_size=518)
    fit_vit(cfg, None)
    assert (cfg.model.backbone.patch_size, cfg.model.backbone.pretrain_size) == (14, 518)


def test_names_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="vit=dinov4_s: ViT has no arch 'dinov4_s'; use one of"):
        fitted('linearseg_vit_s_dinov3_frozen', 'dinov4_s')
    for name, place in (
        ('upernet_sta_l_frozen', 'vit.arch'),
        ('upernet_vit_s_dinov3_frozen', 'arch'),
    ):
        cfg = Config.fromfile(config_path(name))
        with pytest.raises(UsageError, match=f'backbone.{place}=.*: this config takes its ViT as'):
            fit_vit(cfg, None, {f'model.backbone.{place}': 'dinov2_s'})
    with pytest.raises(UsageError, match='vit=s alone tells no weights; give them too'):
        fitted('linearseg_vit_s_dinov3_frozen', 's')
    assert official_weights('dinov2_b_reg') == 'dinov2_vitb14_reg4'
    assert official_weights('dinov3_hplus') == 'dinov3_vith16plus'


def test_weights_that_tell_no_vit_are_left_to_the_strict_load(tmp_path):
    odd = ViT(dict(embed_dims=32, depth=2, num_heads=2, pretrain_size=64))
    want = fitted('linearseg_vit_s_dinov3_frozen', 'dinov3_s')
    for content in (odd.state_dict(), dict(weight=torch.ones(2))):
        torch.save(content, tmp_path / 'odd.pth')
        assert find_vit(str(tmp_path / 'odd.pth')) is None
        cfg = fitted('linearseg_vit_s_dinov3_frozen', 'dinov3_s', str(tmp_path / 'odd.pth'))
        assert cfg.to_dict() == want.to_dict()
    with pytest.raises(CheckpointError, match='none.pth'):
        fitted('linearseg_vit_s_dinov3_frozen', 'dinov3_s', str(tmp_path / 'none.pth'))


@pytest.mark.parametrize('family', ['vitcomer', 'vitadapter'])
@pytest.mark.parametrize('head', ['retinanet', 'maskrcnn', 'upernet', 'mask2former'])
def test_tuned_configs_take_other_sizes(head, family):
    vit = 'dinov3_b' if head == 'upernet' else 'dinov3_l'
    model = build_model(fitted(f'{head}_{family}_s_dinov3', vit))
    own = ViT.resolve_arch(vit)
    assert set(model.backbone.out_channels) == {own.embed_dims}
    assert model.backbone.vit.depth == own.depth and model.backbone.vit.position == 'rope'
    assert any(model.backbone.vit.windows) == (head in ('retinanet', 'maskrcnn'))
    assert all(p.requires_grad for p in model.backbone.parameters())


def test_mask2former_weighs_the_classes_of_a_folder():
    cfg = Config.fromfile(config_path('mask2former_vitadapter_s_frozen_custom'))
    _set_num_classes(cfg.model, 11)
    assert cfg.model.decode_head.loss_cls.class_weight == [1.0] * 11 + [0.1]
    assert cfg.model.decode_head.num_classes == 11
