"""The necks that the host libraries lack."""

from .batch_norm import BatchNormNeck
from .simple_pyramid import SimplePyramid

__all__ = ['BatchNormNeck', 'SimplePyramid']
