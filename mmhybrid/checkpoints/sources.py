"""The published forms of weights that are recognised, and how to find one inside a file.

A new source is one file with a pure function and one line in ``SOURCES``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from . import cmt, conv_stem_vit, cvt, plain_vit, spach, vit_adapter, vit_comer
from .errors import CheckpointError


@dataclass(frozen=True)
class Source:
    """One published form of weights.

    Attributes:
        name: its name in the report.
        family: the kind of model its weights fill; a backbone says under which prefix it has one.
        matches: return True for a set of keys of this form.
        convert: pure function, the authors' state dict to mmhybrid's names.
        unused: regular expression of the keys that are known and belong to no backbone
            (heads, decoders, mask tokens). Any other key must find its place.
        neutral: regular expression of the parameters that a model may have and that this source
            does not have, set to 1 (LayerScale: a ViT without it is one whose scales are 1).
        optional: regular expression of names -> the option of the model that leaves them out.
        note: what a user has to know that the keys do not say.
    """

    name: str
    family: str
    matches: Callable[[frozenset[str]], bool]
    convert: Callable[[dict], dict]
    unused: str | None = None
    neutral: str | None = None
    optional: Mapping[str, str] = field(default_factory=dict)
    note: str = ''


def _is_vit_comer(keys):
    # ViT-Adapter has a spatial prior 'spm.' and interactions too, of other parts; ViT-CoMer may
    # have none, where all of CTI is switched off.
    parts = r'interactions\.\d+\.(cti_toc|cti_tov|mrfp|extra_CTIs)\.'
    return plain_vit.any_key(keys, r'spm\.') and (
        plain_vit.any_key(keys, parts) or not plain_vit.any_key(keys, r'interactions\.')
    )


# The layers that end a level of an adapter, and make its finest one.
LEVELS = {r'(norms\.\d|upsample|cnn\.projections\.0)\.': 'out_indices'}
LAYER_SCALE = r'blocks\.\d+\.ls[12]\.gamma'

# The first that matches is taken: the most particular come first.
SOURCES = (
    Source('CMT', 'cmt', cmt.is_cmt, cmt.convert_cmt, optional={r'head\.': 'num_classes=0'}),
    Source(
        'ViT-Adapter', 'vit_adapter', vit_adapter.is_vit_adapter, vit_adapter.convert_vit_adapter,
        optional=LEVELS,
    ),
    Source(
        'ViT-CoMer', 'vit_comer', _is_vit_comer, vit_comer.convert_vit_comer, optional=LEVELS
    ),
    Source(
        'ViT_C and ViT_P', 'conv_stem_vit', conv_stem_vit.is_conv_stem_vit,
        conv_stem_vit.convert_conv_stem_vit,
        optional={r'head\.': 'num_classes=0'},
    ),
    Source(
        'CvT', 'cvt', cvt.is_cvt, cvt.convert_cvt,
        optional={
            r'(norm|head)\.': 'num_classes=0', r'stages\.\d+\.cls_token': 'class_token=False',
        },
    ),
    Source(
        'SPACH', 'spach', spach.is_spach, spach.convert_spach,
        optional={r'(norm|head)\.': 'num_classes=0'},
    ),
    Source(
        'AugReg (npz)', 'vit', plain_vit.is_augreg, plain_vit.convert_augreg,
        unused=r'(head|pre_logits)/', neutral=LAYER_SCALE,
    ),
    Source(
        'DINOv3', 'vit', plain_vit.is_dinov3, plain_vit.convert_dinov3,
        unused=r'mask_token$|(cls_norm|local_cls_norm|head)\.',
    ),
    Source(
        'DINOv3 (timm)', 'vit', plain_vit.is_timm_dinov3, plain_vit.convert_timm_dinov3,
        unused=r'(head|fc_norm)\.',
    ),
    Source(
        'BEiT', 'vit', plain_vit.is_beit, plain_vit.convert_beit,
        unused=r'(head|fc_norm|lm_head|cls_pt_(layers|norm|lm_head))\.|mask_token$|'
        '.*relative_position_index$',
        neutral=LAYER_SCALE,
    ),
    Source(
        'DeiT III', 'vit', plain_vit.is_deit3, plain_vit.convert_beit, unused=r'head\.',
        note="the keys are also those of timm's ViTs with RoPE and learned positions, which are "
        'not supported and would compute something else',
    ),
    Source(
        'MAE', 'vit', plain_vit.is_mae, plain_vit.convert_timm,
        unused=r'mask_token$|decoder_', neutral=LAYER_SCALE,
    ),
    Source(
        'DINOv2', 'vit', plain_vit.is_dinov2, plain_vit.convert_dinov2,
        unused=r'mask_token$|head\.',
    ),
    Source(
        'timm (DeiT, AugReg, MAE)', 'vit', plain_vit.is_timm, plain_vit.convert_timm,
        unused=r'(head|head_dist|fc_norm|pre_logits|attn_pool)\.', neutral=LAYER_SCALE,
    ),
)  # fmt: skip

# Entries that hold the weights in a training file, and prefixes of the backbone in a larger
# model; the first that leads to a known source is taken.
ENTRIES = (
    'state_dict', 'model', 'module', 'teacher', 'student',
    'model_state_dict', 'model_state', 'state_dict_ema', 'ema_state_dict', 'ema_state',
    'model_ema', 'ema',
)  # fmt: skip
PREFIXES = (
    'module.', '_orig_mod.', 'teacher.', 'backbone.', 'model.', 'encoder.', 'student.',
    'opt/target/',
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Weights found inside a file: their source, where they were, what lies beside them.

    ``outside`` are the other keys, ``others`` the other entries that would have been opened.
    """

    source: Source
    entry: str
    prefix: str
    state_dict: dict
    outside: tuple[str, ...]
    others: tuple[str, ...]


