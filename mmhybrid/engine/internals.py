"""The list of all private names of other libraries that this package stands on.

A new version of a library may take one away without notice: these are the places to look at first.
A test compares the list with the code, both ways.
"""

from typing import NamedTuple


class Internal(NamedTuple):
    """A private name of a library, or a method that is replaced, and why there is no public way."""

    file: str  # below mmhybrid/
    name: str
    reason: str


INTERNALS = (
    # mmengine
    Internal('cli/arguments.py', 'DictAction._parse_iterable', 'the one reader of nested brackets'),
    Internal(
        'cli/launch.py', 'Runner.dump_config', 'an evaluation must not replace a saved config'
    ),
    Internal('cli/launch.py', 'Runner.build_logger', 'details go to the log file alone'),
    Internal('config_files.py', 'Config._get_cfg_path', '`mmhybrid::NAME` in a `_base_`'),
    Internal('engine/batches.py', '_infinite_indices', 'tells endless samplers'),
    Internal('engine/checkpoint.py', 'runner._resume', 'is a training resumed? Said nowhere else'),
    Internal('engine/checkpoint.py', 'runner._load_from', 'the file that weights were taken from'),
    Internal('engine/console.py', 'print_log', 'prints whatever level a message has'),
    Internal('engine/early_stop.py', 'runner._resume', 'as above'),
    Internal('engine/lora.py', 'runner._load_from', 'as above'),
    Internal('engine/preemption.py', '_swap_ema_parameters', 'a stop while averages are evaluated'),
    Internal('engine/resume.py', 'runner._randomness_cfg', 'do processes differ in their seeds?'),
    Internal('engine/resume.py', 'runner._resume', 'as above'),
    Internal('engine/resume.py', 'sampler._indices_of_rank', 'an endless sampler begins anew'),
    Internal('engine/separate.py', 'kind._instance_dict', 'named instances have no public removal'),
    Internal('engine/sharding.py', 'runner._resume', 'as above'),
    # torch
    Internal(
        'cli/scale.py', 'torch._dynamo', 'names of backends; torch.compiler omits debugging ones'
    ),
    Internal(
        'deploy/exporting.py', 'program._guards_code', 'guards of sizes that are declared free'
    ),
    Internal(
        'deploy/dense.py',
        '_predict_by_feat_single',
        'tells the heads of mmdet whose boxes are found in the same way',
    ),
    Internal('deploy/exporting.py', 'torch.utils._sympy.value_ranges', 'ranges of free sizes'),
    Internal(
        'deploy/tracing.py', 'torch._subclasses.fake_impls', 'the table of shapes of operators'
    ),
    Internal('engine/bf16.py', 'torch.utils._pytree', 'maps over nested arguments'),
    Internal(
        'engine/flops.py', '_scaled_dot_product_flash_attention_for_cpu', 'has no formula yet'
    ),
    Internal('engine/flops.py', 'torch._ops', 'the type of an operator'),
    Internal('engine/sharding.py', 'torch.utils._pytree', 'maps over nested arguments'),
    Internal('inspect/backward.py', '_C', 'of autograd only this tells the node that runs'),
    Internal('inspect/backward.py', '_FunctionBase', 'nodes that Python does not keep alive'),
    Internal('inspect/backward.py', '_current_autograd_node', 'as above'),
    Internal('inspect/backward.py', '_input_metadata', 'shapes that gradients are summed to'),
    Internal('inspect/backward.py', '_sequence_nr', 'the order of nodes'),
    Internal('inspect/compiled.py', '_schema', "an operator's name"),
    Internal('inspect/compiled.py', '_update_scheduler', 'schedules and writes no code'),
    Internal('inspect/compiled.py', 'torch._functorch', 'compiles the backward pass at once'),
    Internal('inspect/compiled.py', 'torch._inductor', 'has no public way to stop it'),
    Internal('inspect/compiled.py', 'torch._inductor.compile_fx', 'as above'),
    Internal('inspect/compiled.py', 'torch._inductor.graph', 'as above'),
    Internal('inspect/compiled.py', 'torch._inductor.runtime.hints', 'the facts of a card'),
    Internal('inspect/compiled.py', 'torch._inductor.scheduler', 'kinds of kernels'),
    Internal('inspect/compiled.py', 'torch._inductor.virtualized', 'kernels know their graph'),
    Internal('inspect/compiled.py', 'torch.utils._pytree', 'maps over nested arguments'),
    Internal('inspect/costs.py', '_overloadpacket', 'an operator without its overload'),
    Internal('inspect/costs.py', 'torch.utils._python_dispatch', 'sees each operator that runs'),
    Internal('inspect/costs.py', 'torch.utils._pytree', 'finds tensors in nested results'),
    Internal('inspect/gpu.py', '_buffers', 'takes fake tensors in place of real ones'),
    Internal('inspect/gpu.py', '_parameters', 'as above'),
    Internal(
        'inspect/gpu.py',
        '_scaled_dot_product_efficient_attention',
        'torch asks a device which of them it takes',
    ),
    Internal('inspect/gpu.py', '_scaled_dot_product_flash_attention', 'as above'),
    Internal('inspect/gpu.py', 'torch._subclasses.fake_tensor', 'tensors without memory'),
    Internal('inspect/launches.py', '_cdata', 'tells pieces of memory apart'),
    Internal('inspect/launches.py', '_getframe', 'the line of code that called'),
    Internal('inspect/launches.py', '_overloadpacket', 'an operator without its overload'),
    Internal('inspect/launches.py', 'torch._subclasses.fake_tensor', 'has no values to read'),
    Internal('inspect/launches.py', 'torch.utils._pytree', 'finds tensors in nested results'),
    Internal('inspect/launches.py', '_schema', 'tells views, which launch nothing'),
    Internal('inspect/launches.py', 'torch.utils._python_dispatch', 'sees each operator that runs'),
    Internal('models/backbones/base.py', '_BatchNorm', 'the base of all batch norms'),
    Internal('models/kernels/biased_attention.py', '_softmax_backward_data', 'the formula, fused'),
    Internal(
        'models/kernels/deformable_bags.py',
        '_embedding_bag_per_sample_weights_backward',
        'the gradient of the weights alone',
    ),
    Internal('models/kernels/graphs.py', '_C', 'are torch.func transforms at work?'),
    Internal('models/kernels/graphs.py', '_are_functorch_transforms_active', 'as above'),
    Internal('models/kernels/graphs.py', '_current_level', 'are forward gradients at work?'),
    Internal('models/kernels/linear.py', '_linear_pointwise', "oneDNN's product"),
    Internal(
        'models/kernels/pyramid.py', '_get_current_dispatch_mode_stack', 'is torch exporting?'
    ),
    Internal('models/kernels/pyramid.py', 'torch._subclasses.fake_tensor', 'as above'),
    Internal('models/kernels/pyramid.py', 'torch.utils._python_dispatch', 'as above'),
    Internal('models/kernels/recompute.py', '_BatchNorm', 'the base of all batch norms'),
    Internal('models/kernels/recompute.py', '_overloadpacket', 'an operator without its overload'),
    Internal('models/layers/fuse.py', '_BatchNorm', 'the base of all batch norms'),
    Internal('models/layers/fuse.py', '_backward_hooks', 'a layer with hooks is not folded'),
    Internal('models/layers/fuse.py', '_backward_pre_hooks', 'as above'),
    Internal('models/layers/fuse.py', '_forward_hooks', 'as above'),
    Internal('models/layers/fuse.py', '_forward_pre_hooks', 'as above'),
    Internal('ops/deform_attention.py', '_version', 'were the sizes written to since?'),
    Internal('ops/deform_conv.py', '_deform_conv2d_backward', 'the gradient of an operator'),
    Internal('ops/regions.py', '_assert_async', 'a check that does not wait for the device'),
    Internal('ops/roi_align.py', '_roi_align_backward', 'the gradient of an operator'),
)
