from . import backbones, necks

__all__ = ['backbones', 'necks']
