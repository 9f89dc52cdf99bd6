"""Published weights into mmhybrid's models, strictly and with a report.

Needs torch and the standard library; safetensors for files of that kind.
"""

from .errors import CheckpointError
from .files import cache_folder, locate, read
from .fit_vit import describe_vit
from .load import load_pretrained, load_weights, pretrained_options
from .names import OFFICIAL_FILES
from .report import LoadReport
from .sources import SOURCES, Source, find_weights
from .to_transformers import to_transformers, write_transformers

__all__ = [
    'OFFICIAL_FILES',
    'SOURCES',
    'CheckpointError',
    'LoadReport',
    'Source',
    'cache_folder',
    'describe_vit',
    'find_weights',
    'load_pretrained',
    'load_weights',
    'locate',
    'pretrained_options',
    'read',
    'to_transformers',
    'write_transformers',
]
