"""Checks of the classes of a split, and of one split against another."""

import re
from collections.abc import Collection

from ..findings import Findings, Split

RARE = 0.01  # of the largest class: a class with less is called rare


def check_balance(split: Split, training: bool) -> None:
    """Classes that do not occur, and in training those that are rare; added to the findings."""
    if not split.counts or (split.unit == 'pixels' and split.sampled is not None):
        return  # classes of the other images are not known
    largest = max(split.counts.values())
    for label, count in split.counts.items():
        if count == 0:
            split.findings.warning(f'classes without {split.unit}', label)
        elif training and count < RARE * largest:
            split.findings.warning(
                f'classes with less than a hundredth of the {split.unit} of the largest', label
            )


def is_numbered(names: Collection[str]) -> bool:
    """Return True for names that count from 0 or 1, as those of each split of a folder may do."""
    parts = [re.fullmatch(r'(.*?)(\d+)', name) for name in names]
    found = [part for part in parts if part is not None]
    numbers = sorted(int(part[2]) for part in found)
    return (
        len(found) == len(parts) > 0
        and len({part[1] for part in found}) == 1
        and numbers[0] in (0, 1)
        and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    )


def check_overlap(train: Split, other: Split) -> Findings:
    """Images that are in both of two splits, by content and by name."""
    findings = Findings()
    for digest in train.digests.keys() & other.digests.keys():
        findings.error(
            'the same images in both', f'{train.digests[digest]} and {other.digests[digest]}'
        )
    if not findings.groups and not (is_numbered(train.names) and is_numbered(other.names)):
        for name in sorted(train.names & other.names):
            findings.warning('the same names in both, of different images', name)
    if train.counts and other.counts:
        for label in sorted(train.counts.keys() ^ other.counts.keys()):
            findings.warning('classes of one split only', label)
    return findings
