"""The published forms of weights that are recognised, and how to find one inside a file.

A new source is one file with a pure function and one line in ``SOURCES``.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch

from . import (
    cmt,
    conv_stem_vit,
    cvt,
    openmmlab_vit,
    plain_vit,
    spach,
    sta,
    transformers_vit,
    vit_adapter,
    vit_comer,
)
from .errors import CheckpointError
from .forms import Form, told_by
from .unsupported import UNSUPPORTED


@dataclass(frozen=True, kw_only=True)
class Source(Form):
    """One published form of weights.

    Attributes:
        name, needs, forbids: the keys by which it is told, see :class:`Form`. State what sets it
            apart from every form with the same names that computes something else.
        family: the kind of model its weights fill; a backbone says under which prefix it has one.
        convert: pure function, the authors' state dict to mmhybrid's names.
        unused: regular expression of the keys that are known and belong to no backbone
            (heads, decoders, mask tokens). Any other key must find its place.
        neutral: regular expression of the parameters that a model may have and that this source
            does not have, set to 1 (LayerScale: a ViT without it is one whose scales are 1).
        optional: regular expression of names -> the option of the model that leaves them out.
        note: what a user has to know that the keys do not say.
    """

    family: str
    convert: Callable[[dict], dict]
    unused: str | None = None
    neutral: str | None = None
    optional: Mapping[str, str] = field(default_factory=dict)
    note: str = ''


@dataclass(frozen=True, kw_only=True)
class OwnSource(Source):
    """mmhybrid's own form of a family, told by half of all names in common.

    A file of twice the depth is still recognised, a ViT with another adapter beside it is not.
    """

    names: frozenset[str]

    def fits(self, keys: frozenset[str]) -> bool:
        """Return True if half of all names are common and none is another author's."""
        half = 2 * len(self.names & keys) >= len(self.names | keys) > 0
        return half and super().fits(keys)


def plain_vit_source(
    name: str,
    convert: Callable,
    *,
    parts: Sequence[str],
    needs: tuple[str, ...] = (),
    forbids: tuple[str, ...] = (),
    **options: Any,
) -> Source:
    """Make the source of a plain ViT.

    Args:
        parts: regular expressions of the parts of a block beside its norms; a block with any other
            part is another model's.
    """
    known = '|'.join((r'norm[12]\.', r'\d+\.', *parts))
    return Source(
        name=name,
        family='vit',
        convert=convert,
        needs=(r'blocks\.(\d+\.)+attn\.qkv\.weight', *needs),
        forbids=(
            rf'blocks\.(\d+\.)+(?!{known})',
            r'(spm|interactions|stem|rope|norm_pre|neck|blocks_token_only|cls_attn_blocks)\.',
            r'pos_embed_win|patch_embed\.(?!proj\.)',
            *forbids,
        ),
        **options,
    )


# Names of other authors that no model here has.
FOREIGN = (
    r'(.*\.)?(gamma_?\d|[qkv]_bias|reg_token|storage_tokens|fc_norm|norm_pre|attn_pool|rel_pos\w*|'
    r'(decomposed_)?relative_position_\w+|lambda_\w+|[qk]_norm|fc1_[gx]|w[012]|freqs)(\.|$)'
)


def transformers_source(
    name: str, *, needs: tuple[str, ...] = (), forbids: tuple[str, ...] = (), **options: Any
) -> Source:
    """Make the source of a plain ViT in the names of transformers."""
    attention = r'attention\.(attention\.(query|key|value)|output\.dense|[qkvo]_proj)\.'
    mlp = r'(intermediate|output)\.dense\.|mlp\.(fc[12]|weights_(in|out)|(gate|up|down)_proj)\.'
    bias = r'attention\.attention\.relative_position_bias\.'
    known = (
        rf'(layernorm_(before|after)|norm[12])\.|{attention}|{mlp}|{bias}|lambda_[12]|layer_scale'
    )
    wrapper, layer = transformers_vit.WRAPPER, transformers_vit.LAYER
    return Source(
        name=f'{name} (transformers)',
        family='vit',
        convert=transformers_vit.convert_transformers,
        needs=(
            rf'{layer}attention\.(attention\.query|q_proj)\.weight$',
            rf'({wrapper})?embeddings\.cls_token$',
            *needs,
        ),
        forbids=(
            rf'{layer}(?!{known})',
            rf'({wrapper})?embeddings\.patch_embeddings\.(?!(projection\.)?(weight|bias)$)',
            *forbids,
        ),
        unused=transformers_vit.UNUSED,
        **options,
    )


