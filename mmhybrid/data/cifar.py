"""MMPretrain's CIFAR data sets, which also read a folder that was drawn for trials."""

import pickle
from pathlib import Path

from mmpretrain.datasets import CIFAR10 as HostCIFAR10
from mmpretrain.datasets import CIFAR100 as HostCIFAR100

from mmhybrid.registry import DATASETS

DRAWN = 'drawn.json'  # lies beside files that mmhybrid.testing.folders drew


class _ReadsDrawn(HostCIFAR10):
    """MMPretrain accepts the published files, whose sums it knows, and fetches them otherwise. A
    drawn folder has no sums that could be known: its pickles are accepted if they hold arrays and
    plain values only, so that reading them can run no code."""

    def _check_integrity(self):
        folder = Path(self.data_prefix['root'], self.base_folder)
        if not (folder / DRAWN).is_file():
            return super()._check_integrity()
        for name, _ in self.train_list + self.test_list:
            with open(folder / name, 'rb') as file:
                _PlainUnpickler(file, encoding='latin1').load()
        return True


class _PlainUnpickler(pickle.Unpickler):
    ALLOWED = {
        ('_codecs', 'encode'),
        ('numpy', 'dtype'),
        ('numpy', 'ndarray'),
        ('numpy._core.multiarray', '_reconstruct'),
        ('numpy.core.multiarray', '_reconstruct'),
    }

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(
                f'{module}.{name} in a file of CIFAR: expected arrays and plain values'
            )
        return super().find_class(module, name)


@DATASETS.register_module()
class CIFAR10(_ReadsDrawn, HostCIFAR10):
    """CIFAR-10; arguments are those of MMPretrain's."""


@DATASETS.register_module()
class CIFAR100(_ReadsDrawn, HostCIFAR100):
    """CIFAR-100; arguments are those of MMPretrain's."""
