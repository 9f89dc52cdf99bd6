"""Registries of scope ``mmhybrid``, children of mmengine's.

``type='mmhybrid.ViTCoMer'`` in a config of any host library finds its class here, without
``custom_imports``: mmengine imports this module by the scope's name.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmhybrid', locations=['mmhybrid.models'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmhybrid', locations=['mmhybrid.engine'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmhybrid',
    locations=['mmhybrid.engine'],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmhybrid',
    locations=['mmhybrid.engine'],
)
# A data set and a metric each stand on a host library: a module is imported when its name is asked.
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmhybrid', locations=['mmhybrid.data.cifar']
)
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmhybrid', locations=['mmhybrid.data.lvis']
)
RUNNERS = Registry(
    'runner', parent=MMENGINE_RUNNERS, scope='mmhybrid', locations=['mmhybrid.engine.sharding']
)
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmhybrid', locations=['mmhybrid.data.disturb']
)
