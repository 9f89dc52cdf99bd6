"""The strict load: everything is checked before the model is touched."""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmhybrid.lora import is_of_lora

from . import config_json
from .errors import CheckpointError
from .files import locate, read
from .fit_vit import Fitted, advise_vit, describe_vit, find_vits, fit_input_channels, fit_vit
from .folders import read_config
from .names import find_licence
from .report import LISTED, LoadReport, listing
from .resize import EXTRA_CHANNELS, PATCH_RESIZES
from .sources import convert, find_weights


def pretrained_options(init_cfg: Any) -> dict | None:
    """Return the arguments of :func:`load_pretrained` in an ``init_cfg``; None if it has none.

    Its type may be the name, with a scope or a module before it, or the class.
    """
    if not isinstance(init_cfg, Mapping):
        raise TypeError(
            f'init_cfg has {init_cfg!r}: expected a dict or a list of such; weights are '
            "dict(type='Pretrained', checkpoint=...)"
        )
    kind = init_cfg.get('type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    if name.rpartition('.')[2] not in ('Pretrained', 'PretrainedInit'):
        return None
    # Weights are read on the CPU, wherever the model is.
    return {k: v for k, v in init_cfg.items() if k not in ('type', '_scope_', 'map_location')}


def load_pretrained(
    model: nn.Module,
    checkpoint: Any,
    *,
    parts: Mapping[str, str],
    sha256: str | None = None,
    logger: Any = None,
    **options: Any,
) -> LoadReport:
    """Load published weights into a model, or raise and leave the model as it was.

    Args:
        model: the module to fill.
        checkpoint: a path of a file or folder, an address ('hf://ORG/NAME' too), or a name of
            ``OFFICIAL_FILES`` ('dinov2_vitb14_reg4').
        parts: family of checkpoints -> prefix of the submodule that such a checkpoint fills, for
            example ``{'vit': 'vit.', 'vit_comer': ''}``. All names under the prefix must be
            filled; all others are left at their initialisation, and reported.
        sha256: the file's expected hash or its first digits.
        logger: where the report goes; the logger 'mmhybrid' by default.
        options: those of :func:`load_weights`.

    Returns:
        LoadReport

    Raises:
        CheckpointError: the file cannot be had or read, or does not fit. Nothing was loaded.
        TypeError: an unknown option.
    """
    logger = logger or logging.getLogger('mmhybrid')
    path = locate(checkpoint, sha256=sha256)
    _say_licence(str(checkpoint), logger)
    options = dict(config=read_config(path)) | options
    report = load_weights(model, read(path), parts=parts, file=str(path), **options)
    logger.info('%s', report)
    return report


@cache
def _say_licence(checkpoint, logger):
    """Log the terms that bind the use of weights, once for each."""
    if licence := find_licence(checkpoint):
        logger.warning('%s: the weights are under %s', checkpoint, licence)


def load_weights(
    model: nn.Module,
    checkpoint: Any,
    *,
    parts: Mapping[str, str],
    file: str | Path = 'the state dict',
    entry: str | None = None,
    prefix: str | None = None,
    patch_resize: str = 'bilinear',
    position_grid: tuple[int, int] | None = None,
    rgb_channels: Sequence[int] | None = None,
    extra_channels: str = 'zero',
    fresh: Any = None,
    config: Mapping | None = None,
) -> LoadReport:
    """Load what a checkpoint file holds into a model, or raise and leave the model as it was.

    Args:
        model: the module to fill.
        checkpoint: a state dict in its authors' form, or the training state that holds it.
        parts: as in :func:`load_pretrained`.
        file: its name in the report and in errors.
        entry: the entry of the file that holds the weights, where it has several.
        prefix: precedes the backbone's names in the file; found by trying otherwise.
        patch_resize: 'bilinear' or 'pseudo_inverse', see :func:`resize_patch_embed`.
        position_grid: (h, w) of the file's positions, where they are no square.
        rgb_channels: for each image channel of the file, the model's channel that its filters go
            to (None: left out; several to one: added), for example (0, 0, 0) for grey images.
        extra_channels: filters of the model's other channels, 'zero' or 'mean'.
        fresh: regular expression of names, from their start, that are left at their initialisation
            though the file may have them: r'head\\.fc\\.' where the classes are others.
        config: content of the ``config.json`` of transformers beside the weights: what they do not
            tell has to be the model's too, see :func:`check_config`.

    Returns:
        LoadReport

    Raises:
        CheckpointError: it does not fit, or has values that are no weights; says how.
        ValueError: an option has an unknown value, or there is nothing it could do.
    """
    _check_option('patch_resize', patch_resize, PATCH_RESIZES)
    _check_option('extra_channels', extra_channels, EXTRA_CHANNELS)
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if isinstance(meta, Mapping) and 'lora' in meta:  # by LoRAHook
        raise CheckpointError(
            f'{file} holds what LoRA learned, and not the weights below: join both first, mmhybrid '
            'convert IN OUT --merge-lora CONFIG'
        )
    try:
        found = find_weights(
            checkpoint, own_names=_own_names(model, parts).items(), entry=entry, prefix=prefix
        )
        state_dict, changed, unused = convert(found)
    except CheckpointError as error:
        raise CheckpointError(f'{file}: {error}') from error
    source = found.source
    if source.family not in parts:
        raise CheckpointError(
            f'{file} is a {source.name} checkpoint, for models of the family {source.family}; '
            f'{type(model).__name__} takes {" or ".join(parts)}. Choose the backbone it was made '
            'for, or another checkpoint'
        )

    part = parts[source.family]
    module = model.get_submodule(part.rstrip('.'))
    wanted = module.state_dict()
    fitted = Fitted(dict(state_dict))
    vits = find_vits(module)
    if 'transformers' not in source.name:
        config = None
    for vit_prefix, vit in vits.items():
        if config:
            position_grid = position_grid or config_json.position_grid(config)
        fit_vit(
            fitted,
            vit,
            vit_prefix,
            patch_resize=patch_resize,
            position_grid=position_grid,
            in_adapter=source.family != 'vit',
        )
    fit_input_channels(
        fitted,
        wanted,
        getattr(model, 'in_channels', 0),
        rgb_channels=rgb_channels,
        extra_channels=extra_channels,
    )
    _drop_optional(fitted, wanted, source.optional)
    anew = _leave_fresh(fitted, wanted, fresh) + _count_batches_anew(fitted.state_dict, wanted)
    anew += _begin_lora(fitted.state_dict, wanted)
    taken = fitted.state_dict.keys() & state_dict.keys() - set(anew)
    _check_values(file, source, {name: state_dict[name] for name in sorted(taken)}, wanted)
    neutral = _fill_neutral(fitted.state_dict, wanted, source.neutral)
    _compare(file, source, model, fitted, wanted, state_dict, vits)
    if config:
        _check_config(file, source, model, config, part, vits)

    # Strict: `fitted` and `wanted` have the same names and shapes.
    module.load_state_dict(fitted.state_dict, strict=True)

    altered = changed | set(fitted.resized) | set(neutral) | set(anew)
    sizes = {name: tensor.numel() for name, tensor in wanted.items()}
    looks = [describe_vit(state_dict, vit_prefix) for vit_prefix in vits]
    return LoadReport(
        file=str(file),
        source=source.name,
        weights=', '.join(map(str, filter(None, looks))),
        model=type(model).__name__,
        part=part,
        found=' '.join(filter(None, (found.entry, found.prefix))),
        others=found.others,
        note=source.note,
        matched=tuple(name for name in wanted if name not in altered),
        converted=tuple(name for name in wanted if name in changed and name not in anew),
        resized=fitted.resized,
        neutral=neutral,
        dropped=fitted.dropped,
        unused=unused + found.outside,
        untouched=tuple(part + name for name in anew)
        + tuple(name for name in model.state_dict() if not name.startswith(part)),
        filled=sum(size for name, size in sizes.items() if name not in {*neutral, *anew}),
        parameters=sum(sizes.values()),
    )


def _own_names(model, parts):
    names = list(model.state_dict())
    return {
        family: frozenset(n.removeprefix(part) for n in names if n.startswith(part))
        for family, part in parts.items()
    }


def _drop_optional(fitted, wanted, optional):
    """Drop what the model was built without, noting the option that leaves it out."""
    for name in [name for name in fitted.state_dict if name not in wanted]:
        for pattern, option in optional.items():
            if re.match(pattern, name):
                del fitted.state_dict[name]
                fitted.dropped[name] = option
                break


def _leave_fresh(fitted, wanted, pattern):
    """Put the model's own values in the place of the file's; return the names."""
    if pattern is None:
        return ()
    names = tuple(name for name in wanted if re.match(pattern, name))
    if not names:
        raise ValueError(
            f'fresh={pattern!r} matches no name of the model; its names begin with '
            f'{listing(sorted({name.split(".")[0] for name in wanted}))}'
        )
    for name in names:
        fitted.state_dict[name] = wanted[name]
    return names


def _count_batches_anew(state_dict, wanted):
    """Add the counts of batches that batch norms of old files lack, which few trainings need."""
    counts = [name for name in wanted if name.endswith('.num_batches_tracked')]
    if any(name in state_dict for name in counts):
        return ()
    names = [name for name in counts if _sibling(name, 'running_mean') in state_dict]
    for name in names:
        state_dict[name] = wanted[name]
    return tuple(names)


def _begin_lora(state_dict, wanted):
    """Add the model's LoRA, which begins here unless the file has learned some."""
    names = tuple(name for name in wanted if is_of_lora(name))
    if any(name in state_dict for name in names):
        return ()
    state_dict.update({name: wanted[name] for name in names})
    return names


def _sibling(name, leaf):
    return f'{name.rpartition(".")[0]}.{leaf}'


def _fill_neutral(state_dict, wanted, pattern):
    """Set to 1 what a source never has, if the file has none of it; return the names."""
    if pattern is None:
        return ()
    names = tuple(name for name in wanted if re.fullmatch(pattern, name))
    if any(name in state_dict for name in names):
        return ()
    for name in names:
        state_dict[name] = torch.ones_like(wanted[name])
    return names


def _check_values(file, source, state_dict, wanted):
    """Raise CheckpointError for NaN, infinities, and integers where the model has none."""
    wrong, integers = {}, {}
    for name, tensor in state_dict.items():
        if not tensor.is_floating_point():
            if name not in wanted or wanted[name].is_floating_point():
                integers[name] = str(tensor.dtype).removeprefix('torch.')
            continue
        finite = torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)
        if count := int(tensor.numel() - finite.sum()):
            wrong[name] = f'{count} of {tensor.numel()} values'
    lines = []
    if wrong:
        lines += [
            f'  NaN or infinite, in {len(wrong)} of {len(state_dict)} tensors: {_details(wrong)}',
            '  The training diverged, or the file was changed: give an earlier checkpoint.',
        ]
    if integers:
        lines += [
            f'  integers, {len(integers)} of {len(state_dict)} tensors: {_details(integers)}',
            '  These are quantised, and the scales are not applied: give the weights from before.',
        ]
    if lines:
        title = f'{file} ({source.name}) has values that are no weights; nothing was loaded.'
        raise CheckpointError('\n'.join([title, *lines]))


