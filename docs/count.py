"""Count parameters and multiply-adds of every backbone, for the tables of the site.

    python docs/count.py [--keep-counts]

Writes docs/counts.json. Models are built without memory for weights. --keep-counts counts only
backbones that are not in it yet.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))

from mmhybrid.engine.flops import count_macs  # noqa: E402
from mmhybrid.models.backbones import BACKBONES, Backbone  # noqa: E402

COUNTS = HERE / 'counts.json'
SIDE = 512


def models() -> dict[str, tuple[type[Backbone], str]]:
    """Class and architecture of every name that ``build_backbone`` takes."""
    return {f'{cls.family}_{arch}': (cls, arch) for cls in BACKBONES for arch in cls.arch_settings}


def build(name: str) -> Backbone:
    """A backbone whose tensors have shapes and no values."""
    backbone, arch = models()[name]
    with torch.device('meta'):
        return backbone(arch).eval()


def image_side(model: Backbone) -> int:
    """Side of the image it is counted on: 512, or the one that MLP mixing is tied to."""
    return model.image_size[0] if getattr(model, 'tied_to_size', False) else SIDE


def count(name: str) -> dict:
    """Parameters, multiply-adds, side of the image, channels and strides of the maps."""
    model = build(name)
    side = image_side(model)
    image = torch.empty(1, 3, side, side, device='meta')
    return dict(
        params=sum(p.numel() for p in model.parameters()),
        macs=count_macs(model, image),
        side=side,
        channels=list(model.out_channels),
        strides=list(model.out_strides),
    )


def main(argv: list[str] | None = None) -> None:
    """Count, and write the file in one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--keep-counts', action='store_true', help='count only backbones that are not in it yet'
    )
    args = parser.parse_args(argv)
    known = json.loads(COUNTS.read_text(encoding='utf-8')) if args.keep_counts else {}
    counts = {}
    for name in sorted(models()):
        if name in known:
            counts[name] = known[name]
            continue
        counts[name] = count(name)
        print(f'{name}: {counts[name]["params"] / 1e6:.1f} M, {counts[name]["macs"] / 1e9:.1f} G')
    part = COUNTS.with_suffix('.part')
    lines = ',\n'.join(
        f'  {json.dumps(name)}: {json.dumps(entry)}' for name, entry in counts.items()
    )
    part.write_text(f'{{\n{lines}\n}}\n', encoding='utf-8')
    os.replace(part, COUNTS)


if __name__ == '__main__':
    main()
