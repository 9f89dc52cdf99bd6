"""Every command of the documentation: its options parse, and what it names is there."""

import argparse
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest

import mmhybrid
from mmhybrid.cli.arguments import IntermixedParser
from mmhybrid.cli.config import _check_options
from mmhybrid.cli.paths import find_config
from mmhybrid.cli.program import COMMANDS
from mmhybrid.registry import MODELS
from mmhybrid.stacks import STACKS, pins
from tests.docs.pages import ROOT, blocks, commands

SHELL = ('cd', 'export', 'git', 'rm', 'source', 'sudo')
EXAMPLES = [
    pytest.param(words, id=f'{block}: {" ".join(words)[:60]}')
    for block in blocks('console', 'bash')
    for words in commands(block)
]
# Files that a page tells its reader to make, and gives.
MADE = {block.text.splitlines()[0].removeprefix('# ') for block in blocks('python')}
TARGETS = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)


class Parsed(Exception):
    """Ends a tool as soon as it has parsed its arguments."""


@pytest.fixture
def parse(monkeypatch):
    """Parse arguments with the parser of a tool's or a module's `main`."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))

    def stopping(parse_args):
        def stop(self, args=None, namespace=None):
            raise Parsed(parse_args(self, args, namespace))

        return stop

    for kind in (argparse.ArgumentParser, IntermixedParser):
        monkeypatch.setattr(kind, 'parse_args', stopping(kind.parse_args))
    before = set(sys.modules)

    def run(name, arguments):
        monkeypatch.setattr(sys, 'argv', [name, *arguments])
        with pytest.raises(Parsed) as parsed:
            importlib.import_module(name).main(arguments)
        return parsed.value.args[0]

    yield run
    for name in set(sys.modules) - before:  # `test` is also a package of the standard library
        if str(getattr(sys.modules[name], '__file__', '')).startswith(str(ROOT / 'tools')):
            del sys.modules[name]


def test_there_are_commands():
    assert len(EXAMPLES) > 30
    assert {'python', 'make', 'pip'} <= {param.values[0][0] for param in EXAMPLES}


@pytest.mark.parametrize('words', EXAMPLES)
def test_command(words, parse, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, *rest = words
    if program in ('torchrun', 'srun'):
        at = next(i for i, word in enumerate(rest) if word.startswith('tools/'))
        program, rest = 'python', rest[at:]
    if program == 'make':
        check_make(rest)
    elif program == 'pip':
        check_pip(rest)
    elif program == 'mmhybrid':
        check_program(rest, parse)
    elif program in ('python', '.venv/bin/python'):
        check_python(rest, parse)
    else:
        assert program in SHELL


def check_make(words):
    for word in words:
        assert word in TARGETS or re.fullmatch(r'(VENV|PYTHON|STACK|OPS|EPOCHS)=\S+', word), word


def check_pip(words):
    assert words[0] in ('install', 'uninstall', 'download', 'wheel')
    known = {name for stack in STACKS for name in pins(stack)}
    for before, word in zip(words, words[1:], strict=False):
        if before == '-r':
            assert Path(word).is_file(), word
        name, pinned, _ = word.partition('==')
        if pinned and name in known:
            assert word in {pins(stack).get(name) for stack in STACKS}, f'{word} is not the pin'


def check_python(words, parse):
    if words[0] == '-c':
        compile(words[1], '-c', 'exec')
    elif words[:2] == ['-m', 'pytest']:
        files = {word for word in words[2:] if not word.startswith('-')}
        assert all(Path(file).exists() for file in files - MADE)
    elif words[0] == '-m' and words[1].startswith('mmhybrid.'):
        parse(words[1], words[2:])
    elif words[0] == '-m':
        assert importlib.util.find_spec(words[1])
    elif words[0].startswith('tools/'):
        check_tool(words[0], parse(Path(words[0]).stem, words[1:]))
    else:
        assert Path(words[0]).is_file(), words[0]


def check_program(words, parse):
    """A command of `mmhybrid`, or the program's own options."""
    command, *rest = words
    if not command.startswith('-'):
        check_names(parse(COMMANDS[command][0], rest))


def check_tool(tool, args):
    assert Path(tool).is_file()
    check_names(args)


def check_names(args):
    named = [getattr(args, 'config', None), *(getattr(args, 'names', None) or [])]
    for name in {*filter(None, named)} - MADE:
        check_name(name)
    options = getattr(args, 'cfg_options', None)
    config = getattr(args, 'config', None) or getattr(args, 'model', '')  # of export
    if options and (config.startswith('configs/') or config in mmhybrid.list_configs()):
        from mmengine.config import Config

        cfg = Config.fromfile(find_config(config))
        _check_options(cfg, options, config)
        check_backbone_options(cfg.model.get('backbone', {}).get('type', ''), options)


def check_backbone_options(kind, options):
    backbone = MODELS.get(kind.removeprefix('mmhybrid.'))
    for key in options:
        *parents, name = key.split('.')
        if parents == ['model', 'backbone']:
            assert name in inspect.signature(backbone.__init__).parameters, f'{kind} has no {name}'


def check_name(name):
    """A config, its work dir, or a backbone such as cmt_s,out_indices=(2,3) or timm:resnet50."""
    if name.endswith('.py'):
        # What a training left, or a config that the reader has, is not there.
        assert not name.startswith('configs/') or Path(name).is_file(), name
    elif name.startswith('timm:'):
        assert importlib.import_module('timm').is_model(name.removeprefix('timm:')), name
    elif name.isupper() or name.startswith(('/', '$', 'mm')):
        return  # a folder, CONFIG for any, a class of a host
    elif name.startswith('work_dirs/'):
        assert Path(name).name in mmhybrid.list_configs(), name
    else:
        name = name.partition('@')[0]  # of another checkout
        known = (*mmhybrid.list_backbones(), *mmhybrid.list_configs())
        assert name.split(',')[0] in known, name