def _details(texts):
    """Format the first of texts by name as 'name (text), ...'."""
    names = [f'{name} ({text})' for name, text in texts.items()]
    return ', '.join(names[:LISTED]) + (', ...' if len(names) > LISTED else '')


def _compare(file, source, model, fitted, wanted, state_dict, vits):
    """Raise CheckpointError unless names and shapes agree one to one."""
    missing = [name for name in wanted if name not in fitted.state_dict]
    unexpected = [name for name in fitted.state_dict if name not in wanted]
    shapes = {
        name: f'{_shape(tensor)} in the file, {_shape(wanted[name])} in the model'
        for name, tensor in fitted.state_dict.items()
        if name in wanted and tensor.shape != wanted[name].shape
    }
    shapes |= fitted.problems
    if not (missing or unexpected or shapes):
        return

    name = type(model).__name__
    lines = [f'{file} ({source.name}) does not fit {name}; nothing was loaded.']
    advice = (
        f'Check that {name} was built with the options this checkpoint was made with, and that '
        'the file is complete and unchanged.'
    )
    options = [
        option
        for pattern, option in source.optional.items()
        if any(re.match(pattern, name) for name in missing)
    ]
    for prefix in vits:
        theirs, ours = describe_vit(state_dict, prefix), describe_vit(wanted, prefix)
        if theirs and ours and (theirs.width, theirs.depth) != (ours.width, ours.depth):
            lines.append(
                f'  wrong architecture: the file looks like {source.name} {theirs}, the model is '
                f'{ours}'
            )
            advice = f'Build the model as {theirs.name}, or give the checkpoint of {ours.name}.'
            options = []
            break
        options += advise_vit(missing, unexpected, prefix)
    if options:
        advice += f' Options that may be the cause: try {", ".join(options)}.'
    if not (missing or unexpected):
        advice = _advise_shapes(shapes) or advice
    if missing:
        whole = len(wanted)
        lines.append(
            f'  partly filled: {whole - len(missing)} of {whole} names; missing {listing(missing)}'
        )
    if unexpected:
        lines.append(f'  in the file only, {listing(unexpected)}')
    if shapes:
        details = '; '.join(f'{key}: {text}' for key, text in list(shapes.items())[:4])
        lines.append(f'  of another shape, {len(shapes)}: {details}')
    raise CheckpointError('\n'.join([*lines, f'  {advice}']))


