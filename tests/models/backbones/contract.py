"""What every backbone promises, as one test class: a subclass gives names and inherits the rest."""

import copy
import re

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.model import BaseModule
from torch.nn.modules.batchnorm import _BatchNorm

from mmhybrid.engine.flops import count_macs
from mmhybrid.models.backbones import Backbone
from mmhybrid.registry import MODELS
from tests.models.drawn import draw_loss, draw_parameters, names_without_gradient

RECOMPUTED = (True, 'light')
"""The values of ``with_cp`` that recompute something."""


class BackboneContract:
    """Subclass as ``TestX(BackboneContract)`` with a tiny model.

    The first subclass for a backbone is its model in the tests of all families, see ``families``.

    Attributes:
        backbone, arguments: the class, and the arguments of a tiny one.
        channels, strides: of its outputs.
        stages: the largest value that ``frozen_stages`` takes.
        without_gradient: pattern of the parameters that change nothing in training: biases that the
            mean of a batch norm takes out again, and those that shift all keys of a softmax alike.
    """

    backbone: type[Backbone]
    arguments: dict
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    stages: int
    without_gradient: str = r'(?!)'  # matches nothing

    def build(self, **overrides) -> Backbone:
        torch.manual_seed(0)
        model = self.backbone(**{**copy.deepcopy(self.arguments), **overrides})
        return draw_parameters(model)

    def image(self, *size, n=1, channels=3):
        return torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(1))

    # Shapes

    @pytest.mark.parametrize('size', [(64, 64), (32, 32), (33, 95), (128, 48), (63, 64)])
    @pytest.mark.parametrize('n', [1, 2])
    def test_shapes(self, size, n):
        model = self.build().eval()
        assert model.out_channels == self.channels
        assert model.out_strides == self.strides
        with torch.no_grad():
            outs = model(self.image(*size, n=n))
        assert isinstance(outs, tuple)
        expected = [
            (n, channels, -(-size[0] // stride), -(-size[1] // stride))
            for channels, stride in zip(self.channels, self.strides, strict=True)
        ]
        assert [tuple(out.shape) for out in outs] == expected
        assert all(out.isfinite().all() for out in outs)
        # mmcv's RoIAlign and other operators of the hosts read any other format wrongly.
        assert all(out.is_contiguous() for out in outs)

    def test_a_batch_equals_its_images(self):
        model = self.build().eval()
        images = self.image(40, 72, n=2)
        with torch.no_grad():
            together = model(images)
            alone = [model(image[None]) for image in images]
        for level, out in enumerate(together):
            expected = torch.cat([outs[level] for outs in alone])
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)

    def test_out_indices(self):
        model = self.build(out_indices=[len(self.channels) - 1])
        (out,) = model(self.image(64, 64))
        assert model.out_channels == self.channels[-1:] == (out.shape[1],)
        assert model.out_strides == self.strides[-1:]
        out.sum().backward()
        with pytest.raises(ValueError, match='out_indices'):
            self.build(out_indices=[1000])

    def test_levels_that_are_not_put_out_are_not_trained(self):
        """Distributed training waits for the gradients of all that is."""
        model = self.build(out_indices=0).train()
        (out,) = model(self.image(64, 64, n=2))
        out.sum().backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name

    def test_batch_without_images(self):
        model = self.build().eval()  # in training batch norms have no variance of no value
        for recorded in (False, True):
            with torch.set_grad_enabled(recorded):
                maps = model(self.image(64, 96, n=0))
            assert [len(m) for m in maps] == [0] * len(self.channels)

    def test_channels_of_the_image(self):
        (*_, out) = self.build(in_channels=5)(self.image(64, 64, channels=5))
        assert out.shape[1] == self.channels[-1]

    # Bad input

    def test_bad_images(self):
        model = self.build()
        with pytest.raises(ValueError, match=r'built for 3 image channels, got 4 .*in_channels=4'):
            model(self.image(64, 64, channels=4))
        with pytest.raises(ValueError, match=r'at least 32x32 pixels, got 31x64'):
            model(self.image(31, 64))
        with pytest.raises(ValueError, match=r'takes an image batch \(N, C, H, W\)'):
            model(self.image(64, 64)[0])

    def test_bad_arguments(self):
        with pytest.raises(TypeError, match=r"no argument 'drop_path'; did you mean 'drop_path_r"):
            self.build(drop_path=0.1)
        with pytest.raises(ValueError, match=r"no arch 'huge'; use one of '"):
            self.build(arch='huge')
        with pytest.raises(ValueError, match=r"arch of \w+ has no 'depht'"):
            self.build(arch={**self.arguments['arch'], 'depht': 3})
        with pytest.raises(ValueError, match=r'arch of \w+ needs '):
            self.build(arch={})

    def test_the_callers_config_is_left_alone(self):
        config = dict(type=f'mmhybrid.{self.backbone.__name__}', **copy.deepcopy(self.arguments))
        before = copy.deepcopy(config)
        model = MODELS.build(config)
        model.init_weights()
        model(self.image(64, 64))
        assert config == before
        assert isinstance(model, BaseModule)

    def test_a_subclass_hands_on_what_it_does_not_know(self):
        class Own(self.backbone):
            def __init__(self, *args, size=1, **kwargs):
                super().__init__(*args, **kwargs)
                self.size = size

        assert Own(**copy.deepcopy(self.arguments), size=3).size == 3
        with pytest.raises(TypeError, match="no argument 'siez'; did you mean 'size'"):
            Own(**copy.deepcopy(self.arguments), siez=3)

    def test_weights_come_after_the_layers(self):
        """As loaders of large models do it: what is in no state dict must not be needed."""
        model = self.build().eval()
        with torch.device('meta'):
            other = self.build().eval()
        other.to_empty(device='cpu').load_state_dict(model.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(other(self.image(64, 96)), model(self.image(64, 96)))

    # Training

    def test_evaluation_mode_before_the_backward_pass(self):
        gradients = []
        for mode in (True, False):
            model = self.build().train()
            loss = draw_loss(model(self.image(64, 64, n=2)))
            model.train(mode)
            loss.backward()
            gradients.append([p.grad for p in model.parameters()])
        torch.testing.assert_close(*gradients)

    @pytest.mark.parametrize('with_cp', RECOMPUTED)
    @pytest.mark.parametrize('momentum', [0.1, None])
    def test_recomputing_with_any_momentum(self, momentum, with_cp):
        models = [self.build(), self.build(with_cp=with_cp)]
        for model in models:
            for norm in model.modules():
                if isinstance(norm, _BatchNorm):
                    norm.momentum = momentum
            for _ in range(2):
                draw_loss(model.train()(self.image(64, 64, n=2))).backward()
        for (name, one), other in zip(models[0].named_buffers(), models[1].buffers(), strict=True):
            torch.testing.assert_close(one, other, msg=name)

    @pytest.mark.parametrize('with_cp', [False, *RECOMPUTED])
    def test_every_parameter_gets_a_gradient(self, with_cp):
        model = self.build(with_cp=with_cp)
        without = names_without_gradient(model, self.image(64, 96, n=2))
        assert all(p.grad is not None for p in model.parameters())
        names = [name for name, _ in model.named_parameters()]
        assert without == {name for name in names if re.search(self.without_gradient, name)}

    @pytest.mark.parametrize('with_cp', RECOMPUTED)
    @pytest.mark.parametrize('how', ['plain', 'drop path', 'autocast'])
    def test_recomputing_changes_nothing(self, how, with_cp):
        rate = 0.5 if how == 'drop path' else 0.0
        results = []
        for recomputed in (False, with_cp):
            model = self.build(with_cp=recomputed, drop_path_rate=rate).train()
            torch.manual_seed(0)
            with torch.autocast('cpu', dtype=torch.bfloat16, enabled=how == 'autocast'):
                maps = model(self.image(64, 64, n=2))
            draw_loss(maps).backward()
            # Running statistics too: batch norms must not see the batch twice.
            results.append([*maps, *(p.grad for p in model.parameters()), *model.buffers()])
        torch.testing.assert_close(*results)

    @pytest.mark.parametrize('with_cp', RECOMPUTED)
    def test_recomputing_keeps_fewer_activations(self, with_cp):
        def kept(model):
            count = 0

            def pack(tensor):
                nonlocal count
                count += tensor.numel()
                return tensor

            model.train()
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                outs = model(self.image(64, 64))
            assert outs[-1].requires_grad
            return count

        assert kept(self.build(with_cp=with_cp)) < 0.7 * kept(self.build())

    def test_drop_path(self):
        model = self.build(drop_path_rate=0.5)
        image = self.image(64, 64, n=2)
        model.eval()
        with torch.no_grad():
            torch.testing.assert_close(model(image), model(image))
            model.train()
            one, other = model(image)[-1], model(image)[-1]
        assert not torch.equal(one, other)

    def test_freezing_survives_train(self):
        before = set()
        for stage in range(self.stages + 1):
            model = self.build(frozen_stages=stage)
            model.train()
            frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
            assert frozen > before
            before = frozen
            for part in model.modules():
                for module in part.frozen_modules() if isinstance(part, Backbone) else ():
                    if isinstance(module, torch.nn.Module):
                        assert not module.training
            outs = model(self.image(64, 64, n=2))
            if any(p.requires_grad for p in model.parameters()):
                sum(out.mean() for out in outs).backward()
        with pytest.raises(ValueError, match='frozen_stages'):
            self.build(frozen_stages=self.stages + 1)

    def test_norm_eval(self):
        model = self.build(norm_eval=True)
        assert not any(m.training for m in model.modules() if isinstance(m, _BatchNorm))
        model.train()
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        assert not any(norm.training for norm in norms)
        before = copy.deepcopy(model.state_dict())
        model(self.image(64, 64, n=2))
        torch.testing.assert_close(model.state_dict(), before)

    def test_layer_depths(self):
        model = self.build()
        depths = {}
        for name, _ in model.named_parameters():
            depths[name], count = model.get_layer_depth(f'backbone.{name}', 'backbone.')
        assert min(depths.values()) == 0
        assert max(depths.values()) == count - 1 or set(depths.values()) == set(range(count - 1))
        assert model.get_layer_depth('head.weight', 'backbone.')[0] == count - 1

    def test_bfloat16_autocast(self):
        model = self.build().eval()
        with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
            assert all(out.isfinite().all() for out in model(self.image(64, 64)))

    def test_fusing_changes_nothing(self):
        model = self.build().eval()
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            for values, low in ((norm.running_mean, -1), (norm.running_var, 0.5)):
                torch.nn.init.uniform_(values, low, 2)
            for values in norm.parameters():
                torch.nn.init.uniform_(values, 0.5, 1.5)
        with torch.no_grad():
            before = model(self.image(64, 96))
            assert model.fuse() is model
            after = model(self.image(64, 96))
        for one, other in zip(before, after, strict=True):
            assert (one - other).abs().max() < 1e-4 * one.std()
        left = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        assert len(left) < len(norms) or not norms
        with pytest.raises(RuntimeError, match='was fused for inference'):
            model.train()

    def test_mmcvs_fusing_changes_nothing(self):
        """It takes every batch norm for one that follows the convolution before it."""
        fuse_conv_bn = pytest.importorskip('mmcv.cnn').fuse_conv_bn
        model = self.build().eval()
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                torch.nn.init.uniform_(module.running_var, 0.5, 2)
        with torch.no_grad():
            before = model(self.image(64, 96))
            try:
                after = fuse_conv_bn(model)(self.image(64, 96))
            except RuntimeError as error:
                assert 'fuse the backbone by its own fuse()' in str(error)
                return
        for one, other in zip(before, after, strict=True):
            assert (one - other).abs().max() < 1e-4 * one.std()

    def test_fusing_leaves_what_somebody_wraps(self):
        model = self.build().eval()
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                torch.nn.init.uniform_(module.running_var, 0.5, 2)
        for module in list(model.modules()):
            if type(module) is torch.nn.Conv2d:
                torch.nn.utils.parametrizations.weight_norm(module)
        with torch.no_grad():
            before = model(self.image(64, 96))
            after = model.fuse()(self.image(64, 96))
        for one, other in zip(before, after, strict=True):
            assert (one - other).abs().max() < 1e-4 * one.std()

    def test_recording_gradients_changes_no_values(self):
        model, image = self.build().double().eval(), self.image(96, 128, n=2).double()
        with_gradients = model(image)
        with torch.no_grad():
            without = model(image)
        torch.testing.assert_close(without, with_gradients, rtol=1e-6, atol=1e-6)

    def test_mmengines_counter_takes_it(self):
        """That of the hosts' ``get_flops.py``, which traces the model with gradients."""
        model, options = self.build().eval(), dict(show_table=False, show_arch=False)
        counted = get_model_complexity_info(model, (3, 64, 96), **options)
        assert counted['flops'] < 1.5 * count_macs(model, self.image(64, 96))

    def test_state_dict_round_trip(self):
        one, other = self.build().eval(), self.backbone(**copy.deepcopy(self.arguments)).eval()
        other.load_state_dict(copy.deepcopy(one.state_dict()), strict=True)
        with torch.no_grad():
            torch.testing.assert_close(one(self.image(64, 64)), other(self.image(64, 64)))