def openmmlab_source(
    name: str, *, needs: tuple[str, ...] = (), forbids: tuple[str, ...] = (), **options: Any
) -> Source:
    """Make the source of a plain ViT in the names of mmpretrain and mmsegmentation."""
    attention = (
        r'attn\.(qkv|proj|attn\.(in_proj_|out_proj\.)|gamma1\.|[qv]_bias|relative_position_)'
    )
    ffn = r'ffn\.(layers\.(0\.0|1)\.|w12\.|w3\.|gamma2\.)'
    return Source(
        name=f'{name} (mmpretrain, mmsegmentation)',
        family='vit',
        convert=openmmlab_vit.convert_openmmlab,
        needs=(
            r'layers\.\d+\.attn\.(qkv\.weight|attn\.in_proj_weight)$',
            r'layers\.\d+\.ln1\.',
            *needs,
        ),
        forbids=(
            rf'layers\.\d+\.(?!ln[12]\.|{attention}|{ffn}|gamma_[12]$)',
            r'(pre_norm|ln_pre)\.|patch_embed\.(?!projection\.)',
            *forbids,
        ),
        **options,
    )


# The layers that end a level of an adapter, and make its finest one.
LEVELS = {r'(norms\.\d|upsample|cnn\.projections\.0)\.': 'out_indices'}
LAYER_SCALE = r'blocks\.\d+\.ls[12]\.gamma'

# Parts of a plain ViT's blocks by the authors that name them; a block with any other is not theirs.
ATTENTION = r'attn\.(qkv|proj)\.'
BIASES = r'attn\.[qv]_bias'
MLP = r'mlp\.fc[12]\.'
TIMM_PARTS = (ATTENTION, MLP, r'ls[12]\.')
BEIT_PARTS = (ATTENTION, BIASES, MLP, r'gamma_[12]')
DINOV2_PARTS = (ATTENTION, MLP, r'mlp\.(w12|w3)\.', r'(ls[12]\.gamma|gamma[12])')

