"""Print the machine code of a Triton kernel for an H100 or H200; no GPU is needed.

python tests/models/kernels/triton_compile.py _sample
"""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmhybrid.models.kernels import deformable_triton

CONSTANTS = dict(
    HEADS=6,
    DIMS=64,
    LEVELS=3,
    POINTS=4,
    WIDE=False,
    POINT_BLOCK=4,
    DIM_BLOCK=64,
    TILE=1024,
)
TYPES = dict(value='*bf16', grad='*bf16', out='*bf16', queries='i32', tokens='i32')


def compile_kernel(name: str) -> str:
    function = getattr(deformable_triton, name).fn
    signature = {
        argument: 'constexpr' if argument in CONSTANTS else TYPES.get(argument, '*fp32')
        for argument in function.arg_names
    }
    signature['shapes'] = ('fp32',) * 6
    # As torch allocates them.
    aligned = {
        (i,): [['tt.divisibility', 16]]
        for i, argument in enumerate(function.arg_names)
        if str(signature[argument]).startswith('*')
    }
    source = ASTSource(fn=function, signature=signature, constexprs=CONSTANTS, attrs=aligned)
    return triton.compile(source, target=GPUTarget('cuda', 90, 32)).asm['ptx']


print(compile_kernel(sys.argv[1]))
