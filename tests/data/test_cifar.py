import pickle

import pytest

pytest.importorskip('mmpretrain')

from mmhybrid.data.cifar import CIFAR10
from mmhybrid.testing.folders import draw_folder


class Hostile:
    def __reduce__(self):
        return print, ('code was run',)


def test_a_drawn_folder_can_run_no_code(tmp_path, capsys):
    draw_folder('cifar10', tmp_path / 'cifar', train=1, val=1)
    assert len(CIFAR10(data_root=str(tmp_path / 'cifar'), download=False)) == 5
    file = tmp_path / 'cifar/cifar-10-batches-py/data_batch_3'
    file.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(pickle.UnpicklingError, match='print in a file of CIFAR'):
        CIFAR10(data_root=str(tmp_path / 'cifar'), download=False)
    assert 'code was run' not in capsys.readouterr().out


def test_other_folders_are_known_by_the_published_sums(tmp_path):
    draw_folder('cifar10', tmp_path / 'cifar', train=1, val=1)
    (tmp_path / 'cifar/cifar-10-batches-py/drawn.json').unlink()
    with pytest.raises(RuntimeError, match='Cannot find'):
        CIFAR10(data_root=str(tmp_path / 'cifar'), download=False)