# The first that fits is taken.
SOURCES = (
    Source(
        name='CMT', family='cmt', convert=cmt.convert_cmt,
        needs=(r'relative_pos_[a-d]$', r'stem_conv1\.'),
        optional={r'head\.': 'num_classes=0'},
    ),
    Source(
        name='ViT-Adapter', family='vit_adapter', convert=vit_adapter.convert_vit_adapter,
        needs=(r'spm\.', r'interactions\.\d+\.(injector|extractor)\.'),
        optional=LEVELS,
    ),
    Source(  # without interactions where all of CTI is switched off
        name='ViT-CoMer', family='vit_comer', convert=vit_comer.convert_vit_comer,
        needs=(r'spm\.',),
        forbids=(r'interactions\.\d+\.(?!(cti_toc|cti_tov|mrfp|extra_CTIs)\.)',),
        optional=LEVELS,
    ),
    Source(
        name='STA', family='sta', convert=sta.convert_sta,
        needs=(r'sta\.stem\.', r'dinov3\.(_model\.)?blocks\.'),
        unused=r'dinov3\.(_model\.)?mask_token$',
        optional={r'(cnn\.stages|fusions)\.\d\.': 'out_indices'},
    ),
    Source(
        name='ViT_C and ViT_P', family='conv_stem_vit',
        convert=conv_stem_vit.convert_conv_stem_vit,
        needs=(r'encoder\.block_\d+\.self_attention\.block\.in_proj_weight$',),
        optional={r'head\.': 'num_classes=0'},
    ),
    Source(
        name='CvT', family='cvt', convert=cvt.convert_cvt,
        needs=(r'stage\d+\.blocks\.\d+\.attn\.proj_q\.weight$',),
        optional={
            r'(norm|head)\.': 'num_classes=0', r'stages\.\d+\.cls_token': 'class_token=False',
        },
    ),
    Source(
        name='CvT (transformers)', family='cvt', convert=cvt.convert_transformers_cvt,
        needs=(r'(cvt\.)?encoder\.stages\.\d+\.embedding\.convolution_embeddings\.',),
        optional={
            r'(norm|head)\.': 'num_classes=0', r'stages\.\d+\.cls_token': 'class_token=False',
        },
        note="transformers computes it with GELU, the authors with an approximation: act='gelu' is "
        'what transformers does',
    ),
    Source(
        name='SPACH', family='spach', convert=spach.convert_spach,
        needs=(r'(layer\d\.\d+|blocks\.\d+)\.channel_func\.fc1\.weight$',),
        optional={r'(norm|head)\.': 'num_classes=0'},
    ),
    Source(
        name='AugReg (npz)', family='vit', convert=plain_vit.convert_augreg,
        needs=(r'embedding/kernel$', r'Transformer/encoderblock_\d+/'),
        unused=r'(head|pre_logits)/', neutral=LAYER_SCALE,
    ),
    transformers_source('DINOv3', needs=(r'layer\.\d+\.attention\.q_proj\.',)),
    transformers_source('DINOv2', needs=(rf'{transformers_vit.LAYER}layer_scale1\.',)),
    transformers_source(
        'BEiT',
        needs=(r'.*(\.lambda_1|\.relative_position_bias_table|beit\.embeddings\.cls_token)$',),
        neutral=LAYER_SCALE,
    ),
    transformers_source('MAE', needs=(r'decoder\.decoder_embed\.',), neutral=LAYER_SCALE),
    transformers_source('DeiT', needs=(r'.*embeddings\.distillation_token$',), neutral=LAYER_SCALE),
    transformers_source('ViT and MAE', neutral=LAYER_SCALE),
    openmmlab_source(
        'BEiT', needs=(r'layers\.\d+\.attn\.relative_position_bias_table$|rel_pos_bias\.',),
        forbids=(r'pos_embed$',),
        unused=r'mask_token$|ln2\.|.*relative_position_index$', neutral=LAYER_SCALE,
    ),
    openmmlab_source(
        'ViT', needs=(r'pos_embed$',), forbids=(r'(layers\.\d+\.attn|rel_pos_bias)\.relative_',),
        unused=r'mask_token$|ln2\.', neutral=LAYER_SCALE,
    ),
    plain_vit_source(
        'DINOv3', plain_vit.convert_dinov3,
        parts=(ATTENTION, r'attn\.qkv\.bias_mask', MLP, r'mlp\.w[123]\.', r'ls[12]\.'),
        needs=(r'storage_tokens$|rope_embed\.|.*\.qkv\.bias_mask|.*\.mlp\.w1\.',),
        forbids=(r'pos_embed$', r'fc_norm\.'),
        unused=r'mask_token$|(cls_norm|local_cls_norm|head|projectors)\.',  # EUPE has the last
    ),
    plain_vit_source(  # timm's RoPE ViTs of other trainings have no class token, and fc_norm
        'DINOv3 (timm)', plain_vit.convert_timm_dinov3,
        parts=(*BEIT_PARTS, r'mlp\.fc1_[gx]\.'),
        needs=(r'cls_token$', r'reg_token$', r'.*\.gamma_1$'),
        forbids=(r'pos_embed$', r'fc_norm\.'),
        unused=r'head\.',
    ),
    plain_vit_source(
        'BEiT', plain_vit.convert_beit,
        parts=(*BEIT_PARTS, r'attn\.relative_position_(bias_table|index)'),
        needs=(plain_vit.RELATIVE_POSITIONS,),
        unused=r'(head|fc_norm|lm_head|cls_pt_(layers|norm|lm_head))\.|mask_token$|'
        '.*relative_position_index$',
        neutral=LAYER_SCALE,
    ),
    plain_vit_source(  # EVA-02's smaller models differ by their gated feed-forward network alone
        'EVA', plain_vit.convert_beit,
        parts=(ATTENTION, BIASES, MLP),
        needs=(r'cls_token$', r'pos_embed$', r'fc_norm\.', r'.*\.attn\.q_bias$'),
        forbids=(r'.*:gated$',),
        unused=r'(head|fc_norm)\.', neutral=LAYER_SCALE,
    ),
    plain_vit_source(
        'DeiT III', plain_vit.convert_beit,
        parts=(ATTENTION, MLP, r'gamma_[12]'),
        needs=(r'cls_token$', r'pos_embed$', r'.*\.gamma_1$', r'norm\.'),
        forbids=(r'fc_norm\.',),
        unused=r'head\.',
        note="the keys are also those of timm's ViTs with RoPE and learned positions, which are "
        'not supported and would compute something else',
    ),
    plain_vit_source(
        'MAE', plain_vit.convert_timm,
        parts=TIMM_PARTS, needs=(r'pos_embed$', r'decoder_'),
        unused=r'mask_token$|decoder_', neutral=LAYER_SCALE,
    ),
    plain_vit_source(
        'DINOv2', plain_vit.convert_dinov2,
        parts=DINOV2_PARTS,
        needs=(
            r'pos_embed$',
            r'mask_token|register_tokens|.*\.gamma[12]$|blocks\.\d+\.\d+\.|.*\.mlp\.w12\.',
        ),
        unused=r'mask_token$|head\.',
    ),
    plain_vit_source(
        'timm (DeiT, AugReg, MAE)', plain_vit.convert_timm,
        parts=TIMM_PARTS, needs=(r'cls_token$', r'pos_embed$'),
        forbids=(r'attn_pool\.', r'register_tokens$'),
        unused=r'(head|head_dist|fc_norm|pre_logits)\.|masked_embed$', neutral=LAYER_SCALE,
    ),
    plain_vit_source(
        'timm (registers, no class token)', plain_vit.convert_timm,
        parts=TIMM_PARTS, needs=(r'reg_token$', r'pos_embed$'), forbids=(r'cls_token$',),
        unused=r'(head|fc_norm|attn_pool)\.', neutral=LAYER_SCALE,
    ),
    plain_vit_source(  # with fc_norm: timm's ViTs that normalise after each branch (rpn)
        'timm (no class token)', plain_vit.convert_timm,
        parts=TIMM_PARTS, needs=(r'pos_embed$',),
        forbids=(r'(cls|dist|reg)_token$', r'(fc_norm|attn_pool)\.'),
        unused=r'head\.', neutral=LAYER_SCALE,
        note="the keys are also those of SigLIP's ViTs without pooling, some of which have another "
        'activation (tanh GELU)',
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
    'teacher.', 'backbone.', 'model.', 'encoder.', 'student.', '_model.',
    'opt/target/',
)  # fmt: skip

# Put into names by what wraps a module, at any depth: torch.compile, activation checkpointing,
# FSDP, data parallel training.
WRAPPERS = re.compile(
    r'(^|(?<=\.))(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|module)\.'
)


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
    own_names: Iterable[tuple[str, frozenset[str]]] = (),
    entry: str | None = None,
    prefix: str | None = None,
) -> Found:
    """Find a known source inside what a checkpoint file holds.

    Args:
        checkpoint: the file's content: a state dict, or a training state that holds one.
        own_names: families, and names of mmhybrid's own form, to recognise our own files too.
        entry: the entry that holds the weights, where the file has several ('state_dict_ema').
        prefix: precedes the backbone's names ('backbone'); found by trying otherwise.

    Raises:
        CheckpointError: no state dict in it, or none of a known source.
    """
    entry, wrapped, others = _open_entry(checkpoint, entry)
    state_dict = unwrap(wrapped)
    own_sources = tuple(_own_source(*item) for item in own_names)
    if prefix is not None:
        if state_dict is not wrapped:
            prefix = WRAPPERS.sub('', prefix)
        if prefix and prefix[-1] not in './':
            prefix += '.'
        if not any(key.startswith(prefix) for key in state_dict):
            raise CheckpointError(
                f'no key starts with prefix={prefix!r}; the first keys are {_first(state_dict)}'
            )
        prefixes = [prefix]
    else:
        prefixes = _candidate_prefixes(state_dict)
    marks = {}
    for candidate in prefixes:
        inside = {
            key.removeprefix(candidate): value
            for key, value in state_dict.items()
            if key.startswith(candidate)
        }
        marks[candidate] = told_by(inside)
        foreign = any(form.fits(marks[candidate]) for form in UNSUPPORTED)
        for source in SOURCES if foreign else SOURCES + own_sources:
            if source.fits(marks[candidate]):
                outside = tuple(key for key in state_dict if not key.startswith(candidate))
                return Found(source, entry, candidate, inside, outside, others)
    _refuse(state_dict, marks.values())


