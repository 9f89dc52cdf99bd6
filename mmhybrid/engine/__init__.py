"""Hooks and optimizer parts that the host libraries lack."""

from mmhybrid.engine.bf16 import Bf16OptimWrapper
from mmhybrid.engine.checkpoint import (
    AtomicCheckpointHook,
    latest_checkpoint,
    load_weights,
    read_checkpoint,
)
from mmhybrid.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mmhybrid.engine.report import ReportHook

__all__ = [
    'AtomicCheckpointHook',
    'Bf16OptimWrapper',
    'LayerDecayOptimWrapperConstructor',
    'ReportHook',
    'latest_checkpoint',
    'load_weights',
    'read_checkpoint',
]
