"""Checkpoints of a training with LoRA: what they hold, and how the rest is found again."""

import copy
import re

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmhybrid.checkpoints import CheckpointError
from mmhybrid.engine import load_trained, read_checkpoint, safe_loading
from mmhybrid.engine.lora import hash_base
from mmhybrid.lora import is_of_lora, merge_lora
from mmhybrid.models.backbones import ViTCoMer

pytest.importorskip('peft')
ARCH = dict(
    embed_dims=16, depth=2, num_heads=2, deform_heads=2, num_points=2, stem_channels=4, windows=0,
    interaction_indexes=[(0, 0), (1, 1)], extra_cti=0,
)  # fmt: skip
FROZEN = re.compile(r'backbone\.vit\.(?!.*\.lora_)')


class Model(BaseModel):
    def __init__(self, weights=None, lora=dict(r=2)):  # noqa: B006, as a config gives it
        super().__init__()
        torch.manual_seed(7)
        init_cfg = weights and dict(type='Pretrained', checkpoint=str(weights))
        options = dict(norm_cfg=dict(type='GN', num_groups=4), vit_features='last')
        self.backbone = ViTCoMer(ARCH, lora=lora, init_cfg=init_cfg, **options)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs = torch.stack(inputs) if isinstance(inputs, list) else inputs
        scores = self.head(self.backbone(inputs)[-1].mean(dim=(2, 3)))
        return dict(loss=scores.square().mean()) if mode == 'loss' else scores


@pytest.fixture
def weights(tmp_path):
    """The file of a ViT."""
    return write_weights(tmp_path / 'vit.pth', seed=1)


def write_weights(path, seed):
    torch.manual_seed(seed)
    vit = ViTCoMer(ARCH).vit
    torch.save({name: torch.randn_like(value) for name, value in vit.state_dict().items()}, path)
    return path


def train(model, work_dir, *, iters=2, hooks=(), **options):
    """Train with mmengine's runner and the hooks that the command adds; return the runner."""
    generator = torch.Generator().manual_seed(9)
    data = [dict(inputs=torch.randn(3, 32, 32, generator=generator)) for _ in range(4)]
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=data, batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False)
        ),
        train_cfg=dict(by_epoch=False, max_iters=iters),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type='mmhybrid.AtomicCheckpointHook', interval=2, by_epoch=False),
            exact_resume=dict(type='mmhybrid.ExactResumeHook'),
            lora=dict(type='mmhybrid.LoRAHook'),
        ),
        custom_hooks=list(hooks),
        randomness=dict(seed=3),
        experiment_name=f'{work_dir}',
        **options,
    )
    runner.warnings = []
    runner.logger.warning = lambda text: 'scheduler' in text or runner.warnings.append(text)
    with safe_loading():
        runner.train()
    return runner


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_what_a_checkpoint_holds(weights, tmp_path):
    model = train(Model(weights), tmp_path / 'work').model
    saved = read_checkpoint(tmp_path / 'work/iter_2.pth')
    names = saved['state_dict'].keys()
    assert not any(map(FROZEN.match, names))
    assert names == {name for name in model.state_dict() if not FROZEN.match(name)}
    assert any(map(is_of_lora, names)) and any(name.startswith('backbone.cnn') for name in names)
    (prefix, note), *others = saved['meta']['lora'].items()
    assert (prefix, others) == ('backbone.vit.', [])
    assert note['backbone'] == 'backbone' and note['weights'] == [dict(checkpoint=str(weights))]
    assert note['sha256'] == hash_base(torch.load(weights))
    untrained = torch.load(weights)
    assert all(torch.equal(model.backbone.vit.state_dict()[k], v) for k, v in untrained.items())


def test_the_rest_is_found_again(weights, tmp_path):
    trained = train(Model(weights), tmp_path / 'work').model
    path = tmp_path / 'work/iter_2.pth'
    for named in (weights, None):  # by the config, or by the checkpoint alone
        model = Model(named)
        load_trained(model, path)
        assert same(model, trained)
    moved = weights.rename(tmp_path / 'moved.pth')
    with pytest.raises(CheckpointError, match=r'(?s)holds LoRA, and not .*vit\.pth.*init_cfg'):
        load_trained(Model(), path)
    model = Model(moved)
    load_trained(model, path)
    assert same(model, trained)
    other = Model(write_weights(tmp_path / 'other.pth', seed=2))
    with pytest.raises(CheckpointError, match=r'over the weights .*vit\.pth \(.*other\.pth holds'):
        load_trained(other, path)
    with pytest.raises(CheckpointError, match=r'unexpected: .*lora_A.*config it was trained with'):
        load_trained(Model(moved, lora=None), path)


