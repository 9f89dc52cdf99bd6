"""The doctor: lists what is installed and what is broken, and the command that mends it.

``python -m mmhybrid.doctor`` prints it for people, each line as soon as it is known, ``--json`` for
programs. The exit code is 1 when the main job, training a Mask R-CNN with ViT-CoMer, cannot run.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Event, Timer
from typing import Any

# These too import the standard library alone: the doctor runs where everything else is broken.
from mmhybrid import __version__
from mmhybrid.remedies import (
    OPENCV_WITH_WINDOWS,
    Facts,
    Problem,
    diagnose,
    judge,
)
from mmhybrid.stacks import (
    STACK_TITLES,
    STACKS,
    VARIANTS,
    installed_distributions,
    installed_stacks,
)

# What is tried, in the order in which it has to work. `details` ends up in the report.
PROBES = {
    'numpy': 'import numpy',
    'torch': """
import torch
torch.zeros(1).numpy()
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
details.update(cuda=torch.version.cuda, gpus=gpus if torch.cuda.is_available() else [])
""",
    'torchvision': 'import torchvision.ops',
    'cv2': 'import cv2',
    'mmengine': 'import mmengine.runner',
    'mmcv': 'import mmcv',
    'mmcv._ext': """
import mmcv._ext
details.update(operators='compiled' if mmcv._ext.__name__ == 'mmcv._ext' else 'mmhybrid')
import torch
from mmcv import ops
# Those compiled for another torch may load, and fail when they are called.
gpu = torch.cuda.is_available()
device = 'cuda' if gpu else 'cpu'
maps, box = torch.ones(1, 1, 4, 4, device=device), torch.ones(1, 5, device=device)
ops.nms(box[:, :4], box[:, 0], 0.5)
ops.roi_align(maps, box * 0, 2)
ops.deform_conv2d(maps, maps.new_zeros(1, 2, 4, 4), maps[..., :1, :1])
if gpu or details['operators'] == 'mmhybrid':  # compiled, these two are for GPUs alone
    ops.sigmoid_focal_loss(box, box[:, 0].long())
    points = box.new_full((1, 1, 1, 1, 1, 2), 0.5)
    function = ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction
    size = torch.tensor([[4, 4]], device=device)
    function.apply(maps.view(1, 16, 1, 1), size, size[0, :1] * 0, points, points[..., 0], 1)
details.update(cuda=ops.get_compiling_cuda_version())
""",
    'pycocotools': 'import pycocotools.mask',
    'mmdet': 'import mmdet.models, mmdet.evaluation',
    'mmseg': 'import mmseg.models',
    'mmpretrain': 'import mmpretrain.models',
    'mmhybrid': """
import importlib.util
current_folder = sys.path.pop(0)
details.update(installed=importlib.util.find_spec('mmhybrid') is not None)
sys.path.insert(0, current_folder)
import mmhybrid.models
""",
}

TIMEOUT = 300  # seconds: the first import after an installation reads gigabytes
MARK = f'mmhybrid-probe-{os.urandom(8).hex()}:'  # before a line of ours in what libraries print
PROBE_RUNNER = f"""
import json, sys, warnings
warnings.simplefilter('ignore')
for name, code in json.loads(sys.argv[1]).items():
    details = {{}}
    try:
        exec(code, dict(details=details, sys=sys))
        details['version'] = str(getattr(sys.modules.get(name), '__version__', ''))
    except BaseException as error:
        details.update(error=type(error).__name__, message=str(error))
    print('\\n{MARK}' + json.dumps(details), flush=True)
    if 'error' in details:
        break
