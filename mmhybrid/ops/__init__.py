"""The operators of mmcv's compiled ``mmcv._ext``, written with torch and torchvision.

:mod:`mmhybrid.ops.ext` stands in the place of that module. It is imported while mmcv itself still
is, so everything here imports torch, torchvision, NumPy and the standard library alone; deformable
attention asks :mod:`mmhybrid.models.kernels` when it is first called.
"""
