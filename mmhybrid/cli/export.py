"""Export a model to ONNX, OpenVINO or torch.export; keep the file only if it agrees with the model.

    mmhybrid export NAME [CHECKPOINT] OUT      a backbone; arguments: cmt_s,pretrain_size=256
    mmhybrid export CONFIG [CHECKPOINT] OUT    the whole model of a config

OUT ends in .onnx (standard operators only), .xml (OpenVINO) or .pt2 (torch.export). Batch and size
are free unless --fixed-size is given. A detector gives boxes, scores, labels and masks, a segmentor
the class of each pixel and logits, a classifier scores, the label and logits. With --layers a
detector gives the raw outputs of its head; a two-stage one becomes three files then: OUT (maps and
RPN), and OUT's name with .box and .mask before the suffix. mmhybrid test runs all of them in the
place of a checkpoint.

Each file is run back (ONNX by onnxruntime, .xml by OpenVINO) on several sizes and batches and
compared with the model, a detector's with the raw outputs of its layers and again as it is kept,
without them; the worst difference is printed, and a file that differs by more than --tolerance of
an output's standard deviation is not kept.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from .arguments import KeyValues
from .config import load_config
from .datasets import classes_of, leaf_datasets, trained_classes
from .models import build_named, split_name
from .paths import find_checkpoint, is_config
from .usage import UsageError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', metavar='CONFIG_OR_NAME')
    parser.add_argument('files', nargs='+', metavar='[CHECKPOINT] OUT')
    parser.add_argument(
        '--deform',
        choices=('grid_sample', 'gather'),
        default='grid_sample',
        help='deformable sampling as GridSample, or as gathers for runtimes where that is broken',
    )
    parser.add_argument('--opset', type=int, default=18, help='of ONNX, 18 or more (default: 18)')
    parser.add_argument(
        '--fixed-size', nargs=2, type=int, metavar=('H', 'W'), help='the only size it will take'
    )
    parser.add_argument(
        '--with-preprocessing',
        action='store_true',
        help='take RGB images of values 0 to 255 and normalise them in the file',
    )
    parser.add_argument(
        '--layers', action='store_true', help='the raw outputs of the layers, without NMS'
    )
    parser.add_argument(
        '--pasted-masks',
        action='store_true',
        help="masks of the image's size, bool; else those of the boxes, 28x28 probabilities",
    )
    parser.add_argument(
        '--quantize',
        choices=('int8',),
        help='also write OUT.int8.onnx, for CPUs; its difference is printed, not judged',
    )
    parser.add_argument(
        '--sizes',
        nargs='+',
        type=_size,
        metavar='HxW',
        help='sizes to compare on (default: 64x64 75x110 224x160)',
    )
    parser.add_argument('--batches', nargs='+', type=int, default=(1, 3), metavar='N')
    parser.add_argument('--tolerance', type=float, default=1e-4)
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeyValues, default={}, metavar='KEY=VALUE'
    )
    args = parser.parse_args(argv)
    if len(args.files) > 2:
        parser.error(f'expected [CHECKPOINT] OUT, got {" ".join(args.files)}')
    *checkpoint, args.out = args.files
    args.checkpoint = checkpoint[0] if checkpoint else None
    args.out = Path(args.out)
    if args.quantize and args.out.suffix != '.onnx':
        parser.error(f'--quantize makes ONNX files, but OUT is {args.out}')
    if args.layers and args.pasted_masks:
        parser.error('--pasted-masks is of final results: leave --layers out')
    if args.sizes and args.fixed_size:
        parser.error('--sizes: the file takes --fixed-size alone, and is compared there')
    if min(args.batches) < 1:
        parser.error(f'--batches {min(args.batches)}: expected at least 1')
    if args.opset < 18:
        parser.error(f'--opset {args.opset}: torch writes 18 or more')
    return args


def _size(text):
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if not match or min(map(int, match.groups())) < 32:
        raise argparse.ArgumentTypeError(f'{text}: expected HxW, such as 480x640, of 32 or more')
    return int(match[1]), int(match[2])


def main(argv: list[str] | None = None) -> list:
    """Export; return what was compared."""
    from .. import deploy
    from ..deploy.errors import check_format

    args = parse_args(argv)
    check_format(args.out)
    if args.checkpoint:
        args.checkpoint = find_checkpoint(args.checkpoint)
    graphs = config_graphs(args) if is_config(args.model) else [backbone_graph(args)]
    if not args.checkpoint:
        print('no checkpoint given: weights as initialised')
    checks = dict(sizes=args.sizes or deploy.exporting.SIZES, batches=args.batches)
    found = deploy.export(
        graphs,
        args.out,
        deform=args.deform,
        opset=args.opset,
        tolerance=args.tolerance,
        **checks,
    )
    _print_files(args.out, graphs)
    if args.quantize:
        small = args.out.with_suffix('.int8.onnx')
        for agreement in deploy.quantize_int8(args.out, small, graphs, **checks):
            print(f'  {agreement}')
        _print_files(small, graphs)
    return found


def backbone_graph(args: argparse.Namespace) -> Any:
    """Return the graph of a backbone by name, with its weights."""
    import mmhybrid

    from ..deploy import backbone_graph

    name, options = split_name(args.model)
    if args.with_preprocessing:
        raise UsageError(
            '--with-preprocessing: a backbone alone has no mean and std; export a config'
        )
    if args.cfg_options:
        raise UsageError(f'--cfg-options: {name} is no config; write {name},argument=value')
    if name not in mmhybrid.list_backbones():
        raise UsageError(
            f'{name!r} is neither a config (a .py file) nor a backbone: '
            + ', '.join(mmhybrid.list_backbones())
        )
    if args.checkpoint:
        options['init_cfg'] = dict(type='Pretrained', checkpoint=str(args.checkpoint))
    model = build_named(name, options)
    return backbone_graph(model, size=args.fixed_size, name=args.model)


def config_graphs(args: argparse.Namespace) -> list:
    """Return the graphs of a config's model, with the weights of a checkpoint."""
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    from .. import deploy
    from ..engine import load_trained

    args.config, args.work_dir = args.model, None
    cfg = load_config(args)
    init_default_scope(cfg.default_scope)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    meta: dict[str, Any] = {}
    if args.checkpoint:
        meta = load_trained(model, args.checkpoint).get('dataset_meta') or {}
    else:
        model.init_weights()
    classes = trained_classes(args.checkpoint, meta, classes_of(cfg, 'test'))
    loader = cfg.get('test_dataloader')
    sets = leaf_datasets(loader['dataset']) if loader else []
    steps = [step for dataset in sets for step in dataset.get('pipeline') or ()]
    return deploy.config_graphs(
        model.eval(),
        name=Path(args.model).stem,
        classes=classes,
        with_preprocessing=args.with_preprocessing,
        size=args.fixed_size,
        layers=args.layers,
        pasted=args.pasted_masks,
        # A data set that holds its images, as CIFAR's, gives them in RGB.
        reads_bgr=not steps or any('Load' in str(step['type']) for step in steps),
    )


def _print_files(out, graphs):
    from ..deploy.exported import part_path

    for graph in graphs:
        path = part_path(out, graph.name)
        # Weights lie beside an .xml, and beside an ONNX file that is too large.
        weights = f'{path.stem}.bin' if path.suffix == '.xml' else f'{path.name}.data'
        files = (path, path.with_name(weights))
        size = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
        print(f'{path}  {size:.1f} MB  {", ".join(graph.outputs)}')
