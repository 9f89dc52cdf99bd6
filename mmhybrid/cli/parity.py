"""Compare mmhybrid's backbones with reference runs of the original implementations.

    mmhybrid parity SPEC.json...

Each SPEC.json (with its .npz beside it) names the original code and its constructor's arguments.
The backbone is built from them, its weights are drawn and loaded as a published checkpoint would
be, and its outputs are compared. Exit code 1 where an output is missing, of another shape, or
further from the reference than allowed.
"""

import argparse
from pathlib import Path

from .paths import find


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('specs', nargs='+', metavar='SPEC.json', help='reference runs')
    parser.add_argument(
        '--max-error', type=float, default=1e-4, help="worst error allowed, in the output's std"
    )
    parser.add_argument(
        '--mean-error', type=float, default=1e-5, help="mean error allowed, in the output's std"
    )
    parser.add_argument('--report', action='store_true', help='print the load reports too')
    args = parser.parse_args(argv)

    for path in args.specs:
        find(path, 'reference run')
    failed = [path for path in args.specs if not check(path, args)]
    if failed:
        print(f'{len(failed)} of {len(args.specs)} differ: {", ".join(failed)}')
        return 1
    print(f'all {len(args.specs)} agree')
    return 0


def check(path: Path, args: argparse.Namespace) -> bool:
    """Compare one reference run and print its rows; whether it passes."""
    import torch

    from ..checkpoints import load_weights
    from ..testing import Golden, build_original

    print(path)
    try:
        golden = Golden(path)
        backbone = build_original(golden)
        report = load_weights(
            backbone, golden.state_dict(), parts=backbone.pretrained_parts, file=golden.name
        )
        if args.report:
            print(report)
        with torch.no_grad():
            rows = golden.compare(backbone(golden.image()))
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        print(f'  error: {error}')
        return False
    for row in rows:
        verdict = 'ok' if row.passes(args.max_error, args.mean_error) else 'DIFFERS'
        if row.shape != row.expected_shape:
            print(f'  out {row.level}  shape {row.shape}, expected {row.expected_shape}  {verdict}')
        else:
            print(
                f'  out {row.level}  {str(row.shape):<20} worst {row.max_error:.1e}'
                f'  mean {row.mean_error:.1e}  {verdict}'
            )
    return bool(rows) and all(row.passes(args.max_error, args.mean_error) for row in rows)