def _advise_shapes(shapes):
    """Advise where all that differs are shapes of LoRA, a classifier or position biases."""
    if shapes and all(map(is_of_lora, shapes)):
        return 'Give lora the rank that it was trained with.'
    owners = {name.rpartition('.')[0] for name in shapes}
    if len(owners) == 1 and (owner := owners.pop()).startswith('head'):
        pattern = re.escape(f'{owner}.')
        return f"For other classes, begin with a new classifier: fresh=r'{pattern}'."
    if owners and all(re.fullmatch(r'stages\.\d+\.bias', owner) for owner in owners):
        return (
            'Give the model the pretrain_size of the file: for images of other sizes its position '
            'biases are resized.'
        )
    return None


def _check_config(file, source, model, config, part, vits):
    """Raise CheckpointError where the config beside the weights says otherwise than the model."""
    argument = f'{part.rstrip(".")}=dict({{}})' if part else '{}'
    for vit in vits.values():
        if problems := config_json.check_config(config, vit, argument):
            raise CheckpointError(
                f'{file} ({source.name}) does not fit {type(model).__name__}; nothing was loaded. '
                f'Its config.json: {"; ".join(problems)}'
            )


def _check_option(name, value, known):
    if value not in known:
        raise ValueError(f'{name}={value!r}; known are {", ".join(map(repr, known))}')


def _shape(tensor):
    return tuple(tensor.shape)
