"""Forms of weights that users hold and no model here computes, to be called by their names."""

from dataclasses import dataclass

from .forms import Form


@dataclass(frozen=True, kw_only=True)
class Unsupported(Form):
    """A form of weights that is known and not supported.

    Attributes:
        why: the part that no model here has.
    """

    why: str


BLOCKS = r'blocks\.\d+\.'
ROPE = 'it turns queries and keys by rotary positions of another kind than DINOv3'

# The first that fits is named: those of particular parts come first.
UNSUPPORTED = (
    Unsupported(
        name='a ViT with learned rotary frequencies (timm rope_mixed)',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'rope\.freqs'),
        why=ROPE,
    ),
    Unsupported(
        name='SAM or ViTDet',
        needs=(r'(image_encoder\.|trunk\.|net\.)?blocks\.\d+\.attn\.rel_pos_[hw]$',),
        why='its attention adds relative positions to each axis',
    ),
    Unsupported(
        name='Hiera or SAM 2',
        needs=(r'(image_encoder\.|trunk\.|encoder\.)*pos_embed_win', rf'.*{BLOCKS}attn\.qkv\.'),
        why='it is a pyramid with attention in units of a mask',
    ),
    Unsupported(
        name='Hiera',
        needs=(rf'{BLOCKS}attn\.qkv\.', rf'{BLOCKS}proj\.weight$'),
        why='it is a pyramid with attention in units of a mask',
    ),
    Unsupported(
        name='Perception Encoder',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'norm_pre\.', r'pos_embed$'),
        forbids=(r'norm\.', r'fc_norm\.'),
        why='it normalises before its blocks and has rotary positions',
    ),
    Unsupported(
        name='Perception Encoder (core)',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'norm_pre\.', r'attn_pool\.'),
        why='it normalises before its blocks and has rotary positions',
    ),
    Unsupported(
        name='CLIP',
        needs=(rf'({BLOCKS}attn\.qkv\.|(visual\.)?transformer\.resblocks\.\d+\.)',
               r'norm_pre\.|(visual\.)?(ln_pre\.|class_embedding$)'),
        why='it normalises before its blocks, and some of its models have another activation',
    ),
    Unsupported(
        name='SigLIP',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'attn_pool\.', r'pos_embed$'),
        forbids=(r'(cls|reg)_token$',),
        why='some of its models have another activation, which the keys do not tell',
    ),
    Unsupported(
        name='EVA-02',
        needs=(rf'{BLOCKS}attn\.(q_bias|q_proj\.)', r'.*(:gated$|\.mlp\.(norm|ffn_ln|fc1_g|w1)\.)'),
        forbids=(r'.*\.gamma_1$',),
        why='it has rotary positions of another kind than DINOv3',
    ),
    Unsupported(
        name='EVA-CLIP',
        needs=(rf'{BLOCKS}attn\.q_bias$', r'pos_embed$', r'norm\.'),
        why='its models of the same keys place their norms differently',
    ),
    Unsupported(
        name='BEiT-3',
        needs=(rf'{BLOCKS}attn\.qkv\.', rf'{BLOCKS}attn\.norm\.', rf'{BLOCKS}mlp\.norm\.'),
        why='it normalises inside attention and feed-forward network',
    ),
    Unsupported(
        name='ViTamin',
        needs=(rf'{BLOCKS}attn\.qkv\.', rf'{BLOCKS}mlp\.w0\.'),
        why='it has convolutional stages before its blocks',
    ),
    Unsupported(
        name='AIMv2',
        needs=(rf'{BLOCKS}attn\.qkv\.', rf'{BLOCKS}mlp\.fc1_g\.', r'pos_embed$'),
        forbids=(r'cls_token$',),
        why='it has another kind of norm',
    ),
    Unsupported(
        name='a ViT with differential attention (timm)',
        needs=(rf'{BLOCKS}attn\.qkv\.', rf'{BLOCKS}attn\.lambda_'),
        why='its attention is the difference of two',
    ),
    Unsupported(
        name='CaiT',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'blocks_token_only\.'),
        why='its heads are mixed, and its class token comes in the last blocks',
    ),
    Unsupported(
        name='XCiT',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'cls_attn_blocks\.'),
        why='its attention is between channels',
    ),
    Unsupported(
        name='ConViT',
        needs=(rf'{BLOCKS}attn\.gating_param$',),
        why='its first blocks have gated positional attention',
    ),
    Unsupported(
        name='Twins', needs=(r'blocks\.\d+\.\d+\.attn\.', r'pos_block\.'), why='it is a pyramid'
    ),
    Unsupported(
        name='a ViT with a ResNet before it (timm r50)',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'patch_embed\.backbone\.'),
        why='its patches are made by a ResNet',
    ),
    Unsupported(
        name='a ViT with relative positions (timm relpos)',
        needs=(rf'{BLOCKS}attn\.qkv\.', rf'({BLOCKS}attn\.)?(shared_)?rel_pos\.'),
        why='its attention adds relative positions of another kind than BEiT',
    ),
    Unsupported(
        name='a ViT that normalises after each branch (timm rpn)',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'pos_embed$', r'fc_norm\.'),
        forbids=(r'(cls|dist|reg)_token$',),
        why='ours normalise before',
    ),
    Unsupported(
        name='a ViT with RoPE (timm rope_reg_gap)',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'reg_token$', rf'{BLOCKS}gamma_1$', r'fc_norm\.'),
        forbids=(r'pos_embed$', r'cls_token$'),
        why=ROPE,
    ),
    Unsupported(
        name='a ViT with RoPE (timm rope)',
        needs=(rf'{BLOCKS}attn\.qkv\.bias$', rf'{BLOCKS}gamma_1$', r'cls_token$'),
        forbids=(r'pos_embed$', r'reg_token$', r'.*relative_position'),
        why=ROPE,
    ),
    Unsupported(
        name='NaFlexViT (timm)',
        needs=(rf'{BLOCKS}attn\.qkv\.', r'embeds\.'),
        why='it takes images of any shape as patches',
    ),
    Unsupported(
        name='Swin Transformer',
        needs=(r'(layers|stages|features)\.\d+\.blocks\.\d+\.attn\.(w_msa\.)?relative_position_',),
        why='it is a pyramid of shifted windows',
    ),
    Unsupported(
        name='ConvNeXt',
        needs=(
            r'(encoder\.)?stages\.\d+\.((blocks|layers)\.)?\d+\.(dwconv|conv_dw|depthwise_conv)\.',
        ),
        why="it is a convolutional network, DINOv3's and EUPE's too; the hosts have it",
    ),
    Unsupported(
        name='a ResNet', needs=(r'layer1\.0\.conv1\.', r'conv1\.'),
        why='it is a convolutional network',
    ),
    # The names of transformers.
    Unsupported(
        name='CLIP (transformers)',
        needs=(r'(\w+\.)*vision_model\.pre_layrnorm\.',),
        why='it normalises before its blocks, and has another activation',
    ),
    Unsupported(
        name='SigLIP (transformers)',
        needs=(
            r'(\w+\.)*vision_model\.encoder\.layers\.',
            r'(\w+\.)*vision_model\.embeddings\.position_embedding\.',
        ),
        why='its activation is another, the tanh form of GELU',
    ),
    Unsupported(
        name='ViTDet (transformers)',
        needs=(r'(\w+\.)*encoder\.layer\.\d+\.attention\.(qkv|rel_pos_[hw])',),
        why='its attention adds relative positions to each axis',
    ),
    Unsupported(
        name='SAM (transformers)',
        needs=(r'(\w+\.)*vision_encoder\.layers\.\d+\.attn\.rel_pos_[hw]$',),
        why='its attention adds relative positions to each axis',
    ),
    # Those of mmpretrain and mmsegmentation.
    Unsupported(
        name='EVA-02 (mmpretrain)',
        needs=(r'layers\.\d+\.attn\.', r'rope\.freqs', r'layers\.\d+\.mlp\.'),
        why='it has rotary positions of another kind than DINOv3',
    ),
    Unsupported(
        name='SAM (mmpretrain)',
        needs=(r'layers\.\d+\.attn\.qkv\.', r'(layers\.\d+\.attn\.rel_pos_|channel_reduction\.)'),
        why='its attention adds relative positions to each axis',
    ),
    Unsupported(
        name='CLIP (mmpretrain)',
        needs=(r'layers\.\d+\.attn\.', r'(pre_norm|ln_pre)\.'),
        why='it normalises before its blocks, and some of its models have another activation',
    ),
    Unsupported(
        name='the MAE of mmsegmentation',
        needs=(r'layers\.\d+\.attn\.relative_position_bias_table$', r'pos_embed$'),
        why='it has absolute positions and relative ones, where ViT has one kind',
    ),
)  # fmt: skip
