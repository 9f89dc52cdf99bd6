"""Training batches: their order, their seeds, and what happens when they do not come."""

import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from mmhybrid.engine import ExactResumeHook, TrainingError
from mmhybrid.engine.batches import EndlessBatches, TrainLoader


class Numbers(Dataset):
    """Samples of an index and one random number of each generator."""

    bad = ()
    kills = hangs = None
    pipeline = 'first'

    def __len__(self):
        return 10

    def get_data_info(self, index):
        return dict(img_path=f'{index}.jpg')

    def __getitem__(self, index):
        if index in self.bad:
            raise OSError('truncated')
        if index == self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self.hangs:
            time.sleep(100)
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def loader(sampler=DefaultSampler, workers=0, seed=3, broken='stop', report=print, **changes):
    dataset = Numbers()
    for name, value in changes.items():
        setattr(dataset, name, value)
    plain = DataLoader(
        dataset,
        batch_size=3,
        sampler=sampler(dataset, seed=seed),
        num_workers=workers,
        collate_fn=list,
        timeout=2 if workers else 0,
    )
    return TrainLoader(plain, seed, broken, report)


def test_a_sample_depends_on_the_seed_and_its_number_alone():
    plain = list(loader())
    assert [len(batch) for batch in plain] == [3, 3, 3, 1]
    assert sorted(sample[0] for batch in plain for sample in batch) == list(range(10))
    assert len({sample[3] for batch in plain for sample in batch}) == 10
    assert list(loader(workers=2)) == plain
    assert list(loader(seed=4)) != plain
    again = loader()
    again.batch_sampler.round = 1
    assert {sample[3] for batch in again for sample in batch}.isdisjoint(
        sample[3] for batch in plain for sample in batch
    )


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_of_the_past_are_left_out(workers):
    whole = list(loader())
    rest = loader(workers=workers)
    rest.batch_sampler.skip = 2
    assert list(rest) == whole[2:]
    assert list(rest) == whole  # the next pass is a whole one


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
def test_endless_batches_begin_anywhere(sampler):
    whole = EndlessBatches(loader(sampler))
    whole = [next(whole) for _ in range(11)]
    for start in (1, 4, 9):
        rest = EndlessBatches(loader(sampler), start=start, blanks=2)
        assert [next(rest), next(rest)] == [None, None]
        assert [next(rest) for _ in range(11 - start)] == whole[start:]


def test_a_broken_sample_ends_the_training_or_is_replaced():
    with pytest.raises(TrainingError, match=r'cannot be loaded: 7\.jpg: OSError: truncated'):
        list(loader(workers=1, bad=(7,)))
    lines = []
    batches = list(loader(broken='skip', report=lines.append, workers=1, bad=(7, 8)))
    indices = [sample[0] for batch in batches for sample in batch]
    assert sorted(indices) == [0, 1, 2, 3, 4, 5, 6, 9, 9, 9]
    assert len(lines) == 2 and '7.jpg' in lines[0] + lines[1]
    with pytest.raises(TrainingError, match=r'9\.jpg'):
        list(loader(broken='skip', bad=range(10)))


@pytest.mark.parametrize('fault, words', [('kills', 'worker'), ('hangs', 'timed out after 2')])
def test_a_loading_process_that_dies_or_hangs(fault, words):
    with pytest.raises(TrainingError, match=f'{words}.*Awaited: .*5\\.jpg'):
        list(loader(workers=1, **{fault: 5}))


def test_the_data_set_stays_reachable():
    dataset = loader().dataset
    assert len(dataset) == 10 and dataset.pipeline == 'first' and dataset[4][0] == 4
    dataset.pipeline = 'second'
    assert dataset.dataset.pipeline == 'second'
    with pytest.raises(AttributeError, match='nothing'):
        _ = dataset.nothing


def test_options_of_the_hook():
    with pytest.raises(ValueError, match="broken='ignore': expected 'stop' or 'skip'"):
        ExactResumeHook(broken='ignore')
