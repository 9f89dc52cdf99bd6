"""Functions of tensors: they know torch and devices, and no paper."""

from .biased_attention import biased_attention
from .deformable_attention import deformable_attention, sample_around
from .graphs import first_rows, is_known, pad_to_multiple
from .linear import linear
from .pyramid import Grid, Shapes, join_levels, reference_points, split_levels
from .recompute import recompute
from .resize import resize_bicubic, resize_map
from .softmax import short_softmax

__all__ = [
    'Grid',
    'Shapes',
    'biased_attention',
    'deformable_attention',
    'first_rows',
    'is_known',
    'join_levels',
    'linear',
    'pad_to_multiple',
    'recompute',
    'reference_points',
    'resize_bicubic',
    'resize_map',
    'sample_around',
    'short_softmax',
    'split_levels',
]
