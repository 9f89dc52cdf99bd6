"""The options that fit a training to its machines: what they change, and what they refuse."""

import mmengine.runner  # noqa: F401  takes get_device as it is now, before a test replaces it
import pytest
import torch
from mmengine.config import Config

from mmhybrid.models.layers import MSDeformAttention

from .test_bad_input import fails


@pytest.fixture
def settle(tool, job):
    """A function of options: the config that a training with them would run."""
    train = tool('train')

    def settled(scope, *options, settings=()):
        config, settings = job(scope, *settings)
        args = train.parse_args([config, *options, *settings])
        cfg = train.load_config(args)
        train._apply(args, cfg)
        train.apply_options(args, cfg)
        return cfg

    return settled


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU."""
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: True)
    return monkeypatch


@pytest.mark.parametrize(
    'options, kind, scaling',
    [
        (['--amp'], 'AmpOptimWrapper', dict(dtype='float16', loss_scale='dynamic')),
        (['--amp', 'fp16'], 'AmpOptimWrapper', dict(dtype='float16', loss_scale='dynamic')),
        (['--amp', 'bf16'], 'mmhybrid.Bf16OptimWrapper', {}),
    ],
)
def test_mixed_precision_on_a_gpu(options, kind, scaling, settle, gpu):
    wrapper = settle('mmseg', *options).optim_wrapper
    assert wrapper.type == kind
    assert {k: v for k, v in wrapper.items() if k in ('dtype', 'loss_scale')} == scaling


def test_mixed_precision_of_a_config_stays_on_a_gpu(settle, gpu):
    amp = ['optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.loss_scale=512.0']
    wrapper = settle('mmseg', settings=amp).optim_wrapper
    assert (wrapper.type, wrapper.loss_scale) == ('AmpOptimWrapper', 512.0)
    assert settle('mmseg', '--amp', settings=amp).optim_wrapper.loss_scale == 512.0
    assert 'loss_scale' not in settle('mmseg', '--amp', 'bf16', settings=amp).optim_wrapper


def test_a_gpu_without_bfloat16(settle, gpu):
    gpu.setattr(torch.cuda, 'is_bf16_supported', lambda: False)
    gpu.setattr(torch.cuda, 'get_device_name', lambda: 'OldCard')
    with pytest.raises(ValueError, match='OldCard has no bfloat16; use --amp fp16'):
        settle('mmseg', '--amp', 'bf16')


def test_what_options_change(settle):
    plain = settle('mmdet')
    assert plain.default_hooks.checkpoint.type == 'mmhybrid.AtomicCheckpointHook'
    assert plain.default_hooks.exact_resume.type == 'mmhybrid.ExactResumeHook'
    assert 'timeout' not in plain.train_dataloader  # no process that could be late
    options = ['--accumulate', '4', '--with-cp', '--ema', '--broken-images', 'skip']
    batch = ['auto_scale_lr.base_batch_size=16', 'train_dataloader.num_workers=2']
    cfg = settle('mmdet', *options, '--auto-scale-lr', settings=batch)
    assert cfg.optim_wrapper.accumulative_counts == 4
    assert cfg.model.backbone.with_cp is True
    (hook,) = cfg.custom_hooks  # four iterations give a step its share of the new weights
    assert hook['type'] == 'EMAHook' and (1 - hook['momentum']) ** 4 == pytest.approx(1 - 0.0002)
    assert settle('mmdet', '--ema').custom_hooks == [dict(type='EMAHook', momentum=0.0002)]
    assert cfg.default_hooks.exact_resume.broken == 'skip'
    assert cfg.train_dataloader.timeout == 600
    # mmengine divides the batch of one iteration by it: four of them make a step.
    assert cfg.auto_scale_lr == dict(base_batch_size=4, enable=True)


def test_recomputing_the_cheap_part(settle, tool, job, capsys):
    assert settle('mmdet', '--with-cp-light').model.backbone.with_cp == 'light'
    assert 'with_cp' not in settle('mmdet').model.backbone
    config, settings = job('mmseg', 'model.backbone.type=mmseg.ResNet')
    parts = '--with-cp-light', 'mmseg.ResNet', 'give --with-cp alone'
    fails(tool('train').main, [config, '--with-cp-light', *settings], *parts)
    with pytest.raises(SystemExit):
        tool('train').main([config, '--with-cp', 'heavy', *settings])
    assert '--with-cp' in capsys.readouterr().err


def test_a_hook_that_the_config_switches_off(tool, job, tmp_path):
    config, options = job('mmseg', 'default_hooks.preemption=None')
    runner = tool('train').main([config, '--work-dir', 'work', '--no-validate', *options])
    names = [type(hook).__name__ for hook in runner.hooks]
    assert 'PreemptionHook' not in names
    assert names.count('ExactResumeHook') == names.count('FiniteLossHook') == 1


@pytest.mark.parametrize(
    'options, parts',
    [
        (['--amp', 'fp16'], ['no GPU here', '--amp bf16']),
        (['--accumulate', '0'], ['--accumulate 0', 'at least 1']),
        (['--ema', '1.5'], ['--ema 1.5', 'between 0 and 1']),
        (['--compile', 'fast'], ['--compile fast', 'inductor']),
        (['--fsdp'], ['--fsdp', '--launcher']),
        (['--launcher', 'pytorch'], ['RANK', 'torchrun --nproc_per_node']),
        (['--launcher', 'slurm'], ['SLURM_PROCID', 'srun']),
        (['--launcher', 'mpi'], ['OMPI_COMM_WORLD_RANK', 'MASTER_ADDR', 'mpirun']),
        (['--resume', '--seed', '-1'], ['--seed -1', '0 or more']),
    ],
)
def test_what_is_refused(options, parts, tool, job):
    config, settings = job('mmseg')
    fails(tool('train').main, [config, *options, *settings], *parts)


def test_refused_with_this_config(tool, job, monkeypatch):
    main = tool('train').main
    config, settings = job('mmseg')
    with open(config, 'a') as file:
        file.write("custom_hooks = [dict(type='EMAHook')]\n")
    fails(main, [config, '--ema', *settings], 'has an EMAHook')
    config, settings = job('mmseg')
    with open(config, 'a') as file:
        file.write('auto_scale_lr = dict(_delete_=True)\n')
    fails(main, [config, '--auto-scale-lr', *settings], 'has no auto_scale_lr.base_batch_size')
    config, settings = job('mmseg', 'model.backbone.type=mmpretrain.TIMMBackbone')
    fails(main, [config, '--with-cp', *settings], 'TIMMBackbone has no with_cp', 'model_name')
    for name in ('RANK', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '0')
    monkeypatch.setenv('WORLD_SIZE', '2')
    config, settings = job('mmseg')
    arguments = [config, '--launcher', 'pytorch']
    fails(main, [*arguments, '--fsdp', '--ema', *settings], '--fsdp', 'average')
    fails(main, [*arguments, '--dist-timeout', '0', *settings], '--dist-timeout 0', '1 second')
    monkeypatch.setenv('TORCHELASTIC_MAX_RESTARTS', '3')
    monkeypatch.setenv('TORCHELASTIC_USE_AGENT_STORE', 'True')
    fails(main, [*arguments, *settings], '--max-restarts=3', 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1')
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'x')
    fails(main, [config, *settings], '2 processes', 'add --launcher pytorch')


def test_a_seed_that_is_not_the_checkpoint_s(tool, job, tmp_path):
    config, settings = job('mmseg')
    main = tool('train').main
    main([config, '--work-dir', 'work', '--no-validate', '--seed', '3', *settings])
    assert Config.fromfile(tmp_path / 'work/tiny_mmseg.py').randomness.seed == 3
    again = [config, '--work-dir', 'work', '--no-validate', '--resume', *settings]
    fails(main, [*again, '--seed', '4'], 'was made with seed 3', 'leave --seed out')
    assert main(again).seed == 3


def test_a_compiled_backbone_trains_to_the_same_weights(tool, job, tmp_path, monkeypatch):
    reset = MSDeformAttention.reset_parameters

    def between_pixels(attention):
        reset(attention)
        with torch.no_grad():
            attention.sampling_offsets.bias += 0.3

    # New samples lie on centres of pixels, where bilinear interpolation has a kink: rounding
    # decides on the gradient of their offsets, and torch 2.11 rounds in another way when it traces.
    monkeypatch.setattr(MSDeformAttention, 'reset_parameters', between_pixels)
    # Adam takes a gradient that is rounding alone, as of a bias before a norm, for a whole step.
    config, settings = job('mmseg', 'optim_wrapper.optimizer.eps=1e-3')
    states = []
    for name, options in (('plain', []), ('compiled', ['--compile', 'eager'])):
        arguments = [config, '--work-dir', name, '--no-validate', '--seed', '1']
        tool('train').main([*arguments, *options, *settings])
        states.append(torch.load(tmp_path / name / 'iter_2.pth', weights_only=False)['state_dict'])
    torch.testing.assert_close(*states, rtol=0, atol=1e-5)
