"""Operators in forms of ONNX that the runtimes know as one operator of their own."""

import math
from collections.abc import Callable
from typing import Any

import torch


def onnx_translations() -> dict[Callable, Callable]:
    """Return the forms in ONNX of torch's operators, for ``torch.onnx.export``."""
    from onnxscript import opset18

    op: Any = opset18  # its types know no values that are to be traced

    def number(value: float) -> Any:
        return op.Constant(value_float=value)

    def gelu(x: Any, approximate: str = 'none') -> Any:
        # onnxruntime finds its Gelu, with the bias before it, where the half multiplies x;
        # torch lets it multiply the sum.
        if approximate == 'tanh':
            cubic = op.Mul(number(0.044715), op.Mul(x, op.Mul(x, x)))
            bent = op.Tanh(op.Mul(number(math.sqrt(2 / math.pi)), op.Add(x, cubic)))
        else:
            bent = op.Erf(op.Div(x, number(math.sqrt(2))))
        return op.Mul(op.Mul(x, number(0.5)), op.Add(bent, number(1.0)))

    return {torch.ops.aten.gelu.default: gelu}