def _refuse(state_dict, marks) -> NoReturn:
    """Refuse weights of no source, saying as much of them as their keys tell."""
    for keys in marks:
        for form in UNSUPPORTED:
            if form.fits(keys):
                raise CheckpointError(
                    f'these weights are of {form.name}, which mmhybrid does not have: {form.why}'
                )
    near = [(source.misfits(keys), source.name) for keys in marks for source in SOURCES]
    # Without the first of its needs, the shape of the whole, a source is not near at all.
    near = [(misfits, name) for misfits, name in near if misfits and misfits[0].near]
    if near:
        misfits, name = min(
            near, key=lambda item: (len(item[0]), sum(misfit.key is None for misfit in item[0]))
        )
        hint = f'The nearest that is known is {name}, but {" and ".join(map(str, misfits))}'
    else:
        hint = (
            f"Known are {', '.join(source.name for source in SOURCES)} and mmhybrid's own files. "
            "If the backbone's keys have another prefix than "
            f'{", ".join(map(repr, PREFIXES))}, give it as the option prefix '
            "('backbone.vit.' for the ViT in an adapter)"
        )
    raise CheckpointError(
        'these weights are of no known source: '
        f'{len(state_dict)} keys, the first are {_first(state_dict)}. {hint}'
    )


def unwrap(state_dict: dict) -> dict:
    """Remove what wrappers put into names, unless two would become one."""
    names = {key: WRAPPERS.sub('', key) for key in state_dict}
    if len(set(names.values())) < len(names):
        return state_dict
    return {names[key]: value for key, value in state_dict.items()}


