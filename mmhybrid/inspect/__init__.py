"""Looking into models by hooks: maps, attention, sampling points, receptive fields, costs."""

from mmhybrid.inspect.attention import AttentionMap, attention_maps
from mmhybrid.inspect.costs import Cost, measure_costs
from mmhybrid.inspect.exchange import Exchange, exchanges
from mmhybrid.inspect.features import feature_maps, pca_colors
from mmhybrid.inspect.gpu import CARDS, Card, imagined_gpu, least_time, to_imagined_gpu
from mmhybrid.inspect.launches import (
    Launch,
    LaunchCounter,
    count_inference,
    count_launches,
    count_step,
)
from mmhybrid.inspect.receptive_field import central_side, receptive_fields
from mmhybrid.inspect.sampling import SamplingPoints, sampling_points

__all__ = [
    'CARDS',
    'AttentionMap',
    'Card',
    'Cost',
    'Exchange',
    'Launch',
    'LaunchCounter',
    'SamplingPoints',
    'attention_maps',
    'central_side',
    'count_inference',
    'count_launches',
    'count_step',
    'exchanges',
    'feature_maps',
    'imagined_gpu',
    'least_time',
    'measure_costs',
    'pca_colors',
    'receptive_fields',
    'sampling_points',
    'to_imagined_gpu',
]
