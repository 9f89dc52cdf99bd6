"""Run a trained detector, segmentor or classifier on an image or a folder of images.

    python tools/infer.py CONFIG CHECKPOINT IMAGE_OR_FOLDER [--out-dir DIR] [--score-thr S]

Writes DIR/pictures and DIR/predictions (one JSON file an image; a segmentor also a PNG of class
indices), in the tree of the given folder. Boxes are x1, y1, x2, y2 in pixels of the given image;
masks are COCO run-length codes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from _common import UsageError, argument_parser, find, load_config, run


class UnreadableImage(ValueError):
    """A file that is named like an image and is none."""


IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def _score(text):
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text}: expected a number from 0 to 1')
    return value


def parse_args(argv):
    parser = argument_parser('Run a trained model on an image or a folder of images.')
    parser.add_argument('checkpoint', help='checkpoint file of the same config')
    parser.add_argument('source', metavar='IMAGE_OR_FOLDER', help='folders are read recursively')
    parser.add_argument('--out-dir', help='default: WORK_DIR/infer')
    parser.add_argument(
        '--score-thr', type=_score, default=0.3, help='least score of an object, 0 to 1'
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Predict and write; return the number of images that could not be read."""
    args = parse_args(argv)
    checkpoint = find(args.checkpoint, 'checkpoint')
    images, base = list_images(find(args.source, 'image or folder'))
    cfg = load_config(args)
    out = Path(args.out_dir or Path(cfg.work_dir) / 'infer')
    predictor = Predictor(cfg, checkpoint)
    failed = []
    for index, path in enumerate(images, 1):
        name = path.relative_to(base)
        try:
            image, sample = predictor(path)
        except UnreadableImage as error:
            failed.append(name)
            print(f'[{index}/{len(images)}] {name}: {error}')
            continue
        summary = predictor.write(image, sample, out, name, args.score_thr)
        print(f'[{index}/{len(images)}] {name}: {summary}')
    print(f'{len(images) - len(failed)} of {len(images)} images: {out}')
    return len(failed)


def list_images(source):
    """Images of a file or folder, sorted, and the folder that names are relative to."""
    if source.is_file():
        if source.suffix.lower() not in IMAGES:
            raise UsageError(f'{source} is not an image: expected {", ".join(IMAGES)}')
        return [source], source.parent
    images = sorted(p for p in source.rglob('*') if p.suffix.lower() in IMAGES)
    if not images:
        raise UsageError(f'no images in {source}: expected {", ".join(IMAGES)}')
    return images, source


