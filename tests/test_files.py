"""Files and folders that are there whole or not at all."""

import errno

import pytest

from mmhybrid.files import write_atomically


def test_two_writers_of_one_path(tmp_path):
    path = tmp_path / 'new/file'
    with write_atomically(path) as first:
        first.write_text('first')
        with write_atomically(path) as second:
            second.write_text('second')
        assert path.read_text() == 'second'
    assert path.read_text() == 'first'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (OSError('3 of 4 bytes arrived'), '3 of 4 bytes arrived'),
        (FileNotFoundError(errno.ENOENT, 'none', 'another'), "[Errno 2] none: 'another'"),
        (OSError(errno.ENOSPC, 'No space left'), "[Errno 28] No space left: '{}'"),
    ],
)
def test_an_error_of_the_block_is_said_as_it_is(error, message, tmp_path):
    path = tmp_path / 'folder'
    with pytest.raises(OSError) as raised, write_atomically(path) as draft:
        draft.mkdir()
        raise error
    assert str(raised.value) == message.format(path)
    assert not list(tmp_path.iterdir())
