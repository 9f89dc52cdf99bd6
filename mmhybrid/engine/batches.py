"""Training batches whose order and randomness follow from the seed and their number alone.

A sampler gives the same indices for the same seed; which images it gave last, and what the random
generators of the loading processes went through, is lost when a training is killed. Here every
sample carries its number, and the number seeds the random choices made for it. A training that
goes on from batch n then sees what an uninterrupted one would have seen, however many processes
load the images.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch.utils.data import DataLoader, Dataset

from mmhybrid.engine.health import TrainingError

MAX_SUBSTITUTES = 20


def seed_generators(*key: int) -> None:
    """Seed the random generators of Python, NumPy and torch from the numbers ``key``."""
    first, second, third = np.random.SeedSequence(key).generate_state(3).tolist()
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)


class Delivery(NamedTuple):
    """A batch, with what was wrong while it was loaded; ``batch`` is None if that is fatal."""

    batch: Any
    problems: list[str]


class NumberedBatches:
    """A batch sampler that gives ``(index, (pass, number))`` for every index of another one.

    Attributes:
        batches: the other one.
        round: the pass over the data, from 0.
        skip: batches that the next pass leaves out.
        awaited: indices of the batches that were given and not yet delivered.
    """

    def __init__(self, batches: Any):
        self.batches = batches
        self.sampler: Any = getattr(batches, 'sampler', None)
        self.batch_size = batches.batch_size
        # mmdet has a sampler with a size for each of several data sets.
        self.stride = self.batch_size if isinstance(self.batch_size, int) else max(self.batch_size)
        self.drop_last = getattr(batches, 'drop_last', False)
        self.round = 0
        self.skip = 0
        self.awaited: deque[list[int]] = deque()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list]:
        rank, world_size = get_dist_info()
        skip, self.skip = self.skip, 0
        self.awaited.clear()
        for batch, indices in enumerate(self.batches):
            if batch < skip:
                continue
            # The number that a sample has in one process whose batches are as large as those of
            # all processes together: mmengine's samplers deal indices out in turn.
            start = batch * self.stride
            numbers = (((start + i) * world_size + rank) for i in range(len(indices)))
            self.awaited.append(list(indices))
            yield [
                (index, (self.round, number))
                for index, number in zip(indices, numbers, strict=True)
            ]


class SeededDataset(Dataset):
    """A data set whose random choices for a sample follow from the seed and the sample's number.

    It takes the indices of :class:`NumberedBatches`; everything else goes to the data set itself.

    Args:
        dataset: the data set.
        seed: of the training.
        broken: what becomes of a sample that cannot be loaded. 'stop' ends the training; 'skip'
            takes the next sample of the data set in its place.
    """

    OWN = ('dataset', 'seed', 'broken')
    dataset: Any  # torch's Dataset has no length and no get_data_info

    def __init__(self, dataset: Dataset, seed: int, broken: Literal['stop', 'skip']):
        self.dataset = dataset
        self.seed = seed
        self.broken = broken

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name in self.OWN:  # not yet there while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Hooks of the host libraries change the pipeline of the data set in the midst of training.
        if name in self.OWN:
            super().__setattr__(name, value)
        else:
            setattr(self.dataset, name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, tuple):
            return self.dataset[index]
        index, number = index
        problems: list[str] = []
        for substitute in range(MAX_SUBSTITUTES):
            candidate = (index + substitute) % len(self.dataset)
            seed_generators(self.seed, *number)
            try:
                return Delivery(self.dataset[candidate], problems)
            except Exception as error:  # whatever a decoder or a transform raises
                problems.append(
                    f'{name_of(self.dataset, candidate)}: {type(error).__name__}: {error}'
                )
            if self.broken == 'stop':
                break
        return Delivery(None, problems)


def name_of(dataset: Any, index: int) -> str:
    """Name a sample for its user: by the path of its image, else by its index."""
    try:
        return str(dataset.get_data_info(index)['img_path'])
    except (AttributeError, KeyError, TypeError, IndexError):
        return f'sample {index}'


class Collate:
    """Another collate function, on samples that are deliveries."""

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, samples: Sequence[Delivery]) -> Delivery:
        problems = [problem for sample in samples for problem in sample.problems]
        if any(sample.batch is None for sample in samples):
            return Delivery(None, problems)
        return Delivery(self.collate([sample.batch for sample in samples]), problems)


class TrainLoader(DataLoader):
    """A data loader of numbered batches, that says which images it could not load.

    Args:
        loader: the data loader to take the place of.
        seed: of the training.
        broken: 'stop' or 'skip', see :class:`SeededDataset`.
        report: called with a line about each sample that was skipped.

    Raises:
        TrainingError: while iterating; a sample cannot be loaded, a loading process died or took
            longer than the ``timeout`` of the data loader.
    """

    batch_sampler: NumberedBatches
    dataset: SeededDataset

    def __init__(
        self,
        loader: DataLoader,
        seed: int,
        broken: Literal['stop', 'skip'],
        report: Callable[[str], None],
    ):
        workers: dict[str, Any] = {}
        if loader.num_workers > 0:
            workers = dict(
                multiprocessing_context=loader.multiprocessing_context,
                persistent_workers=loader.persistent_workers,
                prefetch_factor=loader.prefetch_factor,
                timeout=loader.timeout,
                worker_init_fn=loader.worker_init_fn,
            )
        super().__init__(
            SeededDataset(loader.dataset, seed, broken),
            batch_sampler=NumberedBatches(loader.batch_sampler),
            num_workers=loader.num_workers,
            collate_fn=Collate(loader.collate_fn),
            pin_memory=loader.pin_memory,
            generator=loader.generator,
            **workers,
        )
        self.report = report
        self.reported: set[str] = set()

    def __iter__(self) -> Any:  # an iterator; torch's own type is private
        deliveries = super().__iter__()
        while True:
            try:
                delivery = next(deliveries)
            except StopIteration:
                return
            except RuntimeError as error:  # torch says so of a process that died or is late
                # Who is late holds up the next batch; who died may have worked on any.
                batches = 1 if 'timed out' in str(error) else None
                raise TrainingError(
                    f'no training batch: {str(error).strip(" .")}. Awaited: '
                    f'{self._awaited(batches)}. A process that loads images may have run out of '
                    'memory or waits for a disk that does not answer; train_dataloader.num_workers '
                    'and train_dataloader.timeout are its options'
                ) from error
            self.batch_sampler.awaited.popleft()
            if delivery.batch is None:
                raise TrainingError(
                    'training data that cannot be loaded: '
                    + '; '.join(delivery.problems)
                    + '. Mend or remove it, or train without such samples: '
                    'mmhybrid train --broken-images skip'
                )
            for problem in delivery.problems:
                if problem not in self.reported:
                    self.reported.add(problem)
                    self.report(
                        f'training data that cannot be loaded, {len(self.reported)} so far; the '
                        f'next sample takes its place: {problem}'
                    )
            yield delivery.batch

    def _awaited(self, batches: int | None) -> str:
        awaited = islice(self.batch_sampler.awaited, batches)
        names = [name_of(self.dataset.dataset, index) for indices in awaited for index in indices]
        return ', '.join(names) or 'nothing'


class EndlessBatches:
    """The batches of a loader, pass after pass, for a loop that counts iterations.

    Args:
        loader: gives the batches.
        start: batches that were used before; the first to come follows them.
        blanks: times that the loop asks for a batch only to forget it.
    """

    def __init__(self, loader: TrainLoader, start: int = 0, blanks: int = 0):
        self.loader = loader
        self.blanks = blanks
        self.iterator: Iterator | None = None
        sampler = loader.batch_sampler
        endless = hasattr(sampler.sampler, '_infinite_indices')
        sampler.round, sampler.skip = (0, start) if endless else divmod(start, len(sampler))

    def skip_iter(self, count: int) -> None:
        """Do nothing: batches were skipped when this object was made."""

    def __iter__(self) -> 'EndlessBatches':
        return self

    def __next__(self) -> Any:
        if self.blanks > 0:
            self.blanks -= 1
            return None
        if self.iterator is None:
            self.iterator = self._pass()
        try:
            return next(self.iterator)
        except StopIteration:
            self.loader.batch_sampler.round += 1
            self.iterator = self._pass()
            return next(self.iterator)

    def _pass(self) -> Iterator:
        sampler = self.loader.batch_sampler
        if hasattr(sampler.sampler, 'set_epoch'):
            sampler.sampler.set_epoch(sampler.round)
        return iter(self.loader)