def find_weights(
    checkpoint: Mapping,
    *,
    own_names: Mapping[str, frozenset[str]] | None = None,
    entry: str | None = None,
    prefix: str | None = None,
) -> Found:
    """Find a known source inside what a checkpoint file holds.

    Args:
        checkpoint: the file's content: a state dict, or a training state that holds one.
        own_names: family -> names of mmhybrid's own form, to recognise our own files too.
        entry: the entry that holds the weights, where the file has several ('state_dict_ema').
        prefix: precedes the backbone's names ('backbone'); found by trying otherwise.

    Raises:
        CheckpointError: no state dict in it, or none of a known source.
    """
    entry, state_dict, others = _open_entry(checkpoint, entry)
    sources = SOURCES + tuple(_own_source(*item) for item in (own_names or {}).items())
    if prefix is not None:
        if prefix and prefix[-1] not in './':
            prefix += '.'
        if not any(key.startswith(prefix) for key in state_dict):
            raise CheckpointError(
                f'no key starts with prefix={prefix!r}; the first keys are {_first(state_dict)}'
            )
        prefixes = [prefix]
    else:
        prefixes = _candidate_prefixes(state_dict)
    for candidate in prefixes:
        inside = {
            key.removeprefix(candidate): value
            for key, value in state_dict.items()
            if key.startswith(candidate)
        }
        keys = frozenset(inside)
        for source in sources:
            if source.matches(keys):
                outside = tuple(key for key in state_dict if not key.startswith(candidate))
                return Found(source, entry, candidate, inside, outside, others)
    raise CheckpointError(
        'these weights are of no known source: '
        f'{len(state_dict)} keys, the first are {_first(state_dict)}. Known are '
        f"{', '.join(source.name for source in SOURCES)} and mmhybrid's own files. If the "
        "backbone's keys have another prefix than "
        f"{', '.join(map(repr, PREFIXES))}, give it as the option prefix ('backbone.vit.' for the "
        'ViT in an adapter)'
    )


def convert(found: Found) -> tuple[dict, dict, tuple[str, ...]]:
    """Convert found weights to mmhybrid's names.

    Returns:
        (the converted state dict, those of its names that are not the file's own entries,
        the known keys that no backbone uses).
    """
    source = found.source
    unused = tuple(
        key for key in found.state_dict if source.unused and re.match(source.unused, key)
    )
    raw = {key: value for key, value in found.state_dict.items() if key not in unused}
    try:
        state_dict = source.convert(raw)
    except (IndexError, RuntimeError, ValueError) as error:  # tensors of an impossible shape
        raise CheckpointError(
            f'these weights look like {source.name} but do not convert: {error}'
        ) from error
    changed = {name for name, value in state_dict.items() if raw.get(name) is not value}
    return state_dict, changed, unused


def _own_source(family, names):
    """Find mmhybrid's own form of a family, by half of all names in common.

    A file of twice the depth is still recognised, a ViT with another adapter beside it is not.
    """

    def matches(keys):
        return 2 * len(names & keys) >= len(names | keys) > 0

    optional = {}
    for source in SOURCES:
        if source.family == family:
            optional |= source.optional
    has_head = any(name.startswith('head.') for name in names)
    has_option = any(re.match(pattern, 'head.') for pattern in optional)
    unused = None if has_head or has_option else r'head\.'
    return Source('mmhybrid', family, matches, dict, unused=unused, optional=optional)


def _open_entry(checkpoint, entry):
    """Step into a training file's entries down to the dict that holds tensors by name.

    Returns:
        (the entries stepped into, the tensors by name, the entries passed by).
    """
    path, others = [], []
    if entry is not None:
        if not isinstance(checkpoint, Mapping) or entry not in checkpoint:
            raise CheckpointError(
                f'the file has no entry {entry!r}; its entries are {_first(checkpoint)}'
            )
        checkpoint = checkpoint[entry]
        path.append(entry)
    while isinstance(checkpoint, Mapping):
        tensors = {k: v for k, v in checkpoint.items() if isinstance(v, torch.Tensor)}
        inner = [e for e in ENTRIES if isinstance(checkpoint.get(e), Mapping)]
        if not inner:
            if not tensors:
                break
            return '.'.join(path), tensors, tuple(others)
        if entry is None:
            others += inner[1:]
        checkpoint = checkpoint[inner[0]]
        path.append(inner[0])
    message = f'there are no weights in it: a {type(checkpoint).__name__} with {_first(checkpoint)}'
    entries = checkpoint.items() if isinstance(checkpoint, Mapping) else ()
    if holders := [repr(name) for name, value in entries if _holds_tensors(value)]:
        message += f'. Tensors are in {", ".join(holders)}: give {holders[0]} as the option entry'
    raise CheckpointError(message)


def _holds_tensors(value):
    return isinstance(value, Mapping) and any(isinstance(v, torch.Tensor) for v in value.values())


def _candidate_prefixes(keys):
    """List '' and every chain of known prefixes that the keys have, shortest first."""
    chains = ['']
    for chain in chains:
        if chain.count('.') < 4:
            chains += [
                chain + prefix
                for prefix in PREFIXES
                if any(key.startswith(chain + prefix) for key in keys)
            ]
    return chains


def _first(keys, count=5):
    """Return the first few keys, for a message."""
    if not isinstance(keys, Mapping):
        return 'no entries'
    names = [str(key) for key in keys]
    more = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(names[:count]) + more if names else 'no entries'
