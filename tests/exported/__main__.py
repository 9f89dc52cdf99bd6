"""One file of every head, run by every runtime, has the metrics of its checkpoint.

    python -m tests.exported                                    every head: a minute or two each
    python -m tests.exported --head cascade_cmt_ti --work-dir files
    python -m tests.exported --runtimes onnx --fixed-size 96 128

A head's model is tiny, with drawn weights; its data are images of the demo in two sizes, three a
batch and one alone, and annotations made of the checkpoint's own findings: some left out, others
moved or of another class, so that no metric is 0 or 1. The checkpoint, the ONNX file (onnxruntime)
and the .xml file (OpenVINO) made of it go through `mmhybrid test`, with the metrics of the config.
Fails where one differs by more than 0.001. --work-dir keeps what was written.
"""

import argparse
import copy
import json
import logging
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from pycocotools import mask as coco

from mmhybrid.data.demo import draw_scene
from tests.deploy.heads import HEADS, MAPS, drawn, tiny_config

ROWS = {name: (name, False) for name in HEADS | MAPS}
ROWS |= {f'{name}, pasted': (name, True) for name in ('maskrcnn_cmt_ti', 'cascade_cmt_ti')}
SIZES = ((160, 128), (96, 224))
ALLOWED = 1e-3
SHOWN = ('coco/bbox_mAP', 'coco/segm_mAP', 'mIoU', 'accuracy/top1')


def main(argv=None):
    """Compare; return how many rows differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--head', nargs='+', choices=ROWS, default=list(ROWS))
    parser.add_argument('--runtimes', nargs='+', choices=('onnx', 'xml'), default=('onnx', 'xml'))
    parser.add_argument('--fixed-size', nargs=2, type=int, help='of images and file; quicker')
    parser.add_argument('--work-dir', type=Path, help='default: a temporary folder')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = (args.work_dir or Path(folder)).absolute()
        rows = {name: compare(name, root / name.replace(', ', '_'), args) for name in args.head}
    failed = 0
    for name, found in rows.items():
        expected = found['pth']
        none = float('nan')  # a runtime that finds nothing has no metrics
        apart = [
            abs(one.get(key, none) - expected[key]) for one in found.values() for key in expected
        ]
        tells = [expected[key] for key in SHOWN if expected.get(key, 0) > 0]
        bad = not tells or not all(value <= ALLOWED for value in apart)  # nan is bad too
        failed += bad
        values = '  '.join(f'{key} {expected[key]:.4g}' for key in SHOWN if key in expected)
        print(
            f'{name:30} {values:40} worst difference {max(apart, default=none):.1e}  '
            f'{"DIFFERS" if bad else "ok"}'
        )
        for kind in args.runtimes if bad else ():
            known = ((key, found[kind].get(key, none)) for key in expected)
            print(f'  {kind}: ' + '  '.join(f'{key} {value:.4g}' for key, value in known))
    return failed


def compare(row, folder, args):
    """Return the metrics of a head's checkpoint and of each of its files, by suffix."""
    from mmhybrid import deploy
    from mmhybrid.cli import test
    from mmhybrid.cli.usage import single_numbers
    from mmhybrid.deploy.openvino import to_openvino

    name, pasted = ROWS[row]
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [tuple(args.fixed_size)] if args.fixed_size else SIZES
    cfg = data_config(name, folder, scaled=not pasted and not args.fixed_size)
    model, start = build(cfg), time.monotonic()
    paths = {kind: folder / f'model.{kind}' for kind in ('pth', *args.runtimes)}
    meta = dict(dataset_meta=dict(classes=classes(name)))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), paths['pth'])
    write_data(cfg, paths['pth'], folder, sizes)
    graphs = deploy.config_graphs(
        model, name=name, classes=classes(name), pasted=pasted, size=args.fixed_size
    )
    onnx = folder / 'model.onnx'
    deploy.export(graphs, onnx, sizes=sizes, batches=(1, 2))
    if 'xml' in paths:
        to_openvino(onnx, paths['xml'])
    print(f'{row}: written after {time.monotonic() - start:.0f} s', flush=True)
    config = folder / f'{name}.py'
    cfg.dump(config)
    found = {}
    for kind, path in paths.items():
        metrics = test.main([str(config), str(path), '--work-dir', str(folder / kind)])
        found[kind] = single_numbers(metrics)
    return found


def build(cfg):
    """Build a tiny model whose best scores are no ties: a sigmoid of 20 is 1 in some runtimes."""
    model = drawn(cfg)
    for name, parameter in model.named_parameters():
        if name.endswith(('rpn_cls.weight', 'retina_cls.weight')):
            parameter.data.mul_(0.1)
    return model


def classes(name):
    """Return names for the classes of a tiny model."""
    count = 3 if name in HEADS else 7 if name.startswith('linear') else 5
    return [f'class {i}' for i in range(count)]


