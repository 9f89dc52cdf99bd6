"""A folder without a validation part, split by image."""

import hashlib
from collections.abc import Sequence


def choose_val(names: Sequence[str], fraction: float, seed: int = 0) -> set[str]:
    """The names that validate: ``fraction`` of them, at least one, and not all.

    The choice follows from each name and the seed: the order of the names has no part in it, and
    an image that is added changes the place of few others.

    Raises:
        ValueError: the fraction is not between 0 and 1, or there are fewer than two names.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, float) or not 0 < fraction < 1:
        raise ValueError(f'val_fraction={fraction}: expected a number between 0 and 1, as 0.2')
    if len(names) < 2:
        raise ValueError(f'val_fraction={fraction}: {len(names)} images cannot be split in two')
    ranked = sorted(names, key=lambda name: hashlib.sha256(f'{seed} {name}'.encode()).digest())
    return set(ranked[: min(len(names) - 1, max(1, round(fraction * len(names))))])
