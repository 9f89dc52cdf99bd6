"""Checks of data folders before a training: ``tools/check_data.py`` prints it.

A check reads every file of a split and returns a ``Split``: counts, and findings. An error is what
stops a training or spoils it; a warning is what deserves a look. Files may be hostile: nothing
outside the folder is opened, nothing of a size that its file only declares is allocated.
"""

from .classes import check_class_list, check_classes
from .coco import check_coco
from .masks import check_masks
from .splits import check_balance, check_overlap
from .voc import check_voc

__all__ = [
    'check_balance',
    'check_class_list',
    'check_classes',
    'check_coco',
    'check_masks',
    'check_overlap',
    'check_voc',
]
