"""mmhybrid's backbones by the arguments of the original constructors.

A new family is one function and one line in ``BUILDERS``. An argument that a function does not
know is an error: a reference must not pass by being half described.
"""

from math import isqrt
from typing import Any

from mmhybrid.checkpoints.resize import split_relative_positions
from mmhybrid.models.backbones import (
    CMT,
    SPACH,
    STA,
    Backbone,
    ConvStemViT,
    CvT,
    ViT,
    ViTAdapter,
    ViTCoMer,
)

from .golden import Golden

REQUIRED = object()


def build_original(golden: Golden) -> Backbone:
    """Build the backbone that a reference run describes, untrained, in evaluation mode.

    Args:
        golden: a :class:`Golden`; its ``source``, ``arch`` and ``shapes`` are read.

    Raises:
        ValueError: unknown source, or an argument that has no counterpart here.
    """
    for start, build in BUILDERS.items():
        if golden.source.startswith(start):
            arguments = Arguments(golden)
            backbone = build(arguments, golden.shapes)
            arguments.check_all_used()
            return backbone.eval()
    raise ValueError(
        f'{golden.path}: no backbone for the source {golden.source!r}; known are '
        f'{", ".join(BUILDERS)}'
    )


class Arguments:
    """An original constructor's arguments, each taken once."""

    def __init__(self, golden: Golden):
        self.source, self._path = golden.source, golden.path
        self._left = dict(golden.arch)

    def take(self, name: str, default: Any = REQUIRED) -> Any:
        """The argument, or the original's default."""
        if default is REQUIRED and name not in self._left:
            raise ValueError(f'{self._path}: arch has no {name!r}')
        return self._left.pop(name, default)

    def ignore(self, *names: str) -> None:
        """Arguments that have no effect on the outputs in evaluation mode."""
        for name in names:
            self._left.pop(name, None)

    def expect(self, **values: Any) -> None:
        """Arguments of which only these values have a counterpart."""
        for name, value in values.items():
            given = self._left.pop(name, value)
            if given != value:
                raise ValueError(
                    f'{self._path}: {name}={given!r} has no counterpart here, only {value!r}'
                )

    def check_all_used(self) -> None:
        """Raise where an argument of the original was not read."""
        if self._left:
            raise ValueError(f'{self._path}: unknown arch arguments {self._left}')


def build_timm_vit(args: Arguments, shapes: dict) -> Backbone:
    """timm's VisionTransformer and Beit; what the model's name stands for is in the shapes."""
    relative = any(key.endswith('relative_position_bias_table') for key in shapes)
    patch_size = args.take('patch_size', 16)
    tokens = [name for name in ('cls_token', 'dist_token') if name in shapes]
    if 'pos_embed' in shapes:
        rows = shapes['pos_embed'][1]
        side = isqrt(rows)
    else:
        rows = next(s[0] for k, s in shapes.items() if k.endswith('relative_position_bias_table'))
        side = (isqrt(rows) + 1) // 2
    # timm's SwiGLU: fc1 makes both halves, so its ratio counts twice what ours takes as 2/3.
    gated = shapes['blocks.0.mlp.fc1.weight'][0] == 2 * shapes['blocks.0.mlp.fc2.weight'][1]
    args.ignore('model', 'num_classes', 'init_values', 'qkv_bias', 'reg_tokens')
    args.ignore(
        'class_token', 'no_embed_class', 'global_pool', 'dynamic_img_size', 'drop_path_rate'
    )
    return ViT(
        dict(
            embed_dims=args.take('embed_dim'),
            depth=args.take('depth'),
            num_heads=args.take('num_heads'),
            mlp_ratio=args.take('mlp_ratio', 4) * (0.75 if gated else 1),
        ),
        patch_size=patch_size,
        pretrain_size=args.take('img_size', side * patch_size),
        in_channels=args.take('in_chans', 3),
        out_indices=args.take('out_indices'),
        class_token='cls_token' in tokens,
        dist_token='dist_token' in tokens,
        num_registers=shapes.get('reg_token', (1, 0))[1],
        position='relative' if relative else 'absolute',
        interpolate_antialias=True,  # timm's way of resizing, where the image is of another size
        qkv_bias=any(key.endswith(('.attn.qkv.bias', '.attn.q_bias')) for key in shapes),
        mask_key_bias=relative,
        layer_scale=_layer_scale(shapes),
        ffn='swiglu' if gated else 'mlp',
        norm_cfg=dict(type='LN', eps=args.take('norm_eps', 1e-6)),
    )


