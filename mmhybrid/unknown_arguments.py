"""Arguments that a backbone does not have: those of the originals have a place here, or a reason.

The originals are the constructors of ViT-CoMer, ViT-Adapter, STA, CMT, CvT and SPACH, and the ViTs
of timm, DINO, DINOv2, DINOv3, transformers and mmpretrain.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from inspect import signature
from reprlib import Repr
from typing import Any

LIMIT = 750  # characters, whatever was given
DEFAULT = object()  # stands for the value that an argument has anyway

# Our names and those of the originals. One of theirs may be several of ours; the first that a
# backbone has is meant.
RENAMED = {
    'embed_dims': 'embed_dim DIM_EMBED hidden_dim hidden_size',
    'depth': 'num_layers num_hidden_layers',
    'depths': 'DEPTH',
    'num_heads': 'NUM_HEADS num_attention_heads',
    'mlp_ratio': 'MLP_RATIO mlp_ratios ffn_ratio',
    'in_channels': 'in_chans num_channels',
    'pretrain_size': 'img_size image_size',
    'image_size': 'img_size',
    'patch_sizes': 'PATCH_SIZE',
    'patch_strides': 'PATCH_STRIDE',
    'patch_paddings': 'PATCH_PADDING',
    'qkv_kernel': 'KERNEL_QKV',
    'qkv_bias': 'QKV_BIAS',
    'projection': 'QKV_PROJ_METHOD',
    'kv_stride': 'STRIDE_KV',
    'class_token': 'CLS_TOKEN with_cls_token',
    'dist_token': 'distilled',
    'num_registers': 'reg_tokens num_reg_tokens num_register_tokens n_storage_tokens',
    'mask_key_bias': 'mask_k_bias',
    'layer_scale': 'init_values layer_scale_init_value layerscale_init scaled',
    'ffn': 'ffn_layer',
    'position': 'use_abs_pos_emb use_rel_pos_bias',
    'stem_channels': 'conv_inplane stem_channel',
    'windows': 'window_attn window_size',
    'deform_heads': 'deform_num_heads',
    'num_points': 'n_points',
    'vit_features': 'add_vit_feature',
    'cnn_ffn': 'with_cffn',
    'ffn_ratio': 'cffn_ratio with_cffn',
    'mrfp_ratio': 'dim_ratio',
    'cnn_interaction': 'cnn_feature_interaction',
    'cti_to_cnn': 'use_CTI_toC',
    'cti_to_vit': 'use_CTI_toV',
    'extra_cti': 'use_extra_CTI extra_num',
    'extra_extractors': 'use_extra_extractor extra_num',
    'freeze': 'freeze_vit finetune',
    'head_dims': 'fc_dim',
    'out_dims': 'hidden_dim',
    'head_drop': 'dp',
    'conv_bypass': 'cpe',
    'stages': 'net_arch',
    'shared_mixing': 'shared_spatial_func',
    'drop_path_rate': 'DROP_PATH_RATE',
    'with_cp': 'grad_checkpointing use_checkpoint',
    'init_cfg': 'pretrained weights_path',
}
# Our value for that of an original, where they differ.
VALUES: dict[str, Callable[[Any], Any]] = {
    'DROP_PATH_RATE': lambda rates: rates[-1] if isinstance(rates, tuple) else rates,
    'add_vit_feature': lambda used: DEFAULT if used else 'none',
    'ffn_layer': lambda kind: 'swiglu' if 'swiglu' in str(kind).lower() else 'mlp',
    'finetune': lambda used: DEFAULT if used else 'vit',
    'freeze_vit': lambda used: 'vit' if used else DEFAULT,
    'img_size': lambda size: size[0] if isinstance(size, tuple) and len(size) == 1 else size,
    'init_values': lambda value: value or DEFAULT,
    'layer_scale': lambda value: DEFAULT if value is True else value or None,
    'pretrained': lambda path: dict(type='Pretrained', checkpoint=path) if path else DEFAULT,
    'weights_path': lambda path: dict(type='Pretrained', checkpoint=path) if path else DEFAULT,
    'scaled': lambda used: DEFAULT if used else None,
    'use_abs_pos_emb': lambda used: 'absolute' if used else 'relative',
    'use_extra_CTI': lambda used: DEFAULT if used else 0,
    'use_extra_extractor': lambda used: DEFAULT if used else 0,
    'use_rel_pos_bias': lambda used: 'relative' if used else 'absolute',
    'with_cffn': lambda used: DEFAULT if used else 0,
}
# Those that have no place, by the reason.
ABSENT = {
    'there is no dropout in it': 'drop_rate attn_drop_rate pos_drop_rate proj_drop_rate attn_drop '
    'patch_drop_rate proj_drop DROP_RATE ATTN_DROP_RATE',
    'LoRA is for a plain ViT and its adapters': 'lora',
    'it has no classifier': 'num_classes global_pool fc_norm pool_include_prefix use_fc_norm '
    'representation_size head_init_scale',
    'arch says which ViT it wraps, or vit=dict(arch=...)': 'name embed_dim num_heads',
    'it takes images of any size': 'img_size image_size dynamic_img_size dynamic_img_pad',
    "norm_cfg sets the norms, an adapter's vit=dict(norm_cfg=...) those of its ViT": 'norm_layer '
    'norm_eps embed_norm_layer',
    'out_indices chooses the maps, and an adapter normalises them': 'out_type output_cls_token '
    'final_norm',
    "vit_features='stages' is the version 'old'": 'version',
    'use .to(...) on the backbone': 'device dtype',
    'it is built as the published models are': 'act_layer embed_layer block_fn mlp_layer pre_norm '
    'attn_layer qk_norm scale_attn_norm scale_mlp_norm ffn_bias proj_bias block_chunks weight_init '
    'fix_init init_std init qk_scale no_embed_class pos_embed residual_indices hybrid_backbone '
    'use_shared_rel_pos_bias interpolate_mode patch_cfg layer_cfgs untie_cls_and_patch_norms '
    'untie_global_and_local_cls_norm drop_path_uniform channel_adaptive stem_type cls_type INIT '
    'POS_EMBED NUM_STAGES STRIDE_Q PADDING_Q PADDING_KV pos_embed_rope_base pos_embed_rope_dtype '
    'pos_embed_rope_min_period pos_embed_rope_max_period pos_embed_rope_normalize_coords '
    'pos_embed_rope_shift_coords pos_embed_rope_jitter_coords pos_embed_rope_rescale_coords',
}
RESNET = set(
    'style num_stages strides dilations contract_dilation base_channels deep_stem avg_down dcn '
    'stage_with_dcn conv_cfg zero_init_residual'.split()
)
SHORT = Repr()
SHORT.maxlist = SHORT.maxtuple = 48  # one value for each block of a ViT
SHORT.maxlevel, SHORT.maxdict, SHORT.maxstring, SHORT.maxother = 3, 6, 120, 60


def explain_unknown(backbone: type[Any], arch: Any, unknown: Mapping[str, Any]) -> str:
    """Return the names of unknown arguments, and for each its place, or why it has none.

    Args:
        backbone: the class.
        arch: a name or a dict, as it was given.
        unknown: values by the name of the argument, or of the setting in ``arch``.
    """
    given = dict(unknown)
    if isinstance(spec := given.pop('spec', None), Mapping):  # of CvT
        given |= spec
    given = {name: tuple(it) if isinstance(it, list) else it for name, it in given.items()}
    if 'window_attn' in given or 'window_size' in given:
        used, sides = given.pop('window_attn', True), given.pop('window_size', 14)
        given['windows'] = _windows(used, sides)
    is_resnet = not RESNET.isdisjoint(given)
    is_resnet_path = str(given.get('pretrained')).startswith(('open-mmlab:', 'torchvision:'))

    written: dict[str, Any] = {}  # by argument; dicts of settings and of a wrapped backbone's
    left_out: dict[str, list[str]] = {}  # names by the reason
    of_arch, guesses = [], []
    for name, value in given.items():
        place, own = _place(backbone, name)
        reason = next((why for why, names in ABSENT.items() if name in names.split()), None)
        if is_resnet and (name in RESNET or name == 'depth'):
            reason = "they are of a base config's ResNet, write _delete_=True in the backbone"
        elif name == 'pretrained' and (is_resnet or is_resnet_path):
            reason = "it is of a base config's ResNet, write pretrained=None in the model"
        elif place:
            value = VALUES.get(name, lambda same: same)(value)
            reason = 'it is so by default' if value is DEFAULT else None
        if reason:
            left_out.setdefault(reason, []).append(name)
        elif not place:
            guesses.append(_guess(backbone, name, alone=len(unknown) == 1))
        else:
            inside = written if place == own else written.setdefault(place, {})
            if name == own or own not in inside:  # pretrain_size counts, not img_size
                inside[own] = value
            of_arch += [name] if place == 'arch' else []

    if of_arch:
        written['arch'] = _resolve(backbone, arch, written['arch'])
        if arch in (written['arch'], f'{backbone.family}_{written["arch"]}'):
            left_out[f'arch={written.pop("arch")!r} says so'] = of_arch
    lines = [f'write {", ".join(f"{k}={_text(v)}" for k, v in written.items())}'] if written else []
    lines += [f'leave out {_listed(names)}: {reason}' for reason, names in left_out.items()]
    lines += dict.fromkeys(guesses)
    message = ('; ' if len(lines) == 1 else '\n  ').join([_listed(unknown), *lines])
    return message if len(message) <= LIMIT else f'{message[: LIMIT - 3]}...'


def _place(backbone: type[Any], name: str) -> tuple[str | None, str]:
    """Return the argument that holds what an original calls ``name``, and our name of it."""
    for own in (name, *(own for own, names in RENAMED.items() if name in names.split())):
        if own in signature(backbone).parameters:
            return own, own
        if own in _settings(backbone):
            return 'arch', own
        for part, wrapped in backbone.wrapped.items():
            if own in signature(wrapped).parameters:
                return part, own
    return None, name


def _settings(backbone: type[Any]) -> list[str]:
    return [it.name for it in fields(backbone.arch_type)]


def _resolve(backbone: type[Any], arch: Any, given: Mapping[str, Any]) -> str | dict[str, Any]:
    """Return ``arch`` with given settings: a name if one has them, else a dict.

    Of several names it is the one that differs least from ``arch`` in other settings.
    """
    records = {name: backbone.resolve_arch(name) for name in backbone.arch_settings}
    name = arch.removeprefix(f'{backbone.family}_') if isinstance(arch, str) else ''
    if name in records:
        is_whole = given.keys() >= set(backbone.arch_type.required())
        base = vars(records[name])
        same = [
            other
            for other in (records if is_whole else [name])
            if all(_equal(vars(records[other])[key], value) for key, value in given.items())
        ]
        if same:
            return min(same, key=lambda it: sum(base[k] != v for k, v in vars(records[it]).items()))
        return {**backbone.arch_settings[name], **given}
    kept = arch if isinstance(arch, Mapping) else {}
    return {**{name: it for name, it in kept.items() if name in _settings(backbone)}, **given}


def _equal(own: Any, value: Any) -> bool:
    """Return True if values are equal; one value stands for those of all stages."""
    return own == value or (isinstance(own, tuple) and own == (value,) * len(own))


def _windows(used: Any, sides: Any) -> Any:
    """Return our ``windows`` for ``window_attn`` and ``window_size``, each one value or many."""
    count = max((len(it) for it in (used, sides) if isinstance(it, tuple)), default=0)
    if not count:
        return sides if used else 0
    lists = (it if isinstance(it, tuple) else (it,) * count for it in (used, sides))
    pairs = zip(*lists, strict=False)  # a wrong number of windows is refused as such
    return tuple((side or 0) if is_used else 0 for is_used, side in pairs)


def _guess(backbone: type[Any], name: str, *, alone: bool) -> str:
    """Return the name nearest to one that is no original's, or all that there are."""
    taken = list(signature(backbone).parameters)
    settings = [setting for setting in _settings(backbone) if setting not in taken]
    near = get_close_matches(str(name), [*taken, *settings], n=1)
    if not near:
        return f'it takes {", ".join(taken)}' + (
            f'; in arch {", ".join(settings)}' * bool(settings)
        )
    which = '' if alone else f'{SHORT.repr(name)}: '
    return f'{which}did you mean {near[0]!r}{" in arch" * (near[0] in settings)}?'


def _listed(names: Iterable[Any]) -> str:
    """Write names for a message: all of them, or the first and the number of the others."""
    texts = [SHORT.repr(name) for name in names]
    return ', '.join(texts[:16]) + (f' and {len(texts) - 16} more' if len(texts) > 16 else '')


def _text(value: Any) -> str:
    """Write a value for a message as Python, short."""
    if not isinstance(value, Mapping):
        return SHORT.repr(value)
    entries = [f'{name}={SHORT.repr(it)}' for name, it in value.items()]
    return f'dict({", ".join(entries)})'
