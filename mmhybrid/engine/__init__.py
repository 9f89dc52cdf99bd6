"""Hooks and optimizer parts that the host libraries lack."""

from mmhybrid.engine.bf16 import Bf16OptimWrapper
from mmhybrid.engine.checkpoint import (
    AtomicCheckpointHook,
    check_weights,
    checkpoint_folder,
    latest_checkpoint,
    load_trained,
    read_checkpoint,
)
from mmhybrid.engine.early_stop import EarlyStopHook
from mmhybrid.engine.health import FiniteLossHook, TrainingError
from mmhybrid.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mmhybrid.engine.lora import LoRAHook
from mmhybrid.engine.preemption import Preempted, PreemptionHook
from mmhybrid.engine.report import ReportHook
from mmhybrid.engine.resume import ExactResumeHook
from mmhybrid.engine.safe_loading import safe_loading

__all__ = [
    'AtomicCheckpointHook',
    'Bf16OptimWrapper',
    'EarlyStopHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'LayerDecayOptimWrapperConstructor',
    'LoRAHook',
    'Preempted',
    'PreemptionHook',
    'ReportHook',
    'TrainingError',
    'check_weights',
    'checkpoint_folder',
    'latest_checkpoint',
    'load_trained',
    'read_checkpoint',
    'safe_loading',
]
