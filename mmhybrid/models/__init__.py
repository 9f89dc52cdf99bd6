"""Backbones and necks; importing this registers them."""

from . import backbones, necks

__all__ = ['backbones', 'necks']
