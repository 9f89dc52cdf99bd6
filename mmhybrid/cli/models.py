"""Models for visualize.py and analyze.py, by a NAME on the command line.

vitcomer_s,vit=dict(pretrain_size=592)   one of mmhybrid.list_backbones(), with arguments
timm:resnet50                            a backbone of timm
mmpretrain.ConvNeXt,arch=tiny            a backbone class of a host library, with arguments
configs/vit_comer/maskrcnn_vitcomer_s.py           the whole model of a config
"""

import argparse
import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import SCOPES, load_config
from .paths import find, is_config
from .usage import CONFIG_ERRORS, UsageError, explain

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor, nn

    from mmhybrid.models.backbones import Backbone

PRETRAINED = 'pretrained'
IMAGENET = dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@dataclass
class Looked:
    """A model to look into.

    Attributes:
        name: short, for titles and file names.
        weights: what its weights are, in words.
        model: the whole model of a config, else the backbone.
        backbone: takes a normalised image ``(N, C, H, W)``.
        mean, std: of the three image channels, RGB, of 255.
        cfg: the config, if it was one.
    """

    name: str
    weights: str
    model: Any
    backbone: Any
    mean: tuple
    std: tuple
    cfg: Any = None

    @property
    def divisor(self) -> int:
        """Sides of images that this divides lie on the grids of all levels without padding."""
        patch = getattr(self.backbone, 'patch_size', 32)
        return patch if isinstance(patch, int) and patch % 2 == 0 and 32 % patch else 32

    def normalize(self, image: np.ndarray) -> 'Tensor':
        """An RGB image (H, W, 3) uint8 as the model takes it, ``(1, 3, H, W)``."""
        import torch

        values = (image.astype(np.float32) - np.asarray(self.mean, np.float32)) / np.asarray(
            self.std, np.float32
        )
        tensor = torch.from_numpy(values.transpose(2, 0, 1)[None].copy())
        return tensor.to(next(self.backbone.parameters()).device)


def open_model(
    name: str, weights: str | Path | None = None, cfg_options: dict | None = None
) -> Looked:
    """Build what a NAME stands for, on the CPU or GPU, in evaluation mode.

    Args:
        weights: a checkpoint of the config's training or 'pretrained', what the config itself
            names; published weights of a backbone.
        cfg_options: changes to a config.

    Raises:
        UsageError, CheckpointError: an unknown name or argument, weights that do not fit.
    """
    from mmengine.device import get_device
    from mmengine.logging import MMLogger
    from mmengine.model import revert_sync_batchnorm

    MMLogger.get_current_instance().setLevel('WARNING')  # not each parameter's initialisation
    if is_config(name):
        looked = _open_config(name, weights, cfg_options or {})
    elif cfg_options:
        raise UsageError(f'--cfg-options are for configs, but {name} is none')
    else:
        looked = _open_backbone(name, weights)
    whole = looked.model is looked.backbone
    looked.model = revert_sync_batchnorm(looked.model).to(get_device())
    looked.model.eval()  # which some backbones of the hosts do not return
    looked.backbone = looked.model if whole else looked.model.backbone
    return looked


def read_config(name: str, cfg_options: dict | None) -> 'Config':
    """The config of a NAME, as the other tools read it."""
    return load_config(argparse.Namespace(config=name, cfg_options=cfg_options, work_dir=None))


def build_config_model(cfg: 'Config', pretrained: bool = False) -> Any:
    """The model of a config, with the pretrained weights it names or none."""
    from mmengine.registry import MODELS, DefaultScope

    spec = cfg.model.copy()
    if not pretrained:
        for part in (spec, spec.get('backbone', {})):
            part.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(spec)
        if pretrained:
            model.init_weights()
    return model


