"""The modules that backbones are made of, one idea a file."""

from .attention import Attention, QKVLinear
from .conv_ffn import ConvFFN
from .conv_pyramid import ConvPyramid
from .deformable_attention import MSDeformAttention
from .drop import DropPath
from .fuse import fold_into_next, fold_into_previous, fuse_norms
from .layer_scale import LayerScale
from .linear import Linear
from .mlp import Mlp, SwiGLU
from .norm import build_norm
from .pair_bias import PairBias
from .patch_embed import PatchEmbed
from .position import RelativePositionBias, resize_positions, rotary_positions

__all__ = [
    'Attention',
    'ConvFFN',
    'ConvPyramid',
    'DropPath',
    'LayerScale',
    'Linear',
    'MSDeformAttention',
    'Mlp',
    'PairBias',
    'PatchEmbed',
    'QKVLinear',
    'RelativePositionBias',
    'SwiGLU',
    'build_norm',
    'fold_into_next',
    'fold_into_previous',
    'fuse_norms',
    'resize_positions',
    'rotary_positions',
]
