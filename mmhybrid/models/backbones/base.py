"""The base of all backbones: arguments, checks, padding, freezing and the strict load."""

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmhybrid.checkpoints import load_pretrained, pretrained_options
from mmhybrid.signatures import complete_doc, complete_signature
from mmhybrid.unknown_arguments import explain_unknown

from ..kernels import first_rows, is_known, pad_to_multiple, recompute
from ..layers import fuse_norms
from .arch import Arch

MIN_SIZE = 32


class Backbone(BaseModule):
    """Base of the backbones: ``(N, C, H, W)`` image in, tuple of maps out, fine to coarse.

    Map i is ``(N, out_channels[i], ceil(H / out_strides[i]), ceil(W / out_strides[i]))``. Any image
    of at least 32x32 pixels will do: a backbone pads it at the right and bottom and crops its maps.

    A backbone whose original is a classifier also takes ``num_classes``: 0, the default, builds no
    classification head; with it the class logits ``(N, num_classes)`` come out after the maps,
    where mmpretrain's ``ClsHead`` takes them.

    A subclass declares ``family``, ``arch_type``, ``arch_settings`` and ``pretrained_parts``. Its
    constructor takes what is its own, hands everything else on as ``**kwargs``, finds its
    architecture in ``self.arch``, and sets ``out_channels`` and ``out_strides``. It overrides
    :meth:`frozen_modules`, and declares ``embeddings`` or overrides :meth:`get_layer_depth`.

    Signature and documentation of a subclass are completed: the options of its ``arch_type`` and
    the arguments below appear in them without being repeated there.

    Args:
        arch: name of an architecture, or a dict.
        in_channels: channels of the image.
        out_indices: levels whose maps come out; None for all.
        frozen_stages: how many stages are frozen; -1 none, 0 the stem alone.
        norm_eval: keep batch norms in evaluation mode while training.
        with_cp: recompute activations of the parts that :meth:`run` runs in the backward pass, to
            save memory: True all of them; ``'light'`` all but results of products, attention and
            convolutions that are not depth-wise, which serve one backward pass.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` loads published weights strictly, see
            :func:`mmhybrid.checkpoints.load_pretrained`; else as in mmengine.
    """

    family: ClassVar[str]
    """Prefix of the names that ``build_backbone`` takes."""

    arch_settings: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Architectures by name."""

    arch_type: ClassVar[type[Arch]] = Arch
    """The record of an architecture: its settings, their defaults, documentation and checks."""

    arch: Any
    """The ``arch_type`` that this backbone is built by."""

    pretrained_parts: ClassVar[Mapping[str, str]]
    """For each kind of checkpoint that fits, the prefix of the parameters it fills."""

    wrapped: ClassVar[Mapping[str, type['Backbone']]] = {}
    """Backbones that it wraps, by the argument that takes theirs."""

    embeddings: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of stem, embeddings and positions, see :meth:`get_layer_depth`."""

    out_channels: tuple[int, ...]
    out_strides: tuple[int, ...]
    init_cfg: dict | list | None
    is_init: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Complete signature and documentation of the constructor by what it hands on."""
        super().__init_subclass__(**kwargs)
        cls.__signature__ = signature = complete_signature(cls)
        if '__init__' in vars(cls):
            this = inspect.Parameter('self', inspect.Parameter.POSITIONAL_OR_KEYWORD)
            parameters = [this, *signature.parameters.values()]
            vars(cls)['__init__'].__signature__ = signature.replace(parameters=parameters)
        cls.__doc__ = complete_doc(cls, Backbone)

    def __init__(
        self,
        arch: str | Mapping,
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool | Literal['light'] = False,
        init_cfg: dict | list | None = None,
        **options: Any,
    ):
        taken = self.arch_type.options()
        if unknown := {name: it for name, it in options.items() if name not in taken}:
            explained = explain_unknown(type(self), arch, unknown)
            raise TypeError(f'{type(self).__name__} has no argument {explained}')
        super().__init__(init_cfg)
        self.arch = self.resolve_arch(arch, **options)
        self.in_channels = in_channels
        if isinstance(out_indices, int):
            out_indices = (out_indices,)
        self.out_indices = None if out_indices is None else tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        if with_cp not in (False, True, 'light'):
            raise ValueError(f"with_cp={with_cp!r:.200}: expected False, True or 'light'")
        self.with_cp = with_cp
        self.is_fused = False

    @classmethod
    def resolve_arch(cls, arch: str | Mapping, **options: Any) -> Any:
        """Make the record of an architecture from named or given settings and the options.

        It shares nothing with ``arch`` and the options, which are the caller's.

        Args:
            arch: a name in ``arch_settings``, with or without the family's, or a dict.
            options: settings by name; those that are None change nothing.

        Raises:
            ValueError: an unknown name, a setting that is unknown, missing or out of range.
        """
        if isinstance(arch, Mapping):
            settings = dict(arch)
        else:
            name = str(arch).removeprefix(f'{cls.family}_')
            if name not in cls.arch_settings:
                raise ValueError(
                    f'{cls.__name__} has no arch {arch!r:.200}; use one of '
                    f'{", ".join(map(repr, cls.arch_settings))}, or a dict'
                )
            settings = dict(cls.arch_settings[name])
        known = [it.name for it in fields(cls.arch_type)]
        if unknown := {name: it for name, it in settings.items() if name not in known}:
            raise ValueError(f'arch of {cls.__name__} has no {explain_unknown(cls, arch, unknown)}')
        settings.update({key: value for key, value in options.items() if value is not None})
        if missing := [name for name in cls.arch_type.required() if name not in settings]:
            raise ValueError(f'arch of {cls.__name__} needs {", ".join(missing)}; got {arch!r:.99}')
        return cls.arch_type(**copy.deepcopy(settings))

    def resolve_indices(self, count: int) -> tuple[int, ...]:
        """Return ``out_indices`` ascending, as 0 to ``count - 1``; all of them if it is None."""
        if self.out_indices is None:
            self.out_indices = tuple(range(count))
        indices = tuple(sorted(i + count if i < 0 else i for i in self.out_indices))
        are_distinct = len(set(indices)) == len(indices)
        if not (indices and are_distinct and 0 <= indices[0] <= indices[-1] < count):
            raise ValueError(
                f'out_indices={self.out_indices!r:.200} of {type(self).__name__}: expected '
                f'distinct levels between 0 and {count - 1}'
            )
        return indices

    def check_frozen_stages(self, count: int, parts: str = 'stages') -> None:
        """Raise unless ``frozen_stages`` is at most the number of these parts of the backbone."""
        if isinstance(self.frozen_stages, bool) or self.frozen_stages > count:
            raise ValueError(
                f'frozen_stages={self.frozen_stages}: this {type(self).__name__} has {count} '
                f'{parts}; use -1 (nothing) to {count}'
            )

    # Input and output

    def check_image(self, image: Tensor) -> None:
        """Raise unless the image is ``(N, in_channels, H, W)`` with sides of at least 32 pixels."""
        name, shape = type(self).__name__, tuple(image.shape)
        if image.ndim != 4:
            raise ValueError(f'{name} takes an image batch (N, C, H, W), got shape {shape}')
        if shape[1] != self.in_channels:
            raise ValueError(
                f'{name} was built for {self.in_channels} image channels, got {shape[1]} '
                f'(shape {shape}); set in_channels={shape[1]} or change the input'
            )
        if shape[2] < MIN_SIZE or shape[3] < MIN_SIZE:
            raise ValueError(
                f'{name} takes images of at least {MIN_SIZE}x{MIN_SIZE} pixels, got '
                f'{shape[2]}x{shape[3]} (shape {shape}); resize or pad the input'
            )

    @staticmethod
    def pad_image(image: Tensor, multiple: int) -> Tensor:
        """Pad with zeros at the right and bottom until ``multiple`` divides both sides.

        The result is channels-last: convolutions are faster so, and their maps are tokens.
        """
        h, w = image.shape[2:]
        image = image.contiguous(memory_format=torch.channels_last)
        if is_known(h, w) and h % multiple == 0 and w % multiple == 0:
            return image
        return F.pad(image, (0, pad_to_multiple(w, multiple), 0, pad_to_multiple(h, multiple)))

    @staticmethod
    def crop_map(level: Tensor, image_size: Sequence[int], stride: int) -> Tensor:
        """Cut the part of a map that lies on the unpadded image, ``ceil(size / stride)``.

        The part is contiguous: compiled operators of mmcv, RoIAlign among them, read memory as if
        every map were, and a neck hands the format of its input on to them.
        """
        h, w = ((side + stride - 1) // stride for side in image_size)
        if not is_known(h, w, *level.shape[2:]) or level.shape[2:] != (h, w):
            level = first_rows(first_rows(level, 2, h), 3, w)
        return level.contiguous()

    def run(self, module: nn.Module, *args: Any) -> Any:
        """Run a part of the backbone; with ``with_cp``, recompute what its gradients need."""
        if self.with_cp and (self.training or any(getattr(it, 'requires_grad', 0) for it in args)):
            return recompute(module, *args, light=self.with_cp == 'light')
        return module(*args)

    # Weights

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says; load published weights strictly and log the report."""
        if self.is_init:
            return
        init_cfg = self.init_cfg
        steps = [init_cfg] if init_cfg else []
        if isinstance(init_cfg, (list, tuple)):
            steps = list(init_cfg)
        pretrained = [options for options in map(pretrained_options, steps) if options is not None]
        self.init_cfg = [step for step in steps if pretrained_options(step) is None]
        if self.init_cfg:
            super().init_weights()
        self.init_cfg = init_cfg
        for child in self.children():
            if isinstance(child, Backbone):
                child.init_weights()
        for options in pretrained:
            logger = MMLogger.get_current_instance()
            load_pretrained(self, parts=self.pretrained_parts, logger=logger, **options)
        self.is_init = True

    # Training

    def frozen_modules(self) -> list[nn.Module | nn.Parameter]:
        """Return the modules and parameters that ``frozen_stages`` freezes."""
        return []

    def freeze(self) -> None:
        """Stop gradients of frozen parts; keep these, and norms by ``norm_eval``, in evaluation."""
        for part in self.frozen_modules():
            part.requires_grad_(False)
            if isinstance(part, nn.Module):
                part.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def fuse(self) -> 'Backbone':
        """Fold batch norms into the layers beside them, in place, and return the backbone.

        For inference: outputs stay the same up to rounding. Load weights first, it changes them.
        """
        fuse_norms(self.eval())
        self.is_fused = True
        return self

    def train(self, mode: bool = True) -> 'Backbone':
        if mode and self.is_fused:
            raise RuntimeError(
                f'{type(self).__name__} was fused for inference: its batch norms are gone; to '
                'train, build it anew and load the weights'
            )
        super().train(mode)
        if mode:
            self.freeze()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter for layer-wise learning rates, and the number of depths.

        Parameters that ``embeddings`` names are at depth 0, block i of all stages at ``i + 1``, the
        other parameters of a stage at the depth of its first block, and all that follows is last.
        mmpretrain's ``LearningRateDecayOptimWrapperConstructor`` asks for this form.

        Args:
            param_name: full name of the parameter.
            prefix: precedes this backbone's own names in it.
        """
        if not self.embeddings:
            raise NotImplementedError(f'{type(self).__name__} does not define layer depths')
        blocks = [name for name, _ in self.named_modules() if re.search(r'\bblocks\.\d+$', name)]
        last = len(blocks) + 1
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return last, last + 1
        if name.startswith(self.embeddings):
            return 0, last + 1
        for depth, block in enumerate(blocks, 1):
            stage = block[: block.rindex('blocks.')]  # '' where a backbone has no stages
            is_beside = stage and name.startswith(stage) and not name.startswith(f'{stage}blocks.')
            if is_beside or name.startswith(f'{block}.'):
                return depth, last + 1
        return last, last + 1
