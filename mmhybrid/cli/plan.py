"""The plan of a study: a YAML file with its models and what is equal for all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .usage import UsageError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of a study.

    Attributes:
        name: names it in the table and its folder.
        config: its config, by name or path.
        weights: train it from the weights of ``--weights``.
        arguments: further words of ``mmhybrid train``, such as ``['--lora', '8']``.
        options: changes of the config, beside those of the plan.
        rates: learning rates tried, in the place of the plan's.
    """

    name: str
    config: str
    weights: bool = False
    arguments: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return ''.join(c if c.isalnum() else '_' for c in self.name.lower())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The models that are compared, and what is equal for all.

    Attributes:
        metric: of the evaluation, the higher the better, such as ``mIoU``.
        steps: of a training.
        search_steps: of one that chooses the rate.
        rates: learning rates that are tried.
        seeds: of the trainings; the first one is that of the search too.
        held_out: changes of the config that evaluate on a part of the training images.
        options: changes of every config.
        rows: the models.
    """

    metric: str
    steps: int
    search_steps: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    held_out: Mapping[str, Any]
    rows: tuple[Row, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        UsageError: it is not there, or something in it is unknown, missing, of another kind, or
            there twice.
    """
    import yaml

    if not path.is_file():
        raise UsageError(f'plan not found: {path}')
    try:
        content = yaml.load(path.read_text(), _loader())
    except yaml.YAMLError as error:
        raise UsageError(f'{path} is no YAML: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('rows'), dict):
        raise UsageError(f'{path}: expected {_names(Plan)}, and in rows a name for each')
    rows = []
    for name, row in content['rows'].items():
        place = f'{path}: row {name!r}'
        if not isinstance(row, dict):
            raise UsageError(f'{place}: expected {_names(Row)}, got {row!r}')
        rows.append(_build(Row, dict(row, name=str(name)), place))
    plan = _build(Plan, content | dict(rows=rows), str(path))
    if not (plan.rates and plan.seeds and plan.rows and plan.held_out):
        raise UsageError(f'{path}: rates, seeds, held_out and rows need at least one each')
    folders: dict[str, str] = {}
    for row in plan.rows:
        if (other := folders.setdefault(row.folder, row.name)) != row.name:
            raise UsageError(
                f'{path}: rows {other!r} and {row.name!r} are one folder, {row.folder}'
            )
    return plan


def chosen_rows(plan: Plan, names: Iterable[str] | None) -> list[Row]:
    """Return the rows of these names, each once; all if None.

    Raises:
        UsageError: there is none of a name.
    """
    if names is None:
        return list(plan.rows)
    rows = {row.name: row for row in plan.rows}
    if unknown := [name for name in names if name not in rows]:
        raise UsageError(f'--rows: no {", ".join(map(repr, unknown))}; there are {", ".join(rows)}')
    return [rows[name] for name in dict.fromkeys(names)]


def _loader():
    """YAML's safe loader, but a key that is there twice is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor):
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if str(key.value) in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f'{key.value!r} is there twice', problem_mark=key.start_mark
                    )
                seen.add(str(key.value))
            return node

    return Loader


def _build(kind: type, content: dict, place: str) -> Any:
    known = {it.name: str(it.type) for it in fields(kind)}
    if unknown := set(content) - set(known):
        raise UsageError(f'{place}: unknown {", ".join(sorted(unknown))}; known: {_names(kind)}')
    values = {
        name: _value(known[name], value, f'{place}: {name}') for name, value in content.items()
    }
    try:
        return kind(**values)
    except TypeError as error:  # names what is missing
        raise UsageError(f'{place}: {str(error).partition("() ")[2]}') from error


def _value(kind: str, value: Any, place: str) -> Any:
    """Return a value of a plan as its dataclass wants it."""
    if 'Mapping' in kind:
        if not isinstance(value, dict):
            raise UsageError(f'{place}: expected KEY: VALUE, got {value!r}')
        for key, inner in value.items():
            if isinstance(inner, dict):
                raise UsageError(f"{place}: {key}: write keys below it with a point, '{key}.KEY'")
        return value
    if isinstance(value, dict) or isinstance(value, list) != ('tuple' in kind):
        raise UsageError(f'{place}: expected {"a list" if "tuple" in kind else "one value"}')
    if 'tuple' not in kind:
        return value
    try:
        if 'float' in kind:  # 1e-3 is text in YAML, 1.0e-3 a number
            value = [float(one) for one in value]
    except (TypeError, ValueError) as error:
        raise UsageError(f'{place}: {error}') from error
    if 'str' in kind:
        return tuple(map(str, value))
    if 'Row' not in kind and len(set(value)) < len(value):
        raise UsageError(f'{place}: {value}: each once')
    return tuple(value)


def _names(kind: type) -> str:
    return ', '.join(it.name for it in fields(kind))