def data_config(name, folder, *, scaled):
    """Return the config of a tiny model with the data of a folder, enlarged in the pipeline."""
    cfg = tiny_config(name)
    loader = cfg.test_dataloader
    left_out = ['CenterCrop'] if scaled else ['CenterCrop', 'ResizeEdge']
    pipeline = [step for step in loader.dataset.pipeline if step['type'] not in left_out]
    for step in pipeline:
        if step['type'] == 'ResizeEdge':
            step['scale'] = 112
        elif step['type'] == 'Resize':
            step.pop('scale')
            step.update(scale_factor=1.25 if scaled else 1.0, keep_ratio=True)
    data = dict(data_root=str(folder), metainfo=dict(classes=classes(name)), pipeline=pipeline)
    if cfg.default_scope == 'mmdet':
        final = cfg.model.test_cfg.get('rcnn') or cfg.model.test_cfg
        if 'score_thr' in final:
            final.score_thr = 0.05
        data.update(type='CocoDataset', ann_file='objects.json', data_prefix=dict(img='images/'))
        data.update(test_mode=True)
        cfg.test_evaluator['ann_file'] = str(folder / 'objects.json')
    elif cfg.default_scope == 'mmseg':
        prefix = dict(img_path='images', seg_map_path='maps')
        data.update(type='BaseSegDataset', data_prefix=prefix, img_suffix='.png')
    else:
        data.update(type='CustomDataset', ann_file='labels.txt', data_prefix='images')
        cfg.test_evaluator['topk'] = (1,)
    loader.dataset = data
    loader.update(batch_size=3, num_workers=0, persistent_workers=False)
    return cfg


def write_data(cfg, checkpoint, folder, sizes):
    """Draw images, and annotate what a checkpoint finds on them, with some mistakes."""
    from mmhybrid.cli.predictors import open_predictor

    rng = np.random.default_rng(0)
    images = {}
    (folder / 'images').mkdir(exist_ok=True)
    for index in range(7):  # three of a size, so that no batch has two
        height, width = sizes[index // 3 % len(sizes)]
        image, _, _ = draw_scene(rng, (width, height))
        cv2.imwrite(str(folder / f'images/{index}.png'), image[..., ::-1])
        images[index] = image
    found = open_predictor(copy.deepcopy(cfg), checkpoint).predict(list(images.values()))
    write = dict(mmdet=write_objects, mmseg=write_maps, mmpretrain=write_labels)
    write[cfg.default_scope](
        folder, images, found, len(cfg.test_dataloader.dataset.metainfo.classes), rng
    )


def write_objects(folder, images, found, count, rng):
    """Write COCO's annotations: boxes moved by up to 0.15 of their sides, masks with them."""
    entries, listed = [], []
    for index, (image, one) in enumerate(zip(images.values(), found, strict=True)):
        height, width = image.shape[:2]
        listed.append(dict(id=index, file_name=f'{index}.png', height=height, width=width))
        for thing in one['objects']:
            x1, y1, x2, y2 = thing['bbox']
            w, h = x2 - x1, y2 - y1
            if rng.random() < 0.3 or min(w, h) < 4:
                continue
            dx, dy = rng.uniform(-0.15, 0.15, 2) * (w, h)
            label = thing['label'] if rng.random() < 0.8 else rng.integers(count)
            entry = dict(id=len(entries) + 1, image_id=index, category_id=int(label) + 1, iscrowd=0)
            entry.update(bbox=[x1 + dx, y1 + dy, w, h], area=w * h)
            if one['has_masks']:
                mask = np.roll(thing['mask'], (round(dy), round(dx)), (0, 1))
                if not mask.any():
                    continue
                code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
                entry['segmentation'] = dict(size=code['size'], counts=code['counts'].decode())
            entries.append(entry)
    categories = [dict(id=i + 1, name=f'class {i}') for i in range(count)]
    content = dict(images=listed, annotations=entries, categories=categories)
    (folder / 'objects.json').write_text(json.dumps(content))


def write_maps(folder, images, found, count, rng):
    """Write class maps, of which some squares of 8x8 are of any class."""
    (folder / 'maps').mkdir(exist_ok=True)
    for index, one in zip(images, found, strict=True):
        height, width = one['class_map'].shape
        cells = rng.integers(0, 3 * count, (height // 8 + 1, width // 8 + 1))
        cells = np.kron(cells, np.ones((8, 8), int))[:height, :width]
        classes = np.where(cells < count, cells, one['class_map'])
        cv2.imwrite(str(folder / f'maps/{index}.png'), classes.astype(np.uint8))


def write_labels(folder, images, found, count, rng):
    """Write a label an image, every third of which is any."""
    labels = [one['scores'].argmax() for one in found]
    labels = [rng.integers(count) if i % 3 == 0 else label for i, label in enumerate(labels)]
    lines = [f'{index}.png {label}' for index, label in zip(images, labels, strict=True)]
    (folder / 'labels.txt').write_text('\n'.join(lines))


if __name__ == '__main__':
    logging.disable(logging.INFO)
    raise SystemExit(min(main(), 1))
