"""Looking into models by hooks: maps, attention, sampling points, receptive fields, costs."""

from mmhybrid.inspect.attention import AttentionMap, attention_maps
from mmhybrid.inspect.costs import Cost, measure_costs
from mmhybrid.inspect.exchange import Exchange, exchanges
from mmhybrid.inspect.features import feature_maps, pca_colors
from mmhybrid.inspect.launches import LaunchCounter, count_launches
from mmhybrid.inspect.receptive_field import central_side, receptive_fields
from mmhybrid.inspect.sampling import SamplingPoints, sampling_points

__all__ = [
    'AttentionMap',
    'Cost',
    'Exchange',
    'LaunchCounter',
    'SamplingPoints',
    'attention_maps',
    'central_side',
    'count_launches',
    'exchanges',
    'feature_maps',
    'measure_costs',
    'pca_colors',
    'receptive_fields',
    'sampling_points',
]
