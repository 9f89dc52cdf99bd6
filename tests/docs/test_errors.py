"""The page of error messages: each message of the code is on it, and each note is about one."""

import importlib.util
import re

import yaml

from tests.docs.pages import DOCS

spec = importlib.util.spec_from_file_location('error_messages', DOCS / 'error_messages.py')
errors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(errors)
SOURCE = yaml.safe_load(errors.SOURCE.read_text())
FOUND = errors.messages()


def test_messages_are_found():
    texts = [text for raised in FOUND.values() for _, text in raised]
    assert len(texts) > 350
    assert '… has no arch …; use one of …, or a dict' in texts
    for part in (
        'does not fit …; nothing was loaded.',  # the first of several lines
        'Fetch it by hand into',  # made by a function
        'PYTHON is ….…; expected',  # a constant of its module
        'boxes of unknown categories',  # of check_data.py
        'the compiled operators of mmcv do not work',  # of the doctor
    ):
        assert any(part in text for text in texts), part


def test_every_file_that_raises_has_an_area():
    assert [file for file in FOUND if errors.area_of(file, SOURCE['areas']) is None] == []
    for area in SOURCE['areas']:
        assert area['title'] and area['about']


def test_every_message_is_on_the_page():
    page = errors.page()
    for file, raised in FOUND.items():
        for kind, text in raised:
            lines = f'{kind}: {text}'.strip().splitlines()
            assert '\n'.join(['', *lines, '```']) in page, file


def test_every_note_is_of_a_message():
    texts = [text for raised in FOUND.values() for _, text in raised]
    for note in SOURCE['notes']:
        assert note['cause'] and note['cure']
        assert any(note['part'] in text for text in texts), note['part']


def test_messages_of_libraries_say_what_to_do():
    assert len(SOURCE['others']) > 15
    for other in SOURCE['others']:
        assert re.match(r'[\w.]+', other['message'])
        assert other['cause'].endswith('.') and other['cure'].endswith('.')
