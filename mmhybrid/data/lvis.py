"""MMDetection's metric of LVIS on today's NumPy."""

import numpy as np
from mmdet.evaluation import LVISMetric as HostLVISMetric

from mmhybrid.registry import METRICS


@METRICS.register_module()
class LVISMetric(HostLVISMetric):
    """Box and mask AP of LVIS; arguments are those of MMDetection's.

    The package lvis, whose last version 0.5.3 does the counting, writes ``np.float``, a name that
    NumPy dropped in 1.24. Here the name is there while it counts.
    """

    def compute_metrics(self, results: list) -> dict:
        missing = 'float' not in vars(np)
        if missing:
            vars(np)['float'] = float
        try:
            return super().compute_metrics(results)
        finally:
            if missing:
                del vars(np)['float']