def build_dinov2(args: Arguments, shapes: dict) -> Backbone:
    """DinoVisionTransformer of facebookresearch/dinov2."""
    args.expect(ffn_bias=True, proj_bias=True)
    args.ignore('block_chunks', 'init_values', 'drop_path_rate', 'drop_path_uniform')
    ffn = args.take('ffn_layer', 'mlp')
    return ViT(
        dict(
            embed_dims=args.take('embed_dim', 768),
            depth=args.take('depth', 12),
            num_heads=args.take('num_heads', 12),
            mlp_ratio=args.take('mlp_ratio', 4),
        ),
        patch_size=args.take('patch_size', 16),
        pretrain_size=args.take('img_size', 224),
        in_channels=args.take('in_chans', 3),
        out_indices=args.take('out_indices'),
        num_registers=args.take('num_register_tokens', 0),
        qkv_bias=args.take('qkv_bias', True),
        layer_scale=_layer_scale(shapes),
        ffn={'swiglu': 'swiglu', 'swiglufused': 'swiglu'}.get(ffn, ffn),
        interpolate_offset=args.take('interpolate_offset', 0.1),
        interpolate_antialias=args.take('interpolate_antialias', False),
        norm_cfg=dict(type='LN', eps=1e-6),
    )


def build_dinov3(args: Arguments, shapes: dict) -> Backbone:
    """DinoVisionTransformer of facebookresearch/dinov3."""
    args.expect(
        pos_embed_rope_base=100,
        pos_embed_rope_min_period=None,
        pos_embed_rope_max_period=None,
        pos_embed_rope_normalize_coords='separate',
        ffn_bias=True,
        proj_bias=True,
    )
    # Coordinates are shifted, jittered and rescaled in training alone; the untied norms come after
    # the blocks.
    args.ignore(
        'pos_embed_rope_shift_coords',
        'pos_embed_rope_jitter_coords',
        'pos_embed_rope_rescale_coords',
        'pos_embed_rope_dtype',
        'img_size',
        'layerscale_init',
        'drop_path_rate',
        'untie_cls_and_patch_norms',
        'untie_global_and_local_cls_norm',
    )
    norm = args.take('norm_layer', 'layernorm')
    if norm not in ('layernorm', 'layernormbf16'):
        raise ValueError(f'norm_layer={norm!r} has no counterpart here')
    ffn = args.take('ffn_layer', 'mlp')
    dims, mlp_ratio = args.take('embed_dim', 768), args.take('ffn_ratio', 4)
    if ffn.startswith('swiglu'):
        # 'swiglu64' rounds the hidden width up to 64, ours to 8: it is asked for as it is.
        ffn, mlp_ratio = 'swiglu', shapes['blocks.0.mlp.w3.weight'][1] * 1.5 / dims
    return ViT(
        dict(
            embed_dims=dims,
            depth=args.take('depth', 12),
            num_heads=args.take('num_heads', 12),
            mlp_ratio=mlp_ratio,
        ),
        patch_size=args.take('patch_size', 16),
        in_channels=args.take('in_chans', 3),
        out_indices=args.take('out_indices'),
        num_registers=args.take('n_storage_tokens', 0),
        position='rope',
        qkv_bias=args.take('qkv_bias', True),
        mask_key_bias=args.take('mask_k_bias', False),
        layer_scale=_layer_scale(shapes),
        ffn=ffn,
        norm_cfg=dict(type='LN', eps=1e-5 if norm == 'layernormbf16' else 1e-6),
    )


def _vit_size(args: Arguments, depth: int) -> dict:
    """Return the sizes of the ViT in both adapters' originals."""
    return dict(
        embed_dims=args.take('embed_dim', 768),
        depth=depth,
        num_heads=args.take('num_heads', 12),
        mlp_ratio=args.take('mlp_ratio', 4),
    )


