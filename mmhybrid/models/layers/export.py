"""What layers ask about an export (``torch.export``, and ONNX through it)."""

import torch


def is_exporting() -> bool:
    """Whether a model is being exported just now; never so in a torch that cannot tell."""
    return hasattr(torch.compiler, 'is_exporting') and torch.compiler.is_exporting()
