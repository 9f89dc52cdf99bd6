from .attention import Attention, LayerScale
from .conv_ffn import ConvFFN
from .conv_pyramid import ConvPyramid
from .deformable_attention import MSDeformAttention, deformable_attention
from .drop import DropPath
from .mlp import Mlp, SwiGLU
from .norm import build_norm
from .patch_embed import PatchEmbed
from .position import RelativePositionBias, resize_positions, rotary_positions
from .pyramid import join_levels, reference_points, resize_map, split_levels

__all__ = [
    'Attention',
    'ConvFFN',
    'ConvPyramid',
    'DropPath',
    'LayerScale',
    'MSDeformAttention',
    'Mlp',
    'PatchEmbed',
    'RelativePositionBias',
    'SwiGLU',
    'build_norm',
    'deformable_attention',
    'join_levels',
    'reference_points',
    'resize_map',
    'resize_positions',
    'rotary_positions',
    'split_levels',
]
