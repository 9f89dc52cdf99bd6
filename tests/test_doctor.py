"""The doctor, on environments of stub libraries that are missing, fail or crash."""

import json
import os
import subprocess
import sys
import venv
from functools import partial

import pytest

from mmhybrid import doctor
from mmhybrid.remedies import Facts, diagnose, judge
from mmhybrid.stacks import ROOT, STACKS, installed_stacks, pins

ONEDL = dict.fromkeys(STACKS['onedl'].values(), '1.0')
OPENMMLAB = dict.fromkeys(STACKS['openmmlab'].values(), '1.0')
WORKING = {
    'torch': """
__version__ = '2.12.1'
class Array:
    def __getattr__(self, name): return lambda *args: self
    def __getitem__(self, index): return self
    def __mul__(self, other): return self
class cuda:
    device_count = staticmethod(lambda: 0)
    is_available = staticmethod(lambda: False)
class version:
    cuda = None
def zeros(*size, **kwargs): return Array()
ones = tensor = zeros
""",
    'mmcv.ops': """
def get_compiling_cuda_version(): return 'not available'
def nms(*args): pass
roi_align = sigmoid_focal_loss = deform_conv2d = nms
class multi_scale_deform_attn:
    class MultiScaleDeformableAttnFunction:
        apply = staticmethod(nms)
""",
    **dict.fromkeys(
        """numpy torchvision torchvision.ops cv2 mmengine mmengine.runner mmcv mmcv._ext pycocotools
        pycocotools.mask mmdet mmdet.models mmdet.evaluation mmseg mmseg.models mmpretrain
        mmpretrain.models mmhybrid.models""".split(),
        '',
    ),
}
ABSENT = 'raise ModuleNotFoundError(f"No module named {__name__!r}", name=__name__)'
CRASH = 'import os, signal; os.kill(os.getpid(), signal.SIGSEGV)'


@pytest.fixture(scope='module')
def python(tmp_path_factory):
    """A Python with nothing installed."""
    folder = tmp_path_factory.mktemp('empty')
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / 'bin' / 'python'