def _pyramid(args: Arguments) -> dict:
    """Return the arguments of the pyramid that both adapters' originals have."""
    return dict(
        in_channels=args.take('in_chans', 3),
        stem_channels=args.take('conv_inplane', 64),
        num_points=args.take('n_points', 4),
        deform_heads=args.take('deform_num_heads', 6),
        deform_ratio=args.take('deform_ratio', 1.0),
        interaction_indexes=args.take('interaction_indexes'),
    )


def build_vit_comer(args: Arguments, shapes: dict) -> Backbone:
    """ViTCoMer of Traffic-X/ViT-CoMer, both trees."""
    tree = args.take('tree', 'segmentation' if 'segmentation' in args.source else 'detection')
    detection = tree == 'detection'
    depth = args.take('depth', 12)
    args.ignore('img_size', 'init_values', 'drop_rate', 'attn_drop_rate', 'drop_path_rate')
    args.ignore('with_cp', 'pretrained', 'layer_scale')
    mrfp_ratio = args.take('dim_ratio', 0.5 if detection else 6.0)
    extra = args.take('extra_cti', args.take('extra_num', 4))
    vit_features = 'last' if detection else 'stages'
    return ViTCoMer(
        _vit_size(args, depth),
        vit=dict(
            patch_size=args.take('patch_size', 16),
            pretrain_size=args.take('pretrain_size', 224),
            qkv_bias=args.take('qkv_bias', True),
            layer_scale=_layer_scale(shapes),
        ),
        windows=_windows(args.take('window_attn', False), args.take('window_size', 14), depth),
        **_pyramid(args),
        ffn_ratio=args.take('cffn_ratio', 0.25),
        cnn_ffn=args.take('with_cffn', True),
        mrfp_ratio=args.take('mrfp_ratio', mrfp_ratio),
        cti_to_vit=args.take('use_CTI_toV', True),
        cti_to_cnn=args.take('use_CTI_toC', True),
        cnn_interaction=args.take('cnn_feature_interaction', not detection),
        extra_cti=extra if args.take('use_extra_CTI', True) else 0,
        vit_features=vit_features if args.take('add_vit_feature', True) else 'none',
    )


def build_vit_adapter(args: Arguments, shapes: dict) -> Backbone:
    """ViTAdapter and BEiTAdapter of czczup/ViT-Adapter, both trees."""
    tree = args.take('tree', 'segmentation' if 'segmentation' in args.source else 'detection')
    depth = args.take('depth', 12)
    args.expect(residual_indices=[])
    args.ignore('img_size', 'init_values', 'drop_rate', 'attn_drop_rate', 'drop_path_rate')
    args.ignore('with_cp', 'pretrained', 'layer_scale', 'num_classes')
    # BEiTAdapter's version 'old', of the detection tree, adds the maps that the other tree adds.
    by_stages = tree != 'detection' or args.take('version', 'new') == 'old'
    vit_features = 'stages' if by_stages else 'last'
    windows = _windows(args.take('window_attn', False), args.take('window_size', 14), depth)
    tables = [s[0] for k, s in shapes.items() if k.endswith('relative_position_bias_table')]
    patch_size = args.take('patch_size', 16)
    pretrain_size, position, class_token = args.take('pretrain_size', 224), 'absolute', False
    if tables:
        args.expect(use_abs_pos_emb=False, use_shared_rel_pos_bias=False)
        args.ignore('use_rel_pos_bias')
        # Blocks in windows have a table of their window, only the others one of the whole image.
        window: Any = split_relative_positions(tables[windows.index(0) if 0 in windows else 0])
        (side, _), extra = window
        pretrain_size, position, class_token = side * patch_size, 'relative', extra > 0
    return ViTAdapter(
        _vit_size(args, depth),
        vit=dict(
            patch_size=patch_size,
            pretrain_size=pretrain_size,
            position=position,
            class_token=class_token,
            mask_key_bias=bool(tables),
            qkv_bias=args.take('qkv_bias', not tables),
            layer_scale=_layer_scale(shapes),
        ),
        windows=windows,
        **_pyramid(args),
        ffn_ratio=args.take('cffn_ratio', 0.25) * args.take('with_cffn', True),
        extra_extractors=2 if args.take('use_extra_extractor', True) else 0,
        vit_features=vit_features if args.take('add_vit_feature', True) else 'none',
    )


