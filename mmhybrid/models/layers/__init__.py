"""What backbones are made of, one idea a file."""

from .attention import Attention
from .blocks import can_block, contiguous_map, in_blocks, map_in_bands
from .conv_ffn import ConvFFN
from .conv_pyramid import ConvPyramid
from .deformable_attention import MSDeformAttention, deformable_attention
from .drop import DropPath
from .fuse import fold_into_next, fold_into_previous, fuse_norms
from .layer_scale import LayerScale
from .lean_linear import lean_linear
from .linear import fast_linear, run_linear
from .mlp import Mlp, SwiGLU
from .norm import build_norm, is_pointwise
from .norm_conv import gelu_norm_convs
from .pair_bias import GridBias, PairBias, biased_attention
from .patch_embed import PatchEmbed
from .plain import is_plain, what_zeros_become
from .pointwise_conv import DoublingConv, PointwiseConv, ResidualDWConv
from .position import RelativePositionBias, resize_positions, rotary_positions
from .pyramid import join_levels, reference_points, resize_map, resize_rows, split_levels
from .recompute import lean, recompute

__all__ = [
    'Attention',
    'ConvFFN',
    'ConvPyramid',
    'DoublingConv',
    'DropPath',
    'GridBias',
    'LayerScale',
    'MSDeformAttention',
    'Mlp',
    'PairBias',
    'PatchEmbed',
    'PointwiseConv',
    'RelativePositionBias',
    'ResidualDWConv',
    'SwiGLU',
    'biased_attention',
    'build_norm',
    'can_block',
    'contiguous_map',
    'deformable_attention',
    'fast_linear',
    'fold_into_next',
    'fold_into_previous',
    'fuse_norms',
    'gelu_norm_convs',
    'in_blocks',
    'is_plain',
    'is_pointwise',
    'join_levels',
    'lean',
    'lean_linear',
    'map_in_bands',
    'recompute',
    'reference_points',
    'resize_map',
    'resize_positions',
    'resize_rows',
    'rotary_positions',
    'run_linear',
    'split_levels',
    'what_zeros_become',
]
