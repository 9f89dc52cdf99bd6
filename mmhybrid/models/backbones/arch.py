"""Records of architectures, from which arguments, documentation and checks of backbones follow.

Signatures and docstrings are completed from them by :mod:`mmhybrid.signatures`.
"""

from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from math import isfinite
from typing import Any, get_args, get_type_hints


def option(doc: str, default: Any) -> Any:
    """Make a field of an :class:`Arch` that the backbone also takes as an argument.

    Args:
        doc: the argument's documentation, without a full stop; the default is added to it.
        default: value of architectures that do not set it. A dict is copied for each record.
    """
    metadata = dict(doc=doc, default=default)
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Arch:
    """Base of the records, one a family: every setting of an architecture, checked.

    A subclass is a frozen dataclass. A field made by :func:`option` is also an argument of the
    backbone, which appears in its signature and its documentation; any other field is set in
    ``arch`` alone. ``__post_init__`` checks what concerns the record alone, after this class has
    checked values of ``Literal`` and numbers, and replaced equal sides of a ``..._size`` by one.

    Raises:
        ValueError: a value that its field does not take.
    """

    def __post_init__(self) -> None:
        for name, annotation in get_type_hints(type(self)).items():
            leaves, values = _leaves(annotation), getattr(self, name)
            choices = [leaf for leaf in leaves if isinstance(leaf, str)]
            kind = 'finite number' if float in leaves else 'whole number'
            above = ' above 0' if name.endswith(('_dims', '_channels', 'depth', 'depths')) else ''
            if annotation is int and name.endswith('_size') and isinstance(values, (list, tuple)):
                if not values or any(side != values[0] for side in values):
                    raise ValueError(f'{name}={values!r:.200}: expected one side, of a square')
                self._set(**{name: values[0]})
            for value in values if isinstance(values, (list, tuple)) else [values]:
                if choices and value not in choices:
                    expected = ' or '.join(map(repr, choices))
                    raise ValueError(f'{name}={value!r:.99}: expected {expected}')
                if set(leaves) <= {int, float, type(None)} and isinstance(value, (str, float, int)):
                    is_number = isinstance(value, (int, *leaves)) and not isinstance(value, bool)
                    if not (is_number and isfinite(float(value))) or (above and float(value) < 1):
                        raise ValueError(f'{name}={value!r:.99}: expected a {kind}{above}')

    @classmethod
    def options(cls) -> dict[str, Field]:
        """Return the fields that are arguments of the backbone, by name."""
        return {it.name: it for it in fields(cls) if 'doc' in it.metadata}

    @classmethod
    def required(cls) -> list[str]:
        """Return the names of the fields that every architecture has to set."""
        return [it.name for it in fields(cls) if it.default is it.default_factory is MISSING]

    @classmethod
    def describe(cls) -> str:
        """Write the sentence about ``arch`` as a dict."""
        alone = [it for it in fields(cls) if it.name not in cls.options()]
        required = cls.required()
        names = [it.name if it.name in required else f'{it.name}={it.default!r}' for it in alone]
        marked = ', to which any of the arguments marked * can be added' if cls.options() else ''
        return f'A dict is ``dict({", ".join(names)})``{marked}.'

    def _set(self, **values: Any) -> None:
        """Replace given values by equal ones in another form; for ``__post_init__`` alone."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


def per_stage(name: str, value: Any, count: int, unit: str = 'stage') -> tuple:
    """Return one value for each of ``count`` stages, from a sequence or one value for all."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (value,) * count
    if len(value) != count:
        raise ValueError(
            f'{name} has {len(value)} entries for {count} {unit}s: {value!r:.99}; give 1 or {count}'
        )
    return tuple(value)


def _leaves(annotation: Any) -> tuple:
    """Return the types, and the values of a ``Literal``, that an annotation is made of."""
    args = get_args(annotation)
    return tuple(leaf for arg in args for leaf in _leaves(arg)) if args else (annotation,)
