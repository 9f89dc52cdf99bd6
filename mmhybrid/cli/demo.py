"""The whole demo: draw images, train Mask R-CNN with ViT-CoMer-T on them, evaluate, draw results.

    mmhybrid demo [--work-dir DIR] [--data DIR] [--epochs N]

After each epoch there are an AP and pictures to look at. A second run redoes only what is needed:
it goes on with an interrupted training, and does not repeat a finished one while the config and
the images are the same.
"""

import argparse
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..data.demo import CLASSES, PALETTE, draw_demo, read_record
from ..files import write_file
from ..inspect.report.draw import draw_instances, read_image, side_by_side
from .config import load_config
from .paths import CHECKOUT, find_config
from .usage import UsageError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

STATE = 'demo.json'  # in the work dir: what was trained, for how long, and its result
PLACE = CHECKOUT or Path()  # of what is drawn and trained
ROWS = 6  # of the picture grid, two images each


def main(argv: list[str] | None = None) -> dict:
    """Run the demo; return the metrics."""
    parser = argparse.ArgumentParser(description='Train and evaluate on drawn images.')
    parser.add_argument('--config', default='configs/demo_maskrcnn_vitcomer_t.py')
    parser.add_argument('--work-dir', help='default: work_dirs/CONFIG in the checkout')
    parser.add_argument('--data', type=Path, default=PLACE / 'data/demo', help='folder of images')
    parser.add_argument('--epochs', type=int, metavar='N', help="default: the config's")
    args = parser.parse_args(argv)
    if args.epochs is not None and args.epochs < 1:
        parser.error(f'--epochs {args.epochs}: expected at least 1')
    args.config = str(find_config(args.config))
    work_dir = Path(args.work_dir or PLACE / 'work_dirs' / Path(args.config).stem)

    say('1/4  images')
    drawn = draw_demo(args.data, progress=lambda line: print(f'     {line}', flush=True))
    print(f'     {args.data}: {"drawn" if drawn else "up to date"}')

    arguments = [args.config, '--work-dir', str(work_dir)]
    changes = dict(data_root=str(args.data.resolve()))
    if args.epochs:
        changes |= shorter(args.config, args.epochs)
    options = ['--cfg-options', *(f'{key}={value}' for key, value in changes.items())]
    cfg = load_config(
        argparse.Namespace(config=args.config, work_dir=str(work_dir), cfg_options=changes)
    )
    say('2/4  training')
    state = prepare(work_dir, fingerprint(cfg, read_record(args.data)))
    checkpoint = train(work_dir, state, arguments, options, cfg, args.data)

    say('3/4  evaluation')
    if 'metrics' not in state:
        from . import test

        metrics = test.main([*arguments[:1], str(checkpoint), *arguments[1:], '--report', *options])
        state['metrics'] = {key: float(value) for key, value in metrics.items()}
        write_state(work_dir, state)

    say('4/4  pictures')
    predictions, curves = work_dir / 'predictions.png', work_dir / 'curves.png'
    if not predictions.exists():
        draw_predictions(cfg, args.data, predictions, checkpoint)
    draw_curves(work_dir, curves)
    metrics = state['metrics']
    print()
    for name, key in (('box AP ', 'coco/bbox_mAP'), ('mask AP', 'coco/segm_mAP')):
        print(f'{name}  {metrics[key]:.3f}   (at IoU 0.5: {metrics[key + "_50"]:.3f})')
    print(
        f'trained in {state["minutes"]:.1f} minutes'
        f'\n\npredictions beside ground truth   {predictions}'
        f'\nloss and AP curves                {curves}'
        f'\nreport, with worst and best       {work_dir / "report.html"}'
        f'\ncheckpoint                        {checkpoint}'
    )
    return metrics


def say(step: str) -> None:
    """Print the title of a step."""
    print(f'\n== {step}', flush=True)


def shorter(config: str | Path, epochs: int) -> dict:
    """The changes that make a config train for so many epochs, its learning rates with it."""
    from mmengine.config import Config

    cfg = Config.fromfile(config)
    changes = {'train_cfg.max_epochs': epochs}
    for i, schedule in enumerate(cfg.param_scheduler):
        for key in ('T_max', 'end'):
            if schedule.get('by_epoch') and schedule.get(key) == cfg.train_cfg.max_epochs:
                changes[f'param_scheduler.{i}.{key}'] = epochs
    return changes


def fingerprint(cfg: 'Config', record: dict) -> str:
    """A digest of all that decides the result of a training: the config and the images."""
    text = cfg.pretty_text + json.dumps(record.get('content'))
    return hashlib.sha256(text.encode()).hexdigest()


def prepare(work_dir: Path, wanted: str) -> dict:
    """The state of this training in ``work_dir``; that of another demo training is removed."""
    path = work_dir / STATE
    state = json.loads(path.read_text()) if path.is_file() else None
    if state is None and work_dir.is_dir() and any(work_dir.iterdir()):
        raise UsageError(f'{work_dir} holds another training: give another --work-dir')
    if state is None or state['fingerprint'] != wanted:
        if state is not None:
            print('     config or images have changed: training anew')
            shutil.rmtree(work_dir)
        work_dir.mkdir(parents=True, exist_ok=True)
        state = dict(fingerprint=wanted, minutes=0.0, finished=None)
        write_state(work_dir, state)
    return state


