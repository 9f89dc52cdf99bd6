"""Bring annotations of other tools into the layouts that train here.

    mmhybrid data convert FOLDER OUT [--val-fraction 0.2] [--classes car,bus] [--colours FILE]
    mmhybrid data to8bit FOLDER OUT [--range LOW HIGH]

FOLDER may hold YOLO, Pascal VOC, labelme, or COCO as CVAT, Roboflow and Label Studio write it, or
masks of colours; docs/formats.md has each. OUT is new, FOLDER stays as it is. Odd files are listed
at the end.

to8bit copies a folder, with images of 8 bits in the place of those that have 16 or 32: the hosts
read no more. LOW becomes 0, HIGH 255; without --range the least and largest value of all images.
Masks keep their numbers in a folder that is called masks, labels, annotations or alike.
"""

import argparse
from pathlib import Path

CLASSES_SHOWN = 25


def main(argv: list[str] | None = None) -> None:
    """Convert a folder, and print counts of objects by class.

    Raises:
        DataError: nothing can be read, or nothing is left to write.
    """
    from ..data.formats import READERS

    parser = argparse.ArgumentParser(prog='mmhybrid data', description=__doc__.partition('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    one = commands.add_parser('convert', help='write a folder of another format in a new one')
    one.add_argument('folder', help='what is read; it stays as it is')
    one.add_argument('out', help='a new folder')
    one.add_argument(
        '--format', choices=list(READERS), help='of FOLDER; told by its files if not given'
    )
    one.add_argument(
        '--classes',
        metavar='NAME,NAME',
        help='the classes that are kept; the names 0, 1, ... of a YOLO folder that has none',
    )
    one.add_argument(
        '--colours', metavar='FILE', help='of masks of colours: a line NAME R G B for each class'
    )
    one.add_argument(
        '--val-fraction',
        type=float,
        metavar='0.2',
        help='how much of the training images becomes a validation part that is missing',
    )
    one.add_argument('--seed', type=int, default=0, help='of the choice of --val-fraction')
    one = commands.add_parser('to8bit', help='copy a folder with images of 8 bits')
    one.add_argument('folder', help='what is read; it stays as it is')
    one.add_argument('out', help='a new folder')
    one.add_argument(
        '--range', nargs=2, type=float, metavar=('LOW', 'HIGH'), help='what becomes 0 and 255'
    )
    args = parser.parse_args(argv)
    run = _convert if args.command == 'convert' else _to_8bit
    run(args)


def _convert(args):
    from ..data.convert import convert

    classes = [name.strip() for name in args.classes.split(',')] if args.classes else None
    result = convert(
        args.folder, args.out, args.format, classes, args.colours, args.val_fraction, args.seed
    )
    unit = 'objects' if result.objects else 'images'
    print(f'{result.source}: {args.folder} -> {result.out}')
    for split, counts in result.counts.items():
        total = f', {sum(counts.values())} objects' if result.objects else ''
        print(f'{split}: {result.images[split]} images{total}')
        ranked = counts.most_common()
        width = max(len(label) for label, _ in ranked[:CLASSES_SHOWN])
        for label, count in ranked[:CLASSES_SHOWN]:
            print(f'  {label:{width}}  {count:>8}')
        if len(ranked) > CLASSES_SHOWN:
            rest = sum(count for _, count in ranked[CLASSES_SHOWN:])
            print(f'  {len(ranked) - CLASSES_SHOWN} more classes  {rest} {unit}')
    for line in result.findings.lines():
        print(line)
    kind = 'coco' if result.objects else 'mask'
    if not result.objects:
        config = 'upernet_vitcomer_t_custom'
    elif result.outlines == result.objects:
        config = 'maskrcnn_vitcomer_t_custom'
    else:
        config = 'retinanet_cmt_ti_custom'
        if result.outlines:
            print(
                f'{result.objects - result.outlines} of {result.objects} objects have no outline, '
                'so boxes can be trained on, masks cannot'
            )
    option = ''
    if 'val' not in result.counts:
        option = f' --cfg-options {kind}_folder.val_fraction=0.2'
    print('next:')
    print(f'  mmhybrid check {result.out}')
    print(f'  mmhybrid train {config} --data {Path(result.out)}{option}')


def _to_8bit(args):
    from ..data.depth import write_8bit

    made = write_8bit(args.folder, args.out, args.range and tuple(args.range))
    low, high = made.limits
    print(f'{made.images} images written with 8 bits, {made.others} other files copied: {args.out}')
    if made.not_finite:
        count, (first, *more) = sum(made.not_finite.values()), made.not_finite
        others = f' and {len(more)} more' if more else ''
        print(f'{count} values that are not finite became 0 (NaN, -inf) or 255: {first}{others}')
    print(f'{low:g} is 0 and {high:g} is 255; other images for the model: --range {low:g} {high:g}')