@pytest.fixture
def call_doctor(python, tmp_path):
    """A function: sources of modules and names of distributions in, the finished process out.

    With ``start`` it is what runs the process, as ``subprocess.run`` by default.
    """

    def call(modules: dict[str, str], distributions=(), *options, installed=True, start=None):
        for name, source in modules.items():
            folder = tmp_path.joinpath(*name.split('.'))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / '__init__.py').write_text(source)
        for name in distributions:
            folder = tmp_path / f'{name.replace("-", "_")}-1.0.dist-info'
            folder.mkdir()
            (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
        (tmp_path / 'mmhybrid').mkdir(exist_ok=True)
        (tmp_path / 'mmhybrid' / 'ops').mkdir(exist_ok=True)
        own = (
            'api.py',
            'doctor.py',
            'remedies.py',
            'stacks.py',
            'ops/__init__.py',
            'ops/finder.py',
        )
        for file in ('__init__.py', *own):
            (tmp_path / 'mmhybrid' / file).unlink(missing_ok=True)
            (tmp_path / 'mmhybrid' / file).symlink_to(ROOT / 'mmhybrid' / file)
        command = [python, '-m', 'mmhybrid.doctor', *options]
        variables = {**os.environ, 'PYTHONPATH': str(tmp_path) if installed else ''}
        given = dict(cwd=tmp_path, env=variables, text=True)
        if start is not None:
            return start(command, **given)
        return subprocess.run(command, capture_output=True, **given)

    return call


def test_all_is_well(call_doctor):
    process = call_doctor(WORKING, ONEDL)
    assert process.returncode == 0, process.stdout + process.stderr
    assert 'OneDL forks' in process.stdout
    assert 'torch        2.12.1' in process.stdout
    assert 'compiled for the CPU' in process.stdout
    last = process.stdout.splitlines()[-1]
    assert last == 'Ready: a Mask R-CNN with ViT-CoMer trains here, on the CPU.'


def test_lines_come_as_they_are_known(call_doctor, tmp_path):
    wait = f"""
import pathlib, time
while not pathlib.Path({str(tmp_path / 'go_on')!r}).exists(): time.sleep(0.01)
"""
    modules = WORKING | {'mmpretrain': wait, 'mmpretrain.models': ''}
    with call_doctor(modules, ONEDL, start=partial(subprocess.Popen, stdout=subprocess.PIPE)) as it:
        first = [it.stdout.readline() for _ in range(4)]
        assert first[2].split()[0] == 'stack' and first[3].split()[0] == 'numpy'
        while not it.stdout.readline().startswith('  mmseg'):
            assert it.poll() is None
        (tmp_path / 'go_on').touch()
        rest = it.stdout.read()
    assert rest.splitlines()[0].startswith('  mmpretrain') and 'Ready: ' in rest


def test_one_process_imports_all_up_to_the_first_failure(call_doctor, tmp_path):
    pids = tmp_path / 'pids'
    note = f'import os; open({str(pids)!r}, "a").write(f"{{os.getpid()}} ")'
    modules = WORKING | dict.fromkeys(['numpy', 'cv2', 'mmpretrain'], note)
    assert call_doctor(modules, ONEDL).returncode == 0
    found = pids.read_text().split()
    assert len(found) == 3 and len(set(found)) == 1
    pids.unlink()
    assert call_doctor({'torchvision': ABSENT}).returncode == 0
    found = pids.read_text().split()
    assert len(found) == len(set(found)) == 3


def test_nothing_is_installed(call_doctor):
    process = call_doctor({})
    assert process.returncode == 1
    assert f'make -C {ROOT} install' in process.stdout
    assert process.stdout.count('missing') >= 10
    assert process.stdout.splitlines()[-1].startswith('Not ready: one problem')


@pytest.mark.parametrize('library', ['cv2', 'mmcv', 'mmdet'])
def test_needed_library_is_missing(call_doctor, library):
    process = call_doctor(WORKING | {library: ABSENT}, {}, '--json')
    report = json.loads(process.stdout)
    assert process.returncode == 1 and not report['ready']
    assert [problem['id'] for problem in report['problems']] == [f'missing-{library}']
    assert all(command for command in report['problems'][0]['commands'])


def test_unneeded_library_is_missing(call_doctor):
    process = call_doctor(WORKING | {'mmseg': ABSENT, 'torchvision': ABSENT}, ONEDL, '--json')
    report = json.loads(process.stdout)
    assert process.returncode == 0 and report['ready']
    assert {problem['breaks'][0] for problem in report['problems']} == {'mmseg', 'torchvision'}
    assert not any(problem['blocks'] for problem in report['problems'])


def test_a_checkout_works_uninstalled(call_doctor):
    process = call_doctor(WORKING, ONEDL, installed=False)
    assert process.returncode == 0
    assert 'mmhybrid itself is not installed' in process.stdout
    assert f'-m pip install --force-reinstall --no-deps -e {ROOT}' in process.stdout


@pytest.mark.parametrize('operator', ['roi_align', 'sigmoid_focal_loss', 'apply'])
def test_operators_of_mmhybrid_are_called(call_doctor, operator):
    """Each kind of them, those too that compiled ones have for GPUs alone."""
    own = 'import sys; __name__ = "mmhybrid.ops.ext"'
    process = call_doctor(WORKING | {'mmcv._ext': own}, ONEDL)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "mmhybrid's own, not compiled" in process.stdout
    ops = (
        WORKING['mmcv.ops']
        + """
def fail(*args): raise RuntimeError('of no known kind')
"""
        + (
            f'{operator} = fail'
            if operator != 'apply'
            else """
multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply = fail
"""
        )
    )
    process = call_doctor({'mmcv.ops': ops}, {}, '--json')
    (problem,) = json.loads(process.stdout)['problems']
    assert problem['id'] == 'operators-failing' and problem['blocks']


def test_libraries_that_crash_exit_or_talk_at_import(call_doctor):
    modules = {
        'mmdet': CRASH,
        'mmseg': 'raise SystemExit(3)',
        'mmpretrain': 'print("mmhybrid-probe: {not json}")',
    }
    process = call_doctor(WORKING | modules, ONEDL, '--json')
    report = json.loads(process.stdout)
    assert process.returncode == 1
    assert 'SIGSEGV' in report['libraries']['mmdet']['message']
    assert report['libraries']['mmseg']['error'] == 'SystemExit'
    assert 'error' not in report['libraries']['mmpretrain']
    mend = next(problem for problem in report['problems'] if problem['breaks'] == ['mmdet'])
    assert (
        '--force-reinstall --no-deps --no-cache-dir onedl-mmdetection==1.0' in mend['commands'][0]
    )


def test_ops_that_load_and_fail(call_doctor):
    """What mmcv 2.3.6 compiled for torch 2.12 says under torch 2.13, on a CPU."""
    message = 'nms_impl: implementation for device cuda:0 not found.'
    ops = WORKING['mmcv.ops'].replace(': pass', f': raise RuntimeError({message!r})')
    process = call_doctor(WORKING | {'mmcv.ops': ops}, ONEDL, '--json')
    (problem,) = json.loads(process.stdout)['problems']
    assert process.returncode == 1 and problem['id'] == 'operators-compiled'
    assert f'compiled for another torch, or without CUDA ({message})' in problem['why']


def test_one_cause_is_one_problem(call_doctor):
    """A cached mmcv of another torch also breaks what imports it."""
    broken = "raise ImportError('/x/mmcv/_ext.so: undefined symbol: _ZN2at', name='mmcv._ext')"
    modules = {'mmcv._ext': broken, 'mmcv.ops': broken, 'mmdet.models': 'import mmcv.ops'}
    report = json.loads(call_doctor(WORKING | modules, ONEDL, '--json').stdout)
    (problem,) = report['problems']
    assert problem['id'] == 'operators-compiled' and problem['breaks'] == ['mmcv._ext', 'mmdet']
    first = problem['commands'][0]
    assert '--no-cache-dir' in first and first.endswith('onedl-mmcv==1.0')
    assert not any('--no-build-isolation' in it for it in problem['commands'])  # sees no torch


FAILURES = [
    # module, message, the problem behind it
    ('mmcv._ext', "No module named 'mmcv._ext'", 'operators-missing'),
    ('mmdet', "No module named 'mmcv._ext'", 'operators-missing'),
    ('mmcv._ext', 'libcudart.so.12: cannot open shared object file', 'operators-compiled'),
    ('cv2', 'libGL.so.1: cannot open shared object file: No such file', 'opencv-libraries'),
    ('cv2', 'libgthread-2.0.so.0: cannot open shared object file', 'opencv-libraries'),
    ('torchvision', 'operator torchvision::nms does not exist', 'torchvision-build'),
    ('mmdet', 'operator torchvision::nms does not exist', 'torchvision-build'),
    (
        'torchvision',
        'Detected that PyTorch and torchvision were compiled with different CUDA major versions',
        'torchvision-build',
    ),
    ('torchvision', '/x/torchvision/_C.so: undefined symbol: _ZN3c10', 'torchvision-build'),
    (
        'mmdet',
        'MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.',
        'version-mmcv',
    ),
    (
        'mmdet',
        'MMEngine==0.6.0 is used but incompatible. Please install mmengine>=0.7.1, <1.0.0.',
        'version-mmengine',
    ),
    ('torch', 'Numpy is not available', 'numpy-2'),
    ('pycocotools', 'numpy.core.multiarray failed to import', 'numpy-2'),
    ('mmengine', "No module named 'pkg_resources'", 'setuptools'),
    ('mmengine', "No module named 'yaml'", 'missing-yaml'),
    ('mmdet', "No module named 'mmdet.models'", 'broken-mmdet'),
    ('mmseg.y', "cannot import name 'x' from 'mmseg.y' (/z)", 'broken-mmseg'),
    ('mmpretrain', '', 'broken-mmpretrain'),
]


@pytest.mark.parametrize(('module', 'message', 'expected'), FAILURES)
def test_judgement(module, message, expected):
    facts = Facts({'torch': '2.12.1', 'torchvision': '0.27.1', 'numpy': '2.2.6', **ONEDL})
    problem = judge(module, message, facts)
    assert problem.id == expected
    assert problem.title and problem.commands


def commands_for(module: str, message: str, distributions: dict[str, str]) -> str:
    return '\n'.join(judge(module, message, Facts(distributions)).commands)


def test_commands_name_the_stack_that_is_there():
    message = 'MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.'
    commands = commands_for('mmdet', message, OPENMMLAB)
    assert "'mmcv-lite>=2.0.0rc4,<2.2.0'" in commands
    assert 'onedl-mmsegmentation' in commands_for('mmseg', "No module named 'mmseg'", {})
    lite = commands_for('mmcv._ext', 'undefined symbol', {**OPENMMLAB, 'mmcv': '2.1.0'})
    assert 'uninstall -y mmcv' in lite.splitlines()[0]
    assert lite.splitlines()[1].endswith(' mmcv-lite==2.1.0')
    own = commands_for('mmcv._ext', "No module named 'mmcv._ext'", OPENMMLAB)
    assert own.endswith(f'--no-deps -e {ROOT}')


def test_a_transformers_that_breaks_mmpretrain_is_named():
    for stack, newest in (ONEDL, '<5'), (OPENMMLAB, '<4.52'):
        found = {**stack, 'transformers': '5.0.0'}
        for message in (
            'NoneType takes no arguments',
            "cannot import name 'GenerationMixin' from 'transformers.modeling_utils' (/x.py)",
        ):
            assert f"install 'transformers{newest}'" in commands_for('mmpretrain', message, found)


def test_torch_for_the_cpu_gets_a_matching_pair():
    found = {'torch': '2.1.0+cpu', 'torchvision': '0.27.1'}
    commands = commands_for('torchvision', 'operator torchvision::nms does not exist', found)
    assert 'uninstall -y torch torchvision' in commands
    assert "torch==2.1.0 'torchvision==0.16.*'" in commands


def test_opencv_is_swapped_for_the_same_version_without_windows():
    found = {'opencv-python': '4.12.0.88', 'opencv-python-headless': '4.12.0.88'}
    first, second = commands_for('cv2', 'libGL.so.1: cannot open', found).splitlines()
    assert first.endswith('uninstall -y opencv-python opencv-python-headless')
    assert second.endswith('install --no-deps opencv-python-headless==4.12.0.88')


def test_two_stacks_are_told_apart_and_reported():
    assert installed_stacks(ONEDL) == {'onedl': list(ONEDL)}
    assert list(installed_stacks(OPENMMLAB)) == ['openmmlab']
    assert Facts(OPENMMLAB).stack == 'openmmlab' and Facts({}).stack == 'onedl'
    (problem,) = diagnose(Facts({**ONEDL, 'mmcv': '2.1.0'}))
    assert problem.id == 'two-stacks' and problem.blocks
    assert 'onedl-mmcv' in problem.commands[0] and problem.commands[0].endswith(' mmcv')
    assert pins('onedl')['onedl-mmcv'] in '\n'.join(problem.commands)


def test_operators_that_were_compiled_without_cuda_beside_a_gpu():
    message = 'nms_impl: implementation for device cuda:0 not found.'
    failed = {'error': 'RuntimeError', 'message': message, 'operators': 'compiled'}
    (problem,) = diagnose(Facts(ONEDL, {'torch': {'gpus': ['H']}, 'mmcv._ext': failed}))
    assert problem.id == 'operators-compiled' and problem.blocks
    assert f'or without CUDA ({message})' in problem.why
    assert problem.commands[0].endswith('onedl-mmcv==1.0')


def test_a_slow_import_is_not_called_broken(monkeypatch):
    monkeypatch.setattr(doctor, 'TIMEOUT', 0.01)  # less than Python takes to start
    probes = {name: next(doctor.probe([name])) for name in ('mmdet', 'mmseg')}
    (problem,) = diagnose(Facts(ONEDL, probes))
    assert problem.title == 'importing mmdet, mmseg takes very long'
    assert 'more than 0.01 seconds' in problem.why and 'busy' in problem.why
    assert problem.breaks == ['mmdet', 'mmseg'] and problem.blocks
    assert not any('install' in command for command in problem.commands)


def test_explanation_of_an_import_error():
    error = ImportError("No module named 'mmcv._ext'", name='mmcv._ext')
    text = doctor.explain_import_error(error)
    assert text.startswith('mmcv has no operators here (ImportError: No module named')
    assert f'-e {ROOT}' in text
    assert text.endswith('-m mmhybrid.doctor')
    assert 'python' in text.splitlines()[-1]


def test_explanation_of_an_error_that_names_no_module():
    """The MM libraries assert versions at import: the traceback says which one it was."""
    with pytest.raises(AssertionError) as caught:
        exec('assert False, "of no known kind"', {'__name__': 'mmdet.models.thing'})
    assert doctor.explain_import_error(caught.value).startswith('mmdet fails at import')
    text = doctor.explain_import_error(RuntimeError('of no known kind'))
    assert text.startswith('a library fails at import') and 'Mend it' not in text


def test_nothing_but_the_standard_library_is_imported():
    code = 'import mmhybrid.doctor, sys; print(*sys.modules)'
    output = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    loaded = {name.partition('.')[0] for name in output.stdout.split()}
    assert 'mmhybrid' in loaded
    assert not loaded & {'torch', 'numpy', 'mmengine', 'mmcv', 'cv2', 'packaging', 'setuptools'}


def test_pins_are_read_from_the_checkout():
    assert pins('onedl')['torch'].startswith('torch==')
    assert pins('no such stack') == {}
