"""The CMT paper's complexity formulas beside counted multiply-adds, for each stage.

    python tools/complexity.py [ARCH...] [--size HEIGHTxWIDTH...]

ARCH is ti, xs, s or b; without a size each is counted at its training size and at 800x1333. For a
stage of n positions and width d, with reduction k and expansion r, a block has (arXiv 2107.06263,
Eq. 16, there with r = 4)

    LPU     9 n d
    LMHSA   2 n d^2 (1 + 1 / k^2) + 2 n^2 d / k^2
    IRFFN   2 r n d^2 + 9 r n d

Counted are the same blocks as they run, on padded images. The counts lie above the formulas by the
convolution that reduces keys and values, n d a block. "rest" is stem, patch embeddings and, away
from the training size, the resizing of the biases, which the paper leaves out. No weight is made
and nothing is computed: counting takes seconds at any size.
"""

import argparse

ARCHS = ('ti', 'xs', 's', 'b')


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('archs', nargs='*', metavar='ARCH', help='ti, xs, s or b; all of them')
    parser.add_argument('--size', nargs='+', type=parse_size, help='image sizes such as 512x512')
    args = parser.parse_args(argv)
    unknown = [arch for arch in args.archs if arch not in ARCHS]
    if unknown:
        parser.error(f'no ARCH {unknown[0]!r}; choose from {", ".join(ARCHS)}')

    from ..models.backbones import CMT

    for arch in args.archs or ARCHS:
        side = CMT.arch_settings[arch]['pretrain_size']
        for size in args.size or [(side, side), (800, 1333)]:
            print_table(arch, size)
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """Read ``HEIGHTxWIDTH``."""
    try:
        height, width = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no HEIGHTxWIDTH, such as 512x512') from None
    if min(height, width) < 32:
        raise argparse.ArgumentTypeError(f'{text}: CMT takes images of at least 32x32 pixels')
    return height, width


def print_table(arch: str, size: tuple[int, int]) -> None:
    """Print formulas and counts of a CMT, stage by stage."""
    stages, total = complexity(arch, size)
    print(f'\nCMT-{arch} at {size[0]}x{size[1]}, multiply-adds in G')
    print('stage       n     d  k     LPU   LMHSA   IRFFN |   paper  counted')
    for i, row in enumerate(stages):
        parts = '  '.join(f'{row[part] / 1e9:6.3f}' for part in ('lpu', 'lmhsa', 'irffn'))
        paper, counted = row['paper'] / 1e9, row['counted'] / 1e9
        shape = f'{row["n"]:7d} {row["d"]:5d}  {row["k"]}'
        print(f'{i + 1:5d} {shape}  {parts} |  {paper:6.3f}   {counted:6.3f}')
    paper = sum(row['paper'] for row in stages) / 1e9
    counted = sum(row['counted'] for row in stages) / 1e9
    print(f'blocks {paper:50.3f}   {counted:6.3f}')
    print(f'rest {total / 1e9 - counted:61.3f}')
    print(f'all {total / 1e9:62.3f}')


def complexity(arch: str, size: tuple[int, int]) -> tuple[list, int]:
    """Multiply-adds of a CMT.

    Args:
        arch: a name in ``CMT.arch_settings``.
        size: (height, width) of the image.

    Returns:
        (a dict of a stage's formulas and count for each stage, the count of the whole backbone).
    """
    import torch

    from ..engine.flops import count_macs
    from ..models.backbones import CMT

    with torch.device('meta'):
        model = CMT(arch).eval()
        image = torch.empty(1, 3, *size)
    inputs: dict[int, list] = {}
    for i, stage in enumerate(model.stages):
        for block in stage.blocks:
            block.register_forward_hook(
                lambda _, args, __, i=i: inputs.setdefault(i, []).append(args)
            )
    total = count_macs(model, image)

    settings, rows = CMT.arch_settings[arch], []
    for i, stage in enumerate(model.stages):
        depth, d, k = len(stage.blocks), settings['embed_dims'][i], stage.sr_ratio
        r = int(d * settings['mlp_ratio']) / d
        calls = list(inputs[i])
        n = calls[0][0].shape[2] * calls[0][0].shape[3]
        row = dict(
            n=n,
            d=d,
            k=k,
            lpu=depth * 9 * n * d,
            lmhsa=depth * (2 * n * d**2 * (1 + 1 / k**2) + 2 * n**2 * d / k**2),
            irffn=depth * (2 * r * n * d**2 + 9 * r * n * d),
        )
        row['paper'] = row['lpu'] + row['lmhsa'] + row['irffn']
        row['counted'] = sum(
            count_macs(block, *args) for block, args in zip(stage.blocks, calls, strict=True)
        )
        rows.append(row)
    return rows, total
