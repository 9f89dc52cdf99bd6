"""Draw the pictures and the report of docs/looking.md: the demo's training, looked at.

    python tools/draw_docs.py [--work-dir DIR] [--epochs N] [--out DIR] [--browser CHROMIUM]

The demo is run first, or taken up where it stands, as tools/demo.py does it. With --browser the
report is also opened in a browser of the Chromium family, at the widths of a desktop and of a
phone, and photographed.
"""

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from _checkout import ROOT

from mmhybrid.cli.usage import UsageError, run
from mmhybrid.files import write_file

WORK_DIR = ROOT / 'work_dirs/demo_maskrcnn_vitcomer_t'  # of `make demo`
IMAGES = 'images/val/{:06d}.jpg'
SIDE = 192  # of the pictures' images: twice as long as in the training, for finer maps
MOST = 150_000  # bytes of a picture: a clone carries all of them
WIDTHS = dict(desktop=(1180, 1500), phone=(390, 1500))


def main(argv=None):
    """Draw; return the paths of the files."""
    from mmhybrid.cli import demo

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', type=Path, default=WORK_DIR, metavar='DIR')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/demo', metavar='DIR')
    parser.add_argument('--epochs', metavar='N', help="default: the demo's own")
    parser.add_argument('--out', type=Path, default=ROOT / 'docs', metavar='DIR')
    parser.add_argument('--browser', metavar='CHROMIUM', help='photograph the report with it')
    args = parser.parse_args(argv)
    if args.browser and shutil.which(args.browser) is None:
        raise UsageError(f'--browser {args.browser}: there is no such program')

    places = ['--work-dir', str(args.work_dir), '--data', str(args.data)]
    demo.main([*places, *(['--epochs', args.epochs] if args.epochs else [])])
    written = look(args.work_dir, args.data, args.out / 'images/looking')
    report = args.out / 'demo_report.html'
    text = (args.work_dir / 'report.html').read_text(encoding='utf-8')
    write_file(report, text.replace(f'{ROOT}/', '').encode())
    written.append(report)
    if args.browser:
        written += photograph(args.browser, report, args.out / 'images/looking')
    for path in written:
        print(f'{path.stat().st_size / 1000:7.1f} kB  {path}')
    return written


def look(work_dir, data, out):
    """The pictures of visualize.py and analyze.py, in few colours."""
    from mmhybrid.cli import analyze, visualize
    from mmhybrid.engine import latest_checkpoint

    config = str(next(work_dir.glob('*.py')))
    checkpoint = str(latest_checkpoint(work_dir))
    images = [str(data / IMAGES.format(number)) for number in range(4, 8)]
    with tempfile.TemporaryDirectory() as folder:
        options = ['--out', folder, '--size', str(SIDE), str(SIDE), '--image']
        one = [config, '--weights', checkpoint, '--at', '0.28', '0.45']
        visualize.main([*one, '--show', 'attention,exchange,points', *options, images[0]])
        both = [config, 'mmdet.ResNet,depth=50', '--weights', checkpoint, '-']
        visualize.main([*both, '--show', 'features', *options, images[0]])
        visualize.main([*both, '--show', 'field', *options, *images])
        analyze.main([config, '--size', '96', '96', '--depth', '2', '--out', folder])
        paths = sorted(Path(folder).glob('*.png'))
        drawn = {path.name.removeprefix(f'{Path(config).stem}_'): path for path in paths}
        del drawn['learning_rates.png']  # one rate
        return [shrink(path, out / name) for name, path in drawn.items()]


def shrink(path, target):
    """Write a picture in as many colours as its size allows."""
    from PIL import Image

    with Image.open(path) as drawn:
        image = drawn.convert('RGB')
    for colors in (255, 64, 16):
        few = image.quantize(colors, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        content = io.BytesIO()
        few.save(content, format='png', optimize=True)
        size = content.tell()
        if size <= MOST:
            write_file(target, content.getvalue())
            return target
    raise UsageError(f'{target} would have {size} bytes, expected at most {MOST}')


def photograph(browser, page, out):
    """The beginning of a page as a browser shows it, at each width."""
    pictures = []
    for name, (width, height) in WIDTHS.items():
        with tempfile.TemporaryDirectory() as folder:
            photo = Path(folder, f'report_{name}.png')
            flags = ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars']
            flags += ['--no-first-run', '--disable-background-networking', '--disable-sync']
            flags += ['--disable-component-update', f'--user-data-dir={folder}/profile']
            flags += [f'--window-size={width},{height}', f'--screenshot={photo}']
            subprocess.run(
                [browser, *flags, page.resolve().as_uri()],
                check=True, capture_output=True, timeout=300,
            )  # fmt: skip
            pictures.append(shrink(photo, out / photo.name))
    return pictures


if __name__ == '__main__':
    run(main)
