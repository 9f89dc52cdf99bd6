"""Forms of weights, told by the keys they must have and those they must not have."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .plain_vit import is_gated


@dataclass(frozen=True)
class Misfit:
    """One reason why weights are not of a form.

    Attributes:
        pattern: the condition; ``key`` the key that is there against it, None if one is missing.
        near: False if the first of the form's needs is missing, which says what it is at all.
    """

    pattern: str
    key: str | None
    near: bool = True

    def __str__(self) -> str:
        if self.key is not None:
            return f'{self.key} is not part of it'
        # A pattern without what regular expressions need reads as a name.
        name = self.pattern.replace('.*', '*').replace(r'\d+', 'N').replace('|', ' or ')
        name = re.sub(r'[$\\]', '', name)
        return f'{name} is missing'


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of weights.

    Attributes:
        name: its name in reports and errors.
        needs: regular expressions, matched from a key's start; each matches some key. The first
            one says what kind of model it is.
        forbids: regular expressions that match no key.
    """

    name: str
    needs: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()

    def fits(self, keys: frozenset[str]) -> bool:
        """Return True if the keys, those of :func:`told_by`, are of this form.

        It ends at the first condition that they do not meet: many forms are tried on many keys.
        """
        there = all(any(map(re.compile(it).match, keys)) for it in self.needs)
        return there and not any(any(map(re.compile(it).match, keys)) for it in self.forbids)

    def misfits(self, keys: frozenset[str]) -> list[Misfit]:
        """List the conditions that keys do not meet."""
        found = []
        for i, pattern in enumerate(self.needs):
            if not any(re.match(pattern, key) for key in keys):
                found.append(Misfit(pattern, None, near=i > 0))
        for pattern in self.forbids:
            if against := sorted(key for key in keys if re.match(pattern, key)):
                found.append(Misfit(pattern, against[0]))
        return found


def told_by(state_dict: Mapping) -> frozenset[str]:
    """Return the keys of a state dict and what shapes say beyond them.

    'NAME:gated' stands for an MLP that joins gate and value in one matrix, 'NAME.fc1.weight'.
    """
    gated = {
        f'{key}:gated'
        for key, weight in state_dict.items()
        if key.endswith('.mlp.fc1.weight')
        and is_gated(weight, state_dict.get(key.replace('.fc1.', '.fc2.')))
    }
    return frozenset(state_dict) | gated