"""


def probe(names: Iterable[str]) -> Iterator[dict]:
    """Import libraries in a process of their own, which may crash, up to the first that fails.

    Yields:
        The `version` and other details of each, or the `error` and its `message`.
    """
    codes = {name: PROBES[name] for name in names}
    command = [sys.executable, '-c', PROBE_RUNNER, json.dumps(codes)]
    process: Any = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors='replace'
    )
    expired = Event()

    def expire() -> None:
        expired.set()
        process.kill()

    try:
        for name in codes:
            timer = Timer(TIMEOUT, expire)
            timer.start()
            line = next((it for it in process.stdout if it.startswith(MARK)), None)
            timer.cancel()
            if line:
                details = json.loads(line.removeprefix(MARK))
            elif expired.is_set():
                message = f'its import takes more than {TIMEOUT} seconds'
                details = {'error': 'Timeout', 'message': message}
            else:
                code = process.wait()
                cause = signal.Signals(-code).name if code < 0 else f'exit code {code}'
                message = f'importing {name} ends Python with {cause}'
                details = {'error': 'Crash', 'message': message}
            yield details
            if 'error' in details:
                return
    finally:  # a process that hangs or crashes after its imports has done what was asked
        process.kill()
        process.wait()
        process.stdout.close()


def find_compiler() -> str | None:
    """The C++ compiler that torch would use, with its version."""
    path = shutil.which(os.environ.get('CXX', 'c++'))
    if path is None:
        return None
    output = subprocess.run([path, '--version'], capture_output=True, text=True).stdout
    return output.splitlines()[0] if output else path


def examine(report: Callable[[str, Facts], None] = lambda name, facts: None) -> Facts:
    """Look at everything.

    `report` gets the name of each library that has been tried, in the order of `PROBES`, and what
    is known by then.
    """
    facts = Facts(
        distributions=installed_distributions(),
        compiler=find_compiler(),
        driver=shutil.which('nvidia-smi') is not None,
    )
    # One process imports torch and mmcv once, eleven would each, most of them. What
    # follows a failure is imported alone: it may work without what has failed, or half loaded it.
    for name, details in zip(PROBES, probe(PROBES), strict=False):
        facts.probes[name] = details
        report(name, facts)
    rest = [name for name in PROBES if name not in facts.probes]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, details in zip(rest, pool.map(lambda it: next(probe([it])), rest), strict=True):
            facts.probes[name] = details
            report(name, facts)
    return facts


def explain_import_error(error: BaseException) -> str:
    """Turn the failed import of a host library into a message that says what to do.

    Args:
        error: what the import raised: an ImportError, or the AssertionError or RuntimeError that
            the MM libraries and torchvision raise.

    Returns:
        A few lines: what failed, why, the commands that mend it, and how to call the doctor.
    """
    message = str(error)
    module = getattr(error, 'name', None) or raised_by(error)
    problem = judge(module, message, Facts(installed_distributions()))
    lines = [f'{problem.title} ({type(error).__name__}: {message.strip()})']
    if problem.why and problem.why not in message:
        lines.append(problem.why)
    if problem.commands:
        lines += ['Mend it with:', *(f'    {command}' for command in problem.commands)]
    lines += ['See all that is installed and broken with:']
    lines += [f'    {shlex.quote(sys.executable)} -m mmhybrid.doctor']
    return '\n'.join(lines)


def raised_by(error: BaseException) -> str:
    """The innermost host library in the error's traceback."""
    found, traceback = '', error.__traceback__
    while traceback is not None:
        library = traceback.tb_frame.f_globals.get('__name__', '').partition('.')[0]
        if library in PROBES and library != 'mmhybrid':
            found = library
        traceback = traceback.tb_next
    return found


# ---------------------------------------------------------------------------- the report


def state(name: str, facts: Facts) -> str:
    """Describe one library beside its version."""
    details = facts.probes[name]
    if 'error' in details:
        library = name.partition('.')[0]
        if details['error'] == 'Timeout':
            return 'slow'
        return 'missing' if f"No module named '{library}'" in details['message'] else 'broken'
    if name == 'torch':
        return f'built for CUDA {details["cuda"]}' if details['cuda'] else 'built for the CPU'
    if name == 'mmcv._ext':
        if details['operators'] == 'mmhybrid':
            return "mmhybrid's own, not compiled"
        cuda = details['cuda']
        return 'compiled for the CPU' + (f' and CUDA {cuda}' if cuda != 'not available' else '')
    candidates = [names[name] for names in STACKS.values() if name in names]
    candidates += [variant for variant, of in VARIANTS.items() if of == name]
    if name == 'cv2':
        candidates = [*OPENCV_WITH_WINDOWS, 'opencv-python-headless']
    return ', '.join(it for it in candidates if it in facts.distributions)


