"""Renaming by regular expressions, which the converters share."""

import re
from collections.abc import Callable, Iterable

Rule = tuple[str, str | Callable[[re.Match], str]]


def rename(key: str, rules: Iterable[Rule]) -> str:
    """Replace in a key what each rule's pattern finds, one rule after another."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key
