"""Names in a config that nothing reads, and those that were probably meant."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .usage import UsageError

if TYPE_CHECKING:
    from mmengine.config import Config

# Read by mmengine itself, whatever class a dict is for: of any, of hooks, and of schedules.
RESERVED = {'type', 'init_cfg', '_scope_', '_delete_', 'priority', 'convert_to_iter_based'}
OF_WRAPPERS = {'constructor', 'paramwise_cfg'}  # of optimizers
# Of a loader, beside the arguments of torch's DataLoader.
OF_LOADERS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'num_batch_per_epoch'}
# Registries of the classes at a place of a config, by its beginning or what follows; first match.
PLACES = (
    (r'model', ('MODELS', 'TASK_UTILS')),
    (r'.*pipeline\.', ('TRANSFORMS',)),
    (r'\w+_dataloader\..*sampler$', ('DATA_SAMPLERS',)),
    (r'\w+_dataloader\.', ('DATASETS',)),
    (r'\w+_evaluator', ('METRICS',)),
    (r'optim_wrapper\.', ('OPTIMIZERS',)),
    (r'optim_wrapper', ('OPTIM_WRAPPERS',)),
    (r'param_scheduler', ('PARAM_SCHEDULERS',)),
    (r'\w+_hooks', ('HOOKS',)),
    (r'(train|val|test)_cfg', ('LOOPS',)),
    (r'visualizer\.', ('VISBACKENDS',)),
    (r'visualizer', ('VISUALIZERS',)),
    (r'log_processor', ('LOG_PROCESSORS',)),
)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
ALIKE = 0.85  # of two names of which one is taken for the other, where any name may be new
# Names of the user's own, and dicts of layers: mmcv's builders read names in these (requires_grad
# of norms, fallback_on_stride of DCN) before the class gets the others.
UNCHECKED = re.compile(r'.*\.custom_keys$|model\..*((norm|conv|act|upsample)_cfg|dcn)$')


def check_nested(cfg: 'Config', options: Mapping[str, Any], scope: str) -> None:
    """Check the parts of each ``a.b.c`` of ``--cfg-options`` as far as the config has them.

    The first part that is new must be an argument of the class that its dict is for. Where a dict
    is for no class, and where a class takes any name, it must not be almost another part's name.
    Backbones of mmhybrid explain their arguments themselves.

    Raises:
        UsageError: nothing reads a name; the message says which one was probably meant.
    """
    for key in options:
        first, *parts = key.split('.')  # the first is checked with what the runner reads
        node: Any = cfg.get(first)
        for i, part in enumerate(parts):
            if isinstance(node, (list, tuple)) and part.isdecimal() and int(part) < len(node):
                node = node[int(part)]
            elif not isinstance(node, Mapping):
                break  # mmengine's merging has a message for it
            elif part in node:
                node = node[part]
            else:
                _check_new(key, part, '.'.join([first, *parts[:i]]), node, options, scope)
                break


def _check_new(key, part, place, node, options, scope):
    if part in RESERVED or UNCHECKED.match(place) or options.get(f'{place}._delete_'):
        return
    if f'{place}.{part}.type' in options:
        return  # a new part, given whole
    kind = options.get(f'{place}.type', node.get('type'))
    known, takes_any = set(node), True
    if place == 'optim_wrapper':
        known |= OF_WRAPPERS
    if isinstance(kind, str):
        if kind.startswith('mmhybrid.') and place.endswith('backbone'):
            return
        found = [_arguments(one) for one in _classes(kind, place, scope)]
        if not found or any(part in names for names, _ in found):
            return
        takes_any = any(free for _, free in found)
        known |= set().union(*(names for names, _ in found))
    elif place.endswith('_dataloader'):
        import torch

        known |= {*inspect.signature(torch.utils.data.DataLoader).parameters, *OF_LOADERS}
        takes_any = False
    if part in known:
        return
    near = nearest(part, known, ALIKE if takes_any else 0.6)
    if near:
        raise UsageError(f'--cfg-options {key}=...: {place} has no {part!r}, but {near!r}')
    if not takes_any:
        raise UsageError(
            f'--cfg-options {key}=...: {place} takes no {part!r}; it takes '
            + ', '.join(sorted(known - RESERVED))
        )


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like ``name``, or None."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def _classes(kind: str, place: str, scope: str) -> Iterator[Any]:
    """The classes of a name that may stand at a place of a config."""
    from mmengine import registry
    from mmengine.registry import DefaultScope

    names = next((names for pattern, names in PLACES if re.match(pattern, place)), ())
    with DefaultScope.overwrite_default_scope(scope):
        for name in names:
            found = getattr(registry, name).get(kind if '.' in kind else f'{scope}.{kind}')
            if inspect.isclass(found):
                yield found


def _arguments(kind: type) -> tuple[set[str], bool]:
    """Return the arguments of a class and its bases, and True if it may take others."""
    names: set[str] = set()
    takes_any = False
    for base in kind.__mro__:
        own = vars(base).get('__init__')
        if own is None:
            continue
        parameters = inspect.signature(own).parameters.values()
        names |= {it.name for it in parameters if it.kind not in VARIADIC}
        if not any(it.kind is inspect.Parameter.VAR_KEYWORD for it in parameters):
            break
        takes_any = True  # for its bases, or for something else, as TIMMBackbone does
    return names - {'self'}, takes_any


def suggest(error: BaseException) -> str:
    """Return "; did you mean X?" for a name of a config that mmengine could not build, or ''."""
    traceback, frame = error.__traceback__, None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == 'build_from_cfg':
            frame = traceback.tb_frame
        traceback = traceback.tb_next
    if frame is None:
        return ''
    values, message = frame.f_locals, str(error.args[0] if error.args else '')
    unknown = re.search(r"unexpected keyword argument '(\w+)'", message)
    prefix = dot = ''
    if unknown and inspect.isclass(values.get('obj_cls')):
        given, known = unknown[1], _arguments(values['obj_cls'])[0]
    elif isinstance(error, KeyError) and isinstance(values.get('obj_type'), str):
        prefix, dot, given = values['obj_type'].rpartition('.')
        known = set().union(*(one.module_dict for one in _searched(values['registry'], prefix)))
    else:
        return ''
    near = None if given in known else nearest(given, known)
    return f'; did you mean {prefix}{dot}{near}?' if near else ''


def _searched(registry: Any, scope: str) -> list[Any]:
    """The registries in which a name of a scope is looked for; none: the registry's own."""
    above = [registry]
    while above[-1].parent is not None:
        above.append(above[-1].parent)
    return [one for one in above[-1].children.values() if one.scope == scope] if scope else above