def machine(facts: Facts) -> dict[str, str]:
    """The rows of the report that are no libraries."""
    gpu = ', '.join(facts.gpus) or 'none'
    if facts.driver and not facts.gpus:
        gpu = 'there is a driver, but torch cannot use it'
    return {'compiler': facts.compiler or 'none', 'GPU': gpu}


def paint(text: str, colour: str) -> str:
    """Colour for a terminal that wants it."""
    if not text or not sys.stdout.isatty() or 'NO_COLOR' in os.environ:
        return text
    codes = {'bold': 1, 'dim': 2, 'red': 31, 'green': 32, 'yellow': 33}
    return f'\033[{codes[colour]}m{text}\033[0m'


def print_head(stacks: Iterable[str]) -> None:
    """The first lines of the report for people: versions and the stack."""
    python = f'Python {platform.python_version()} in {sys.prefix}'
    print(paint(f'mmhybrid {__version__}, {python}', 'bold'), end='\n\n')
    titles = ' and '.join(STACK_TITLES[stack] for stack in stacks)
    print(f'  {"stack":<12} {titles or "none"}', flush=True)


def print_library(name: str, facts: Facts) -> None:
    """The line of a library that has been tried."""
    details = facts.probes[name]
    if name == 'mmhybrid' and 'error' not in details:
        return  # the first line says it
    text = state(name, facts)
    colour = {'missing': 'yellow', 'slow': 'yellow', 'broken': 'red'}.get(text, 'dim')
    version = details.get('version') or facts.distributions.get(name, '')
    title = 'mmcv ops' if name == 'mmcv._ext' else name
    print(f'  {title:<12} {version:<13} {paint(text, colour)}'.rstrip(), flush=True)


def print_rest(facts: Facts, problems: list[Problem]) -> None:
    """The end of the report for people: the machine, problems with their commands, a verdict."""
    width = min(shutil.get_terminal_size().columns, 100)
    for name, text in machine(facts).items():
        print(f'  {name:<12} {text}')
    print()
    for number, problem in enumerate(problems, 1):
        print(paint(f'{number}. {problem.title}', 'red' if problem.blocks else 'yellow'))
        affected = f'Affected: {", ".join(problem.breaks)}.' if problem.breaks else ''
        for text in (problem.why, affected):
            for line in textwrap.wrap(text, width - 3):
                print(f'   {line}')
        for command in problem.commands:
            print(f'     {paint(command, "bold")}')
        print()
    print(verdict(facts, problems))


def verdict(facts: Facts, problems: list[Problem]) -> str:
    """One line: can the main job run?"""
    count = sum(problem.blocks for problem in problems)
    if count:
        numbers = 'one problem' if count == 1 else f'{count} problems'
        text = f'Not ready: {numbers} to mend before a Mask R-CNN with ViT-CoMer trains here.'
        return paint(text, 'red')
    where = 'GPU' if facts.gpus else 'CPU'
    return paint(f'Ready: a Mask R-CNN with ViT-CoMer trains here, on the {where}.', 'green')


def main(arguments: list[str] | None = None) -> int:
    """Examine, report, and return the exit code."""
    parser = argparse.ArgumentParser(prog='python -m mmhybrid.doctor', description=__doc__)
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    options = parser.parse_args(arguments)
    if options.json:
        facts = examine()
    else:
        print_head(installed_stacks(installed_distributions()))
        facts = examine(print_library)
    problems = diagnose(facts)
    ready = not any(problem.blocks for problem in problems)
    if options.json:
        report = {
            'ready': ready,
            'python': platform.python_version(),
            'prefix': sys.prefix,
            'stacks': facts.stacks,
            'libraries': facts.probes,
            **machine(facts),
            'problems': [asdict(problem) for problem in problems],
        }
        print(json.dumps(report, indent=2))
    else:
        print_rest(facts, problems)
    return 0 if ready else 1


if __name__ == '__main__':
    sys.exit(main())
