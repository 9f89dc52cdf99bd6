"""Write a published checkpoint in mmhybrid's form, or show what it is.

    mmhybrid convert IN OUT
    mmhybrid convert IN --show
    mmhybrid convert IN OUT --to transformers --arch dinov2_s
    mmhybrid convert IN OUT --merge-lora CONFIG

IN is a path, an address or an official name such as dinov2_vits14; OUT ends in .pth or
.safetensors. Nothing is resized: a backbone does that when it loads OUT. A checkpoint whose pickle
needs code to be read is refused by all of mmhybrid; with --trust this tool runs that code.

With --to transformers OUT is a new folder that Hugging Face's transformers loads. It takes a plain
ViT, and its arch, which says what weights do not tell.

With --merge-lora IN is a checkpoint of a training with LoRA, and CONFIG its config. OUT is the
whole model with what LoRA learned added to the ViT's weights: it fits the config without lora.
"""

import argparse
import contextlib
import functools
import sys
from pathlib import Path
from typing import Any

SUFFIXES = ('.pth', '.safetensors')


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', metavar='IN', help='path, address or official name')
    parser.add_argument('output', metavar='OUT', nargs='?', help='.pth or .safetensors file')
    parser.add_argument('--show', action='store_true', help='print the report, write nothing')
    parser.add_argument(
        '--trust',
        action='store_true',
        help='run the code that the file names; only for files whose author you trust',
    )
    parser.add_argument('--sha256', help="the file's hash or its first digits")
    parser.add_argument('--entry', help='entry that holds the weights, such as state_dict_ema')
    parser.add_argument('--prefix', help="what stands before the backbone's names")
    parser.add_argument('--to', choices=['transformers'], help="write another library's form")
    parser.add_argument(
        '--merge-lora', metavar='CONFIG', help='write the whole model of a training with LoRA'
    )
    parser.add_argument('--arch', help='with --to: name of a plain ViT, such as dinov2_s')
    args = parser.parse_args(argv)
    if args.show == bool(args.output):
        parser.error('give OUT to write, or --show to print the report only')
    if bool(args.to) != bool(args.arch) or (args.to and args.show):
        parser.error('--to transformers goes with --arch and OUT')
    others = (args.to, args.trust, args.sha256, args.entry, args.prefix)
    if args.merge_lora and (any(others) or not args.output):
        parser.error('--merge-lora CONFIG goes with OUT, and with no other option')
    if args.output and not args.to and not args.output.endswith(SUFFIXES):
        parser.error(f'OUT is {args.output}; it must end in {" or ".join(SUFFIXES)}')

    from ..checkpoints import CheckpointError

    try:
        report, state_dict, metadata = (merge if args.merge_lora else convert)(args)
        print(report)
        if args.to:
            write_for_transformers(Path(args.output), state_dict, args.arch)
        elif args.output:
            write(Path(args.output), state_dict, metadata)
        if args.output:
            print(f'wrote {args.output}')
    except (CheckpointError, OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def convert(args: argparse.Namespace) -> tuple[str, dict, dict]:
    """Read and convert IN: (report, state dict, where it comes from)."""
    from ..checkpoints import CheckpointError, describe_vit, locate, read
    from ..checkpoints.report import listing, table
    from ..checkpoints.sources import convert
    from ..lora import is_of_lora

    path = locate(args.input, sha256=args.sha256)
    content = _without_modules(read(path, trust=args.trust))
    weights = content.get('state_dict', content) if isinstance(content, dict) else {}
    if any(is_of_lora(str(name)) for name in weights):
        raise CheckpointError(f'{path} is of a training with LoRA: give --merge-lora CONFIG first')
    try:
        found = find(content, entry=args.entry, prefix=args.prefix)
        state_dict, changed, unused = convert(found)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    looks = describe_vit(state_dict) or describe_vit(state_dict, 'vit.')
    rows = [
        ('file', str(path)),
        ('found at', ' '.join(filter(None, (found.entry, found.prefix))) or 'the top'),
        ('source', ', '.join(map(str, filter(None, (found.source.name, looks))))),
        ('taken as they are', f'{len(state_dict) - len(changed)} keys'),
        ('converted', listing(sorted(changed))),
        ('unused', listing(unused + found.outside)),
        ('values', f'{sum(tensor.numel() for tensor in state_dict.values()):,}'),
    ]
    metadata = {'source': found.source.name, 'family': found.source.family, 'file': path.name}
    return table("Checkpoint in mmhybrid's names", rows), state_dict, metadata


def merge(args: argparse.Namespace) -> tuple[str, dict, dict]:
    """Build the model of a training with LoRA, and merge: (report, state dict, its meta)."""
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, DefaultScope

    from ..checkpoints import CheckpointError
    from ..checkpoints.report import table
    from ..engine import load_trained
    from ..lora import is_of_lora, merge_lora
    from .models import read_config
    from .paths import find_checkpoint

    path = find_checkpoint(args.input)
    cfg = read_config(args.merge_lora, {})
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
    meta = load_trained(model, path)
    learned = [name for name in model.state_dict() if is_of_lora(name)]
    if not learned:
        raise CheckpointError(f'{path} has no LoRA to merge; leave --merge-lora out')
    state_dict = merge_lora(model).state_dict()
    rows = [
        ('file', str(path)),
        ('model', type(model).__name__),
        ('merged', f'{len(learned)} tensors of LoRA'),
        ('values', f'{sum(tensor.numel() for tensor in state_dict.values()):,}'),
    ]
    metadata: dict[str, Any] = {'source': 'mmhybrid', 'file': path.name}
    if not args.output.endswith('.safetensors'):  # which take nothing but texts
        metadata['dataset_meta'] = meta.get('dataset_meta')
    return table('LoRA merged', rows), state_dict, metadata


def find(content: Any, **options: Any) -> Any:
    """Weights of a published form, else of mmhybrid's own, as trainings leave them."""
    from ..checkpoints import CheckpointError, find_weights
    from ..models.backbones import BACKBONES

    try:
        return find_weights(content, **options)
    except CheckpointError:
        backbone: Any  # mypy takes the class for unhashable
        for backbone in BACKBONES:
            with contextlib.suppress(CheckpointError):
                return find_weights(content, own_names=_names(backbone), **options)
        raise


@functools.cache
def _names(backbone: Any) -> list[tuple[str, frozenset[str]]]:
    """Return the family of a backbone and the names in it, for each of its architectures."""
    import torch

    (family,) = (kind for kind, part in backbone.pretrained_parts.items() if not part)
    with torch.device('meta'):
        return [(family, frozenset(backbone(it).state_dict())) for it in backbone.arch_settings]


def write(path: Path, state_dict: dict, metadata: dict) -> None:
    """Write in one step: the file is complete, or it is not there."""
    import torch

    from ..files import write_atomically

    # Copies: a slice would drag its whole storage along, and safetensors refuses shared ones.
    state_dict = {name: tensor.detach().clone() for name, tensor in state_dict.items()}
    with write_atomically(path) as draft, open(draft, 'wb') as file:
        if path.suffix == '.safetensors':
            from safetensors.torch import save

            state_dict = {name: tensor.contiguous() for name, tensor in state_dict.items()}
            file.write(save(state_dict, metadata={'format': 'pt', **metadata}))
        else:
            # Into a file: torch.save would name what is in the archive by the draft.
            torch.save({'state_dict': state_dict, 'meta': metadata}, file)


def write_for_transformers(folder: Path, state_dict: dict, arch: str) -> None:
    """Write a plain ViT as a folder of transformers; ValueError for another arch than its own."""
    from ..checkpoints import describe_vit
    from ..checkpoints.to_transformers import to_transformers, write_transformers
    from ..models.backbones import ViT

    its: Any = ViT.resolve_arch(arch)
    looks = describe_vit(state_dict)
    if looks is None:
        raise ValueError('--to transformers takes the weights of a plain ViT, and these are not')
    if (looks.width, looks.depth) != (its.embed_dims, its.depth):
        raise ValueError(
            f'--arch has {its.depth} blocks of width {its.embed_dims}, the weights are {looks}'
        )
    weights, config = to_transformers(
        state_dict,
        num_heads=its.num_heads,
        norm_eps=its.norm_cfg.get('eps', 1e-5),
        mask_key_bias=its.mask_key_bias,
    )
    write_transformers(folder, weights, config)


def _without_modules(content):
    """A trusted file may hold whole modules: their weights in their place."""
    import torch

    if isinstance(content, torch.nn.Module):
        return content.state_dict()
    if isinstance(content, dict):
        return {
            key: value.state_dict() if isinstance(value, torch.nn.Module) else value
            for key, value in content.items()
        }
    return content