def build_sta(args: Arguments, shapes: dict) -> Backbone:
    """DINOv3STAs of Intellindust-AI-Lab/DEIMv2, over DINOv3 or its authors' own ViT with RoPE."""
    name = args.take('name')
    is_dinov3 = name.startswith('dinov3_')
    vit = next(key.partition('patch_embed.')[0] for key in shapes if 'patch_embed.' in key)
    dims, _, patch_size, _ = shapes[f'{vit}patch_embed.proj.weight']
    args.ignore('embed_dim', 'patch_size', 'weights_path', 'finetune')
    block = f'{vit}blocks.0.'
    gated = f'{block}mlp.w3.weight' in shapes
    hidden = shapes[f'{block}mlp.w3.weight' if gated else f'{block}mlp.fc2.weight'][1]
    return STA(
        dict(
            vit=dict(
                embed_dims=dims,
                depth=len({key.split('.')[-4] for key in shapes if '.attn.qkv.weight' in key}),
                num_heads=args.take('num_heads', dims // 64),
                mlp_ratio=hidden / dims * (1.5 if gated else 1),
                patch_size=patch_size,
                position='rope',
                num_registers=shapes.get(f'{vit}storage_tokens', (1, 0))[1],
                mask_key_bias=is_dinov3,
                layer_scale=_layer_scale(shapes),
                ffn='swiglu' if gated else 'mlp',
                norm_cfg=dict(type='LN', eps=1e-5 if is_dinov3 else 1e-6),
            ),
            final_norm=is_dinov3,
        ),
        interaction_indexes=args.take('interaction_indexes'),
        stem_channels=args.take('conv_inplane', 16),
        out_dims=args.take('hidden_dim', None),
        in_channels=shapes['sta.stem.0.weight'][1],
    )


def build_conv_stem_vit(args: Arguments, shapes: dict) -> Backbone:
    """ViT of facebookresearch/pycls; the stem's last convolution is not among the arguments."""
    dims = args.take('hidden_dim')
    channels = args.take('stem_dims', [])
    positions = shapes['pos_embedding'][0]
    class_token = 'class_token' in shapes
    patch_size = args.take('patch_size', 16)
    args.ignore('image_size', 'stem_type', 'cls_type', 'classifier_type')
    return ConvStemViT(
        dict(
            embed_dims=dims,
            depth=args.take('num_layers'),
            num_heads=args.take('num_heads'),
            mlp_ratio=args.take('mlp_dim') / dims,
        ),
        in_channels=args.take('in_chans', 3),
        out_indices=args.take('out_indices'),
        stem_channels=channels,
        stem_kernels=args.take('stem_kernels', [3] * len(channels)),
        stem_strides=args.take('stem_strides', [2] * len(channels)),
        patch_size=patch_size,
        pretrain_size=isqrt(positions - class_token) * patch_size,
        class_token=class_token,
        num_classes=_num_classes(args, shapes, 'head.head_fc.weight'),
    )


def build_cvt(args: Arguments, shapes: dict) -> Backbone:
    """ConvolutionalVisionTransformer of microsoft/CvT, with the activation of its configs."""
    args.ignore('INIT', 'NUM_STAGES', 'ATTN_DROP_RATE', 'DROP_RATE', 'DROP_PATH_RATE')
    args.ignore('POS_EMBED')  # read by nothing
    kernels = args.take('KERNEL_QKV')
    stages = len(kernels)
    args.expect(
        STRIDE_Q=[1] * stages,
        PADDING_Q=[kernel // 2 for kernel in kernels],
        PADDING_KV=[kernel // 2 for kernel in kernels],
    )
    return CvT(
        dict(
            embed_dims=args.take('DIM_EMBED'),
            depths=args.take('DEPTH'),
            num_heads=args.take('NUM_HEADS'),
            mlp_ratio=args.take('MLP_RATIO'),
        ),
        in_channels=args.take('in_chans', 3),
        out_indices=range(stages),
        patch_sizes=args.take('PATCH_SIZE'),
        patch_strides=args.take('PATCH_STRIDE'),
        patch_paddings=args.take('PATCH_PADDING'),
        projection=args.take('QKV_PROJ_METHOD'),
        qkv_kernel=kernels,
        kv_stride=args.take('STRIDE_KV'),
        qkv_bias=args.take('QKV_BIAS'),
        class_token=args.take('CLS_TOKEN'),
        num_classes=_num_classes(args, shapes, 'head.weight'),
    )


def build_cmt(args: Arguments, shapes: dict) -> Backbone:
    """CMT of ggjy/CMT.pytorch. Its stem takes three channels whatever in_chans says."""
    args.expect(representation_size=None, norm_layer=None)
    args.ignore(
        'in_chans', 'hybrid_backbone', 'drop_rate', 'attn_drop_rate', 'drop_path_rate', 'dp'
    )
    return CMT(
        dict(
            embed_dims=args.take('embed_dims', (46, 92, 184, 368)),
            stem_channels=args.take('stem_channel', 16),
            depths=args.take('depths', (2, 2, 10, 2)),
            num_heads=args.take('num_heads', (1, 2, 4, 8)),
            sr_ratios=args.take('sr_ratios', (8, 4, 2, 1)),
            mlp_ratio=args.take('mlp_ratios', (3.6, 3.6, 3.6, 3.6)),
        ),
        qkv_bias=args.take('qkv_bias', True),
        qk_scale=args.take('qk_scale', None),
        qk_ratio=args.take('qk_ratio', 1),
        pretrain_size=args.take('img_size', 224),
        num_classes=_num_classes(args, shapes, 'head.weight'),
        head_dims=args.take('fc_dim', 1280),
    )


def build_spach(args: Arguments, shapes: dict) -> Backbone:
    """Spach and SpachMS of microsoft/SPACH."""
    args.expect(qk_scale=None)
    args.ignore(
        'init_values', 'drop_path_rate', 'drop_rate', 'attn_drop', 'proj_drop', 'downstream'
    )
    kinds = {'pass': 'conv', 'attn': 'attn', 'mlp': 'mlp'}
    net_arch = args.take('net_arch')
    if isinstance(net_arch[0][0], str):  # a single stage is not nested
        net_arch = [net_arch]
    size = args.take('img_size', 224)
    return SPACH(
        dict(
            embed_dims=args.take('hidden_dim', 384),
            num_heads=args.take('num_heads', 12),
            stages=[[(kinds[kind], depth) for kind, depth in stage] for stage in net_arch],
            patch_size=args.take('patch_size', 16),
            stem={'conv1': 'patch', 'conv4': 'conv'}[args.take('stem_type', 'conv1')],
            token_ratio=args.take('token_ratio', 0.5),
            channel_ratio=args.take('channel_ratio', 2.0),
            image_size=size if isinstance(size, int) else tuple(size),
            conv_bypass=args.take('cpe', True),
            layer_scale=1e-4 if args.take('scaled', True) else None,
            shared_mixing=args.take('shared_spatial_func', False),
            qkv_bias=args.take('qkv_bias', True),
        ),
        in_channels=args.take('in_chans', 3),
        num_classes=_num_classes(args, shapes, 'head.weight'),
    )


BUILDERS = {
    'ggjy/CMT.pytorch': build_cmt,
    'timm': build_timm_vit,
    'facebookresearch/dinov2': build_dinov2,
    'facebookresearch/dinov3': build_dinov3,
    'Traffic-X/ViT-CoMer': build_vit_comer,
    'czczup/ViT-Adapter': build_vit_adapter,
    'microsoft/SPACH': build_spach,
    'Intellindust-AI-Lab/DEIMv2': build_sta,
    'facebookresearch/pycls': build_conv_stem_vit,
    'microsoft/CvT': build_cvt,
}


def _layer_scale(shapes):
    """1 where the original has LayerScale under any of its names; the load brings the values."""
    scaled = any(key.endswith(('ls1.gamma', 'gamma_1', 'gamma1')) for key in shapes)
    return 1.0 if scaled else None


def _num_classes(args, shapes, key):
    """Rows of the classification head, 0 where there is none."""
    args.ignore('num_classes')
    return shapes.get(key, (0,))[0]


def _windows(used, sizes, depth):
    """One window a block: the original takes one value or a list for both of its arguments."""
    used = used if isinstance(used, list) else [used] * depth
    sizes = sizes if isinstance(sizes, list) else [sizes] * depth
    return [size if use else 0 for use, size in zip(used, sizes, strict=True)]