def write_state(work_dir: Path, state: dict) -> None:
    """Write the state of a demo training, whole or not at all."""
    write_file(work_dir / STATE, json.dumps(state, indent=2))


def train(
    work_dir: Path, state: dict, arguments: list[str], options: list[str], cfg: 'Config', data: Path
) -> Path:
    """Train, or go on, or do nothing; return the last checkpoint."""
    from ..engine import latest_checkpoint

    done = latest_checkpoint(work_dir)
    if state['finished'] and done and done.name == state['finished']:
        print(f'     finished before: {done}')
        return done
    from . import train as training

    begin = time.monotonic()
    try:
        arguments = [*arguments, *(['--resume'] if done else []), *options]
        training.main(arguments, [show_epochs(cfg, data, work_dir)])
    finally:
        state['minutes'] += (time.monotonic() - begin) / 60
        write_state(work_dir, state)
    done = latest_checkpoint(work_dir)
    assert done is not None  # what has ended wrote one
    state['finished'] = done.name
    write_state(work_dir, state)
    return done


def show_epochs(cfg: 'Config', data: Path, work_dir: Path) -> Any:
    """A hook that says after each epoch but the last what has been reached, and draws it."""
    from mmengine.hooks import Hook

    class ShowEpochs(Hook):
        def before_train(self, runner):
            self.begin = time.monotonic(), runner.iter

        def after_val_epoch(self, runner, metrics=None):
            if runner.epoch >= runner.max_epochs:
                return
            path = work_dir / f'predictions_epoch_{runner.epoch}.png'
            draw_predictions(cfg, data, path, model=runner.model)
            time_begun, first = self.begin
            seconds = (time.monotonic() - time_begun) / (runner.iter - first)
            left = seconds * (runner.max_iters - runner.iter) / 60
            box, mask = (metrics[f'coco/{kind}_mAP'] for kind in ('bbox', 'segm'))
            print(
                f'\n     after epoch {runner.epoch} of {runner.max_epochs}: box AP {box:.3f}, mask '
                f'AP {mask:.3f}, pictures in {path}; the rest takes about {max(left, 1):.0f} min\n',
                flush=True,
            )

    return ShowEpochs()


def draw_predictions(
    cfg: 'Config',
    data: Path,
    path: Path,
    checkpoint: str | Path | None = None,
    model: 'nn.Module | None' = None,
) -> None:
    """A grid of validation images: ground truth beside prediction, twice a row."""
    from pycocotools.coco import COCO

    from .predictors import Predictor

    predictor = Predictor(cfg, checkpoint, model)
    colors = np.array(PALETTE, np.uint8)
    truth = COCO(str(data / 'annotations/instances_val.json'))
    pictures = []
    for image_id in truth.getImgIds()[: 2 * ROWS]:
        name = truth.loadImgs(image_id)[0]['file_name']
        image = read_image(data / 'images/val' / name)
        assert image is not None  # the demo drew it
        (prediction,) = predictor.predict([image])
        found = [one for one in prediction['objects'] if one['score'] >= 0.5]
        real = [
            dict(
                bbox=[x, y, x + width, y + height],
                label=one['category_id'] - 1,
                mask=truth.annToMask(one).astype(bool),
            )
            for one in truth.loadAnns(truth.getAnnIds(image_id))
            for x, y, width, height in [one['bbox']]
        ]
        for objects in (real, found):
            pictures.append(draw_instances(image, objects, CLASSES, colors, least=300))
    rows = [pictures[i : i + 4] for i in range(0, len(pictures) - len(pictures) % 4, 4)]
    grid = side_by_side(rows, ['ground truth', 'prediction'] * 2)
    cv2.imwrite(str(path), grid[..., ::-1])


def draw_curves(work_dir: Path, path: Path) -> None:
    """Training loss and validation AP over the epochs, from mmengine's logs."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    logs = [
        json.loads(line)
        for file in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in file.read_text().splitlines()
    ]
    losses = {log['step']: log for log in logs if 'loss' in log}
    scores = {log['step']: log for log in logs if 'coco/segm_mAP' in log}
    epoch = max(log['step'] for log in losses.values()) / max(
        log['epoch'] for log in losses.values()
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout='constrained')
    for key, label in (
        ('loss', 'all'),
        ('loss_cls', 'class'),
        ('loss_bbox', 'box'),
        ('loss_mask', 'mask'),
    ):
        steps = sorted(losses)
        left.plot([step / epoch for step in steps], [losses[s][key] for s in steps], label=label)
    left.set(xlabel='epoch', title='training loss', ylim=(0, None))
    for key, label in (('coco/bbox_mAP', 'box AP'), ('coco/segm_mAP', 'mask AP')):
        steps = sorted(scores)
        right.plot(steps, [scores[s][key] for s in steps], marker='o', label=label)
    right.set(xlabel='epoch', title='COCO AP on the validation images', ylim=(0, 1))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