class Predictor:
    """A trained model with the test pipeline of its config.

    Called with an image path, it returns the RGB image (H, W, 3) and the host's data sample, or
    raises UnreadableImage.
    """

    def __init__(self, cfg, checkpoint):
        from mmengine.dataset import Compose
        from mmengine.device import get_device
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import MODELS, DefaultScope

        from mmhybrid.engine import load_weights

        self.scope = cfg.default_scope
        # The scope is entered by name each time: another model of another scope may be alive.
        self._in_scope = lambda: DefaultScope.overwrite_default_scope(self.scope)
        dataset = cfg.test_dataloader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        steps = [s for s in dataset.pipeline if not _loads_annotations(s)]
        with self._in_scope():
            self.model = revert_sync_batchnorm(MODELS.build(cfg.model))
            self.pipeline = Compose(steps)
        meta = load_weights(self.model, checkpoint).get('dataset_meta') or {}
        meta = {k.lower(): v for k, v in meta.items()}
        self.classes = meta.get('classes') or (dataset.get('metainfo') or {}).get('classes')
        if self.classes is None:
            raise UsageError(f'neither {checkpoint} nor the config names the classes')
        self.colors = (
            np.array(meta['palette'], np.uint8)
            if _is_palette(meta.get('palette'), len(self.classes))
            else _palette(len(self.classes))
        )
        self.model.to(get_device()).eval()

    def __call__(self, path):
        import cv2
        import torch
        from mmengine.dataset import pseudo_collate

        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise UnreadableImage('cannot be read as an image: empty, damaged or another format')
        with self._in_scope(), torch.no_grad():
            data = self.pipeline(dict(img_path=str(path), img_id=0))
            sample = self.model.test_step(pseudo_collate([data]))[0]
        return image[..., ::-1].copy(), sample

    def write(self, image, sample, out, name, score_thr):
        """Write picture and prediction of one image; return a line about them."""
        import cv2

        write = dict(mmdet=self._instances, mmseg=self._class_map, mmpretrain=self._image_class)
        picture, content, class_map, summary = write[self.scope](image, sample, score_thr)
        prediction = out / 'predictions' / name
        prediction = prediction.with_name(prediction.name + '.json')
        drawn = out / 'pictures' / name.with_suffix('.jpg' if name.suffix != '.png' else '.png')
        for path in (prediction, drawn):
            path.parent.mkdir(parents=True, exist_ok=True)
        height, width = image.shape[:2]
        content = dict(image=str(name), width=width, height=height, **content)
        prediction.write_text(json.dumps(content))
        cv2.imwrite(str(drawn), picture[..., ::-1])
        if class_map is not None:
            cv2.imwrite(str(prediction.with_suffix('.png')), class_map)
        return summary

    def instances(self, sample, score_thr):
        """Objects of a detector's sample: dicts of bbox, label, score and, if any, mask."""
        found = sample.pred_instances.cpu()
        found = found[found.scores >= score_thr]
        masks = found.masks.numpy() if 'masks' in found else [None] * len(found)
        return [
            dict(bbox=box.tolist(), label=int(label), score=float(score), mask=mask)
            for box, label, score, mask in zip(
                found.bboxes, found.labels, found.scores, masks, strict=True
            )
        ]

    def _instances(self, image, sample, score_thr):
        from _draw import draw_instances
        from pycocotools import mask as coco

        objects = self.instances(sample, score_thr)
        picture = draw_instances(image, objects, self.classes, self.colors)
        listed = []
        for one in objects:
            entry = {**one, 'class': self.classes[one['label']]}
            mask = entry.pop('mask')
            if mask is not None:
                code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
                entry['mask'] = dict(size=code['size'], counts=code['counts'].decode())
            listed.append(entry)
        counts = {c: sum(e['class'] == c for e in listed) for c in self.classes}
        summary = ', '.join(f'{n} {c}' for c, n in counts.items() if n) or 'nothing found'
        return picture, dict(instances=listed), None, summary

    def _class_map(self, image, sample, score_thr):
        from _draw import draw_class_map, put_label

        class_map = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        picture = draw_class_map(image, class_map, self.colors)
        shares = np.bincount(class_map.ravel(), minlength=len(self.classes)) / class_map.size
        listed = {self.classes[i]: round(float(shares[i]), 4) for i in np.argsort(-shares)}
        listed = {name: share for name, share in listed.items() if share > 0}
        for row, name in enumerate(list(listed)[:6]):
            color = self.colors[list(self.classes).index(name)].tolist()
            put_label(picture, f'{name} {listed[name]:.0%}', (4, 4 + 18 * row), color)
        summary = ', '.join(f'{name} {share:.0%}' for name, share in list(listed.items())[:4])
        return picture, dict(shares=listed), class_map, summary

    def _image_class(self, image, sample, score_thr):
        from _draw import enlarged, put_label

        scores = sample.pred_score.cpu().numpy()
        best = np.argsort(-scores)[:5]
        picture, _ = enlarged(image)
        listed = [{'class': self.classes[i], 'score': round(float(scores[i]), 4)} for i in best]
        for row, (i, entry) in enumerate(zip(best, listed, strict=True)):
            text = f'{entry["class"]} {entry["score"]:.2f}'
            put_label(picture, text, (6, 6 + 20 * row), self.colors[i].tolist())
        return picture, dict(classes=listed), None, f'{listed[0]["class"]} {listed[0]["score"]:.2f}'


def _loads_annotations(step):
    name = step['type'] if isinstance(step['type'], str) else step['type'].__name__
    return name.split('.')[-1] in ('LoadAnnotations', 'LoadPanopticAnnotations')


def _is_palette(value, count):
    return isinstance(value, (list, tuple)) and len(value) == count


def _palette(count):
    from _draw import palette

    return palette(count)


if __name__ == '__main__':
    run(lambda: min(main(), 1))
