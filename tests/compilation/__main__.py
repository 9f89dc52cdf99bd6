"""Every family through torch's default compiler: are its numbers those of eager code?

    python -m tests.compilation                      inference and training, minutes for each
    python -m tests.compilation inference --model vitcomer

The suite compiles with a backend that runs a graph as it was captured. Here the graph becomes code.
Every model is compiled once with symbolic shapes and runs on images of two sizes, beside the
same model uncompiled; both are compared with the model in float64. It fails if another size asks
for another graph, or if compiled code is further from float64 than uncompiled code by a factor of
thirty and by 1e-4 of the tensor's largest value: of a gradient that almost cancels, one order of
summation leaves far more than another. `training` compares outputs, gradients and running
statistics.
"""

import argparse
import copy
import subprocess
import sys
import time

import torch
import torch._inductor.config
from torch import Tensor, nn
from torch._dynamo.exc import RecompileError

from tests.models.test_compile import MODELS

# Nothing to be padded, and windows. On a CPU the compiler makes other code for small images: it
# counts what a sum has, and compares maps' sides with these narrow models' widths.
SIZES = ((2, 512, 640), (2, 544, 512))
FACTOR, FLOOR = 30, 1e-4

# The compiler cannot compare the strides of these models' maps where it is to arrange maps itself:
# https://github.com/pytorch/pytorch/issues/185510
OWN_LAYOUT = ('cmt', 'cvt', 'spach')


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m tests.compilation',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('what', nargs='?', choices=RUNS)
    parser.add_argument('--model', choices=MODELS)
    parser.add_argument('--backend', default='inductor')
    args = parser.parse_args(argv)
    if args.what and args.model:
        return check(args.model, args.what, args.backend)
    command = [sys.executable, '-m', 'tests.compilation', '--backend', args.backend]
    codes = [
        subprocess.run([*command, what, '--model', model]).returncode
        for model in ([args.model] if args.model else MODELS)
        for what in ([args.what] if args.what else RUNS)
    ]
    print(f'{len(codes) - codes.count(0)} of {len(codes)} failed')
    return int(any(codes))


def check(name: str, what: str, backend: str) -> int:
    """One model, compiled once, on images of all sizes."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    eager = MODELS[name]()
    with torch.no_grad():  # so that no sample falls on the edge of a pixel, where gradients jump
        for parameter in eager.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    exact, compiled = copy.deepcopy(eager).double(), copy.deepcopy(eager)
    compiled.compile(backend=backend, fullgraph=True, dynamic=True)
    start, worst, message = time.perf_counter(), 0.0, ''
    try:
        with (
            torch._dynamo.config.patch(error_on_recompile=True),
            torch._inductor.config.patch(layout_optimization=name not in OWN_LAYOUT),
        ):
            for n, h, w in SIZES:
                worst = max(worst, compare(RUNS[what], exact, eager, compiled, (n, 3, h, w)))
    except RecompileError as error:
        message = str(error)
    passed = worst <= 1 and not message
    print(
        f'{name} {what}: error {worst:.3f} of what is allowed, '
        f'{time.perf_counter() - start:.0f} s{"" if passed else "  FAILS"}',
        message,
        flush=True,
    )
    return int(not passed)


def compare(run, exact: nn.Module, eager: nn.Module, compiled: nn.Module, size: tuple) -> float:
    """The largest error of compiled code on an image, of what is allowed."""
    image = torch.randn(size)
    expected, theirs, ours = run(exact, image.double()), run(eager, image), run(compiled, image)
    bounds = {key: max(FLOOR, FACTOR * error(theirs[key], expected[key])) for key in expected}
    return max(error(ours[key], expected[key]) / bounds[key] for key in expected)


def infer(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    model.eval()
    with torch.no_grad():
        return {f'output {i}': out for i, out in enumerate(model(image))}


def train(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    model.train()
    model.zero_grad()
    outs = model(image)
    sum(out.square().mean() for out in outs).backward()
    numbers = {f'output {i}': out.detach() for i, out in enumerate(outs)}
    numbers |= {f'gradient of {key}': p.grad for key, p in model.named_parameters()}
    return numbers | {key: buffer.clone() for key, buffer in model.named_buffers()}


def error(numbers: Tensor, expected: Tensor) -> float:
    """Largest difference, over the largest number expected."""
    largest = expected.abs().max().item()
    difference = (numbers.double() - expected).abs().max().item()
    return difference / largest if largest else difference


RUNS = {'inference': infer, 'training': train}

if __name__ == '__main__':
    sys.exit(main())
