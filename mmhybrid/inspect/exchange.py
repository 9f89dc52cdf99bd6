"""The exchange between a plain ViT and the pyramid beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmhybrid.models.kernels import split_levels

if TYPE_CHECKING:
    from mmhybrid.models.backbones import ViTAdapter, ViTCoMer


@dataclass(frozen=True)
class Exchange:
    """One part's work on one stream of features.

    Sizes are root mean squares over all values.

    Attributes:
        stage: counted from 1.
        part: such as ``'MRFP'`` or ``'CTI to ViT'``.
        stream: ``'ViT tokens'`` or ``'pyramid, stride 8'``.
        before: size of the stream that comes in.
        added: size of what the part changes: what leaves it minus what came in.
        after: size of what leaves it.
    """

    stage: int
    part: str
    stream: str
    before: float
    added: float
    after: float

    @property
    def share(self) -> float:
        """The change's size over that of the stream before."""
        return self.added / max(self.before, 1e-30)


def exchanges(model: 'ViTCoMer | ViTAdapter', image: Tensor) -> list[Exchange]:
    """Measure each part's change of each stream of an adapter, in the order it happens.

    Args:
        model: a ``ViTCoMer`` or a ``ViTAdapter``.
        image: ``(1, C, H, W)``.

    Raises:
        TypeError: another model, which has no two streams.
    """
    stages = getattr(model, 'stages', None)
    if not hasattr(model, 'vit') or not stages:
        raise TypeError(
            f'{type(model).__name__} has no ViT and pyramid that exchange features; expected '
            'ViTCoMer or ViTAdapter'
        )
    rows: list[Exchange] = []
    handles = []
    for number, (stage, (first, last)) in enumerate(zip(stages, model.groups, strict=True), 1):
        record = _Stage(number, rows, model.vit.num_prefix_tokens)
        for part, module, hook in _parts(stage, record):
            handles.append(module.register_forward_hook(hook(part)))
        blocks = model.vit.blocks
        handles.append(blocks[first].register_forward_pre_hook(record.enters_vit))
        label = f'blocks {first} to {last}' if last > first else f'block {first}'
        handles.append(blocks[last].register_forward_hook(record.leaves_vit(label)))
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return rows


class _Stage:
    """The hooks of one stage."""

    def __init__(self, number: int, rows: list[Exchange], prefix: int):
        self.number = number
        self.rows = rows
        self.prefix = prefix
        self.injected: tuple[str, Tensor] | None = None
        self.entered = torch.empty(0)  # the patch tokens before the stage's blocks
        self.pyramid_before: Tensor | None = None  # what the part before left

    def add(self, part: str, stream: str, before: Tensor, after: Tensor) -> None:
        sizes = (_size(before), _size(after - before), _size(after))
        self.rows.append(Exchange(self.number, part, stream, *sizes))

    def add_levels(self, part: str, before: Tensor, after: Tensor, shapes) -> None:
        old, new = split_levels(before, shapes), split_levels(after, shapes)
        for stride, *maps in zip((8, 16, 32), old, new, strict=True):
            self.add(part, f'pyramid, stride {stride}', *maps)

    def pyramid(self, part: str) -> Callable:
        """Make the hook of a part that takes the pyramid first and its levels' shapes last."""

        def hook(module, args, output):
            self.add_levels(part, args[0], output, args[-1])
            self.pyramid_before = output

        return hook

    def takes_patches(self, part: str) -> Callable:
        """Make the hook of such a part that adds the patch tokens to the middle level first."""

        def hook(module, args, output):
            pyramid, patches, *_, shapes = args
            fine, middle, coarse = pyramid.split([h * w for h, w in shapes], dim=1)
            joined = torch.cat((fine, middle + patches, coarse), dim=1)
            self.add(f'{part}: ViT map', 'pyramid, stride 16', middle, middle + patches)
            self.add_levels(part, joined, output, shapes)

        return hook

    def to_vit(self, part: str) -> Callable:
        """Make the hook of a part whose output is added to the patch tokens.

        That of ViT-CoMer is given a pyramid to which the patch tokens were added, and leaves it so.
        """

        def hook(module, args, output):
            self.injected = part, output
            if self.pyramid_before is not None:
                given, _, shapes = args
                before, after = (
                    split_levels(tokens, shapes)[1] for tokens in (self.pyramid_before, given)
                )
                self.add(f'{part}: ViT map', 'pyramid, stride 16', before, after)

        return hook

    def enters_vit(self, module: nn.Module, args: tuple) -> None:
        self.entered = args[0][:, self.prefix :]
        if self.injected is not None:
            part, added = self.injected
            self.add(part, 'ViT tokens', self.entered - added, self.entered)

    def leaves_vit(self, label: str) -> Callable:
        def hook(module, args, output):
            self.add(label, 'ViT tokens', self.entered, output[:, self.prefix :])

        return hook


def _parts(stage: Any, record: _Stage) -> list[tuple[str, nn.Module, Callable]]:
    """Return name, module and kind of hook of each part of a stage."""
    if hasattr(stage, 'injector'):
        parts = [('injector', stage.injector, record.to_vit)]
        parts += [('extractor', stage.extractor, record.pyramid)]
        extra, kind, name = stage.extra, record.pyramid, 'extra extractor'
    else:
        parts = [('MRFP', stage.mrfp, record.pyramid)]
        parts += [('CTI to ViT', stage.to_vit, record.to_vit)]
        parts += [('CTI to CNN', stage.to_cnn, record.takes_patches)]
        extra, kind, name = stage.extra, record.takes_patches, 'extra CTI'
    parts += [(f'{name} {i}', module, kind) for i, module in enumerate(extra, 1)]
    return [part for part in parts if part[1] is not None]


def _size(values: Tensor) -> float:
    return values.float().square().mean().sqrt().item()