@pytest.mark.parametrize('strict', [False, True])
def test_resumed_it_is_as_uninterrupted(strict, weights, tmp_path):
    average = [dict(type='EMAHook', momentum=0.3, strict_load=strict)]
    whole = train(Model(weights), tmp_path / 'whole', iters=4, hooks=average)
    first = train(Model(weights), tmp_path / 'first', iters=2, hooks=average)
    path = tmp_path / 'first/iter_2.pth'
    options = dict(load_from=str(path), resume=True)
    resumed = train(Model(weights), tmp_path / 'then', iters=4, hooks=average, **options)
    assert not resumed.warnings and not same(resumed.model, first.model)
    assert same(resumed.model, whole.model)
    states = [torch.load(tmp_path / f'{it}/iter_4.pth', weights_only=False) for it in
              ('whole', 'then')]  # fmt: skip
    for name in ('state_dict', 'ema_state_dict'):
        one, other = (state[name] for state in states)
        assert one.keys() == other.keys() and not any('vit.blocks.0.norm1' in k for k in one)
        assert all(torch.equal(one[k], other[k]) for k in one)
    averages = [hook.ema_model.module for run in (whole, resumed) for hook in run.hooks
                if hasattr(hook, 'ema_model')]  # fmt: skip
    assert same(*averages) and not same(averages[0], whole.model)


def test_fine_tuning_from_a_checkpoint_with_lora(weights, tmp_path):
    trained = train(Model(weights), tmp_path / 'work').model
    path = str(tmp_path / 'work/iter_2.pth')
    runner = train(Model(weights), tmp_path / 'tuned', load_from=path, iters=0)
    assert same(runner.model, trained) and not runner.warnings
    train(Model(weights), tmp_path / 'tuned', load_from=path)
    assert 'lora' in read_checkpoint(tmp_path / 'tuned/iter_2.pth')['meta']


@pytest.mark.parametrize(
    ('lora', 'said'),
    [
        (None, 'none'),
        (dict(r=3), r'rank 3 in 4 layers \(proj, qkv\)'),
        (dict(r=2, targets=('qkv',)), r'rank 2 in 2 layers \(qkv\)'),
    ],
    ids=['none', 'rank', 'targets'],
)
def test_load_from_needs_the_same_lora(lora, said, weights, tmp_path):
    train(Model(weights), tmp_path / 'work')
    file = str(tmp_path / 'work/iter_2.pth')
    message = rf'holds LoRA, rank 2 in 4 layers \(proj, qkv\); Model has {said}\. .*--merge-lora'
    with pytest.raises(CheckpointError, match=message):
        train(Model(weights, lora=lora), tmp_path / 'tuned', load_from=file)


def test_weights_of_a_backbone_need_the_same_lora(weights, tmp_path):
    train(Model(weights), tmp_path / 'work')
    with pytest.raises(CheckpointError, match='iter_2.pth holds what LoRA learned.*--merge-lora'):
        Model(tmp_path / 'work/iter_2.pth').init_weights()
    train(Model(), tmp_path / 'whole')  # over random weights, which the checkpoint holds
    whole = tmp_path / 'whole/iter_2.pth'
    Model(whole).init_weights()
    with pytest.raises(CheckpointError, match='(?s)lora_A.*Give lora the rank that it was trained'):
        Model(whole, lora=dict(r=3)).init_weights()
    with pytest.raises(CheckpointError, match=r'(?s)in the file only.*lora_A.*lora=dict\(r=...\)'):
        Model(whole, lora=None).init_weights()


@pytest.mark.parametrize('named', [True, False], ids=['named', 'random'])
def test_a_base_from_elsewhere_stays_in_the_checkpoints(named, weights, tmp_path):
    options = {}
    if named:  # the file below LoRA would be vit.pth, but a whole model is loaded over it
        other = Model(lora=None)
        torch.save(dict(state_dict=other.state_dict(), meta={}), tmp_path / 'model.pth')
        options['load_from'] = str(tmp_path / 'model.pth')
    model = train(Model(weights if named else None), tmp_path / 'work', **options).model
    if named:
        vit = model.backbone.vit.state_dict()
        assert all(torch.equal(vit[k], v) for k, v in other.backbone.vit.state_dict().items())
    path = tmp_path / 'work/iter_2.pth'
    assert read_checkpoint(path)['state_dict'].keys() == model.state_dict().keys()
    assert 'lora' not in read_checkpoint(path)['meta']
    again = Model(weights)
    load_trained(again, path)
    assert same(again, model)
    options = dict(load_from=str(path), resume=True, iters=4)
    resumed = train(Model(weights), tmp_path / 'then', **options).model
    kept = read_checkpoint(tmp_path / 'then/iter_4.pth')['state_dict']
    assert kept.keys() == resumed.state_dict().keys()


def test_without_lora_nothing_changes(weights, tmp_path):
    model = train(Model(weights, lora=None), tmp_path / 'work').model
    saved = read_checkpoint(tmp_path / 'work/iter_2.pth')
    assert saved['state_dict'].keys() == model.state_dict().keys() and 'lora' not in saved['meta']


def test_hashes_tell_matrices_alone(weights):
    base = torch.load(weights)
    expected = hash_base(base)
    resized = base | {'pos_embed': base['pos_embed'] + 1e-7}
    assert hash_base(resized) == expected
    for name in ('blocks.1.mlp.fc2.weight', 'blocks.0.attn.qkv.weight'):
        assert hash_base(base | {name: base[name] + 1e-3}) != expected


def test_merged_models_need_no_lora(weights, tmp_path):
    trained = train(Model(weights), tmp_path / 'work').model
    images = torch.randn(1, 3, 32, 32)
    expected = trained.eval()(images)
    plain = Model(lora=None).eval()
    plain.load_state_dict(merge_lora(copy.deepcopy(trained)).state_dict())
    torch.testing.assert_close(plain(images), expected, rtol=1e-5, atol=1e-5)