def convert(found: Found) -> tuple[dict, set[str], tuple[str, ...]]:
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
    optional: dict[str, str] = {}
    for source in SOURCES:
        if source.family == family:
            optional |= source.optional
    has_head = any(name.startswith('head.') for name in names)
    has_option = any(re.match(pattern, 'head.') for pattern in optional)
    return OwnSource(
        name='mmhybrid',
        family=family,
        convert=dict,
        forbids=(FOREIGN,),
        unused=None if has_head or has_option else r'head\.',
        optional=optional,
        names=names,
    )


def _open_entry(checkpoint, entry):
    """Step into a training file's entries down to the dict that holds tensors by name.

    Returns:
        (the entries stepped into, the tensors by name, the entries passed by).
    """
    path: list[str] = []
    others: list[str] = []
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
    if _holds_arrays(checkpoint):
        message = (
            'its weights are arrays of NumPy in a pickle, which takes running code: convert the '
            'file once, if you trust its author: mmhybrid convert --trust FILE OUT.pth'
        )
    elif holders := [repr(name) for name, value in entries if _holds_tensors(value)]:
        message += f'. Tensors are in {", ".join(holders)}: give {holders[0]} as the option entry'
    raise CheckpointError(message)


def _holds_arrays(value):
    """Return True for names of arrays, for which stand-ins were read."""
    return isinstance(value, Mapping) and any(
        type(item).__name__ in ('_reconstruct', 'ndarray') for item in value.values()
    )


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
