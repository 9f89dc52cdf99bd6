"""The necks that the host libraries lack."""

from .simple_pyramid import SimplePyramid

__all__ = ['SimplePyramid']
