"""Looking into models by hooks: maps, attention, sampling points, receptive fields, costs."""

from mmhybrid.analysis.attention import AttentionMap, attention_maps
from mmhybrid.analysis.costs import Cost, measure_costs
from mmhybrid.analysis.exchange import Exchange, exchanges
from mmhybrid.analysis.features import feature_maps, pca_colors
from mmhybrid.analysis.launches import LaunchCounter, count_launches
from mmhybrid.analysis.receptive_field import central_side, receptive_fields
from mmhybrid.analysis.sampling import SamplingPoints, sampling_points

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