def _open_config(name, weights, cfg_options):
    from ..engine import load_trained

    cfg = read_config(name, cfg_options)
    model = build_config_model(cfg, pretrained=weights == PRETRAINED)
    if not hasattr(model, 'backbone'):
        raise UsageError(f'the {type(model).__name__} of {name} has no backbone to look into')
    said = 'its pretrained weights' if weights == PRETRAINED else 'random weights'
    if weights and weights != PRETRAINED:
        path = find(weights, 'checkpoint')
        load_trained(model, path)
        said = path.name
    given = cfg.model.get('data_preprocessor') or {}
    mean, std = (tuple(given.get(key) or IMAGENET[key]) for key in ('mean', 'std'))
    if len(mean) != 3:
        raise UsageError(f'{name} takes images of {len(mean)} channels; expected 3')
    short = name.split('/')[-1].removeprefix('mmhybrid::').removesuffix('.py')
    return Looked(short, said, model, model.backbone, mean, std, cfg)


def _open_backbone(name, weights):
    base, options = split_name(name)
    if base.startswith('timm:'):
        backbone = _build_timm(base.removeprefix('timm:'), options, weights)
    elif base.split('.')[0] in SCOPES:
        backbone = _build_host(base, options, weights)
    else:
        if weights:
            options['init_cfg'] = dict(type='Pretrained', checkpoint=weights)
        backbone = build_named(base, options)
    said = f'weights {weights.split("/")[-1]}' if weights else 'random weights'
    return Looked(base.replace(':', '_'), said, backbone, backbone, **IMAGENET)


def build_named(name: str, options: dict) -> 'Backbone':
    """A backbone of mmhybrid by name, with arguments."""
    import mmhybrid

    from ..checkpoints import CheckpointError

    if 'arch' in options:
        raise UsageError(
            f'{name},arch=...: a name stands for its arch; give another one instead of the '
            'argument: ' + ', '.join(mmhybrid.list_backbones(name.split('_')[0] + '_*'))
        )
    try:
        return mmhybrid.build_backbone(name, **options)
    except CheckpointError:
        raise
    except CONFIG_ERRORS as error:
        raise UsageError(f'{name}: {error}') from error


def split_name(text: str) -> tuple[str, dict]:
    """Name and arguments of `name,key=value,...`; commas in brackets do not separate."""
    parts, depth = [''], 0
    for char in text:
        depth += (char in '([{') - (char in ')]}')
        if char == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += char
    base, *parts = parts
    options = {}
    for part in parts:
        key, equals, value = part.partition('=')
        if not equals or not key.isidentifier():
            raise UsageError(f'{text}: expected name=value after the comma, got {part!r}')
        options[key] = _literal(value)
    return base, options


def _literal(text):
    """A Python value, `dict(...)` too; anything else is a string."""
    try:
        node = ast.parse(text, mode='eval').body
        if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict':
            return {word.arg: ast.literal_eval(word.value) for word in node.keywords}
        return ast.literal_eval(node)
    except (SyntaxError, ValueError):
        return text


def check_timm(name: str) -> None:
    """Raise UsageError unless timm has a model of this name."""
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f'*{name}*')[:5]
        raise UsageError(f'timm has no {name!r}' + (f'; it has {", ".join(near)}' if near else ''))


def create_timm(name: str, **options: Any) -> 'nn.Module':
    """Build a model of timm, for images of any size where it has an option for that."""
    import timm

    try:
        return timm.create_model(name, **{'dynamic_img_size': True, **options})
    except TypeError as error:
        if 'dynamic_img_size' not in str(error):
            raise
    return timm.create_model(name, **options)


def _build_timm(name, options, weights):
    check_timm(name)
    if weights:
        options['checkpoint_path'] = str(find(weights, 'checkpoint'))
    try:
        return create_timm(name, features_only=True, **options)
    except (TypeError, RuntimeError, KeyError) as error:
        raise UsageError(f'timm:{name}: {error}') from error


def _build_host(name, options, weights):
    import importlib

    from mmengine.registry import MODELS, DefaultScope

    scope = name.split('.')[0]
    importlib.import_module(f'{scope}.models')
    if MODELS.get(name) is None:
        raise UsageError(f'{scope} has no backbone {name.partition(".")[2]!r}')
    if weights:
        options['init_cfg'] = dict(type='Pretrained', checkpoint=weights)
    try:
        with DefaultScope.overwrite_default_scope(scope):
            backbone = MODELS.build(dict(options, type=name))
    except CONFIG_ERRORS as error:
        raise UsageError(f'{name}: {explain(error)}') from error
    if weights:
        backbone.init_weights()
    return backbone
