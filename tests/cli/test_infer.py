"""infer.py: tiles that join to the whole, and what is read and written."""

import errno
import json
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch


class Blobs:
    """A detector that finds every bright blob, with its shade as the class."""

    scope, classes, colors = 'mmdet', ('dark', 'light'), np.zeros((2, 3), np.uint8)
    calls = 0

    def predict(self, images):
        self.calls += 1
        return [dict(objects=list(self.find(image[..., 0])), has_masks=True) for image in images]

    def find(self, shade):
        count, marks = cv2.connectedComponents((shade > 50).astype(np.uint8))
        for number in range(1, count):
            mask = marks == number
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            label = int(shade[mask].max() > 200)
            score = 0.4 + mask.sum() / 1e5  # as a cut object can score best, whole ones come first
            yield dict(bbox=[float(v) for v in box], label=label, score=float(score), mask=mask)


class Shades:
    """A segmentor whose logits depend on the pixel alone."""

    scope, classes, colors = 'mmseg', ('a', 'b', 'c'), np.zeros((3, 3), np.uint8)
    keep_logits = False

    def predict(self, images):
        assert self.keep_logits
        return [dict(logits=image.transpose(2, 0, 1).astype(np.float32)) for image in images]


@pytest.mark.parametrize(('side', 'overlap', 'batch_size'), [(96, 48, 1), (80, 40, 5), (256, 0, 2)])
def test_objects_of_tiles_are_those_of_the_whole(side, overlap, batch_size, tool):
    predict = tool('predictors')
    blobs = Blobs()
    image = np.zeros((150, 210, 3), np.uint8)
    for x, y, w, h, shade in ((5, 5, 20, 12, 255), (70, 30, 30, 38, 100), (180, 120, 30, 30, 255)):
        image[y : y + h, x : x + w] = shade
    (whole,) = blobs.predict([image])
    blobs.calls = 0
    (tiled,) = predict.TiledPredictor(blobs, side, overlap, batch_size).predict([image])
    assert len(whole['objects']) == len(tiled['objects']) == 3
    for a, b in zip(
        *(sorted(found['objects'], key=lambda one: one['bbox']) for found in (whole, tiled)),
        strict=True,
    ):
        assert a['bbox'] == b['bbox'] and a['label'] == b['label']
        assert (a['mask'] == b['mask']).all() and set(a) == set(b)
    tiles = len(predict.starts(150, side, overlap)) * len(predict.starts(210, side, overlap))
    assert blobs.calls == -(-tiles // batch_size)


def test_tiles_cover_a_length(tool):
    starts = tool('predictors').starts
    assert starts(50, 64, 16) == [0] and starts(64, 64, 16) == [0]
    assert starts(65, 64, 16) == [0, 1] and starts(200, 64, 16) == [0, 48, 96, 136]


def test_merging(tool):
    merge = tool('predictors').merge_objects

    def one(bbox, score, label=0, cut=False):
        return dict(bbox=bbox, score=score, label=label, cut=cut)

    whole = one([0, 0, 40, 40], 0.5)
    part = one([0, 0, 15, 40], 0.9, cut=True)
    double = one([2, 0, 42, 40], 0.4)
    other = one([0, 0, 40, 40], 0.3, label=1)
    apart = one([100, 0, 115, 40], 0.2, cut=True)
    assert merge([part, double, whole, other, apart], 0.5) == [whole, other, apart]


def test_class_maps_of_tiles_are_those_of_the_whole(tool):
    predict = tool('predictors')
    image = np.random.default_rng(0).integers(0, 255, (150, 210, 3), np.uint8)
    for side, overlap in ((64, 20), (100, 50), (300, 10)):
        (tiled,) = predict.TiledPredictor(Shades(), side, overlap, 3).predict([image])
        assert (tiled['class_map'] == image.argmax(-1)).all()
    assert predict.decide(np.array([[[-1.0, 2.0]]])).tolist() == [[0, 1]]


def test_tiles_of_a_segmentor_of_one_channel(tool):
    class Shade(Shades):  # the host gives probabilities
        model = SimpleNamespace(decode_head=SimpleNamespace(threshold=0.3))

        def predict(self, images):
            return [dict(logits=image[None, ..., 0] / np.float32(255)) for image in images]

    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    (tiled,) = tool('predictors').TiledPredictor(Shade(), 64, 20).predict([image])
    assert (tiled['class_map'] == (image[..., 0] / 255 > 0.3)).all()


@pytest.fixture
def trained(tool, job, tmp_path):
    """CONFIG, CHECKPOINT and options of a host's small job, with random weights."""

    def make(scope):
        config, options = job(scope)
        torch.manual_seed(0)
        model = tool('models').open_model(config).model
        path = tmp_path / f'{scope}.pth'
        torch.save(dict(state_dict=model.state_dict()), path)
        return config, str(path), options

    return make


def test_a_video_in_tiles(tool, trained, tmp_path, capsys):
    video = cv2.VideoWriter(
        str(tmp_path / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5, (96, 64)
    )
    for number in range(4):
        video.write(np.full((64, 96, 3), 60 * number, np.uint8))
    video.release()
    config, checkpoint, options = trained('mmseg')
    arguments = [config, checkpoint, 'clip.avi', '--out-dir', 'out', '--tile', '48']
    arguments += ['--batch-size', '2', '--max-frames', '3']
    assert tool('infer').main([*arguments, *options]) == 0
    names = sorted(path.name for path in (tmp_path / 'out/predictions/clip.avi').iterdir())
    assert names == [f'{n:06d}.jpg.{kind}' for n in range(3) for kind in ('json', 'png')]
    drawn = cv2.VideoCapture(str(tmp_path / 'out/pictures/clip.mp4'))
    assert int(drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == 3 and drawn.get(cv2.CAP_PROP_FPS) == 5
    output = capsys.readouterr().out
    assert '3 of 3 images' in output and 'images/s (reading' in output and 'batch 2' in output


def test_videos_that_end_early_are_told(tool, tmp_path, capsys):
    whole = tmp_path / 'whole.avi'
    video = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*'MJPG'), 5, (96, 64))
    noise = np.random.default_rng(0).integers(256, size=(8, 64, 96, 3), dtype=np.uint8)
    for frame in noise:  # which takes more of the file than its header does
        video.write(frame)
    video.release()
    (tmp_path / 'half.avi').write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    open_source = tool('infer').open_source
    assert len(list(open_source('whole.avi'))) == 8
    assert len(list(open_source('half.avi', most=1))) == 1
    assert not capsys.readouterr().out
    count = len(list(open_source('half.avi')))
    assert 0 < count < 8
    told = f'half.avi: {count} of 8 frames can be read; it may be damaged\n'
    assert capsys.readouterr().out == told


def test_coco_results_and_batches(tool, trained, data, tmp_path):
    from pycocotools.coco import COCO

    config, checkpoint, options = trained('mmdet')
    annotations = data / 'annotations/instances_val.json'
    (tmp_path / 'images').mkdir()
    for path in sorted((data / 'images/val').iterdir()):
        (tmp_path / 'images' / path.name).write_bytes(path.read_bytes())
    (tmp_path / 'images/broken.jpg').write_text('text')
    arguments = [config, checkpoint, 'images', '--score-thr', '0', '--no-pictures']
    arguments += ['--coco-ids', str(annotations)]
    main = tool('infer').main
    assert main([*arguments, '--out-dir', 'one', *options]) == 1
    assert main([*arguments, '--out-dir', 'two', '--batch-size', '2', *options]) == 1
    one, two = (
        json.loads((tmp_path / f'{out}/results.json').read_text()) for out in ('one', 'two')
    )
    assert one and not (tmp_path / 'one/pictures').exists()
    for number in {entry['image_id'] for entry in one}:  # of near ties the order may differ
        best = [
            max(entry['score'] for entry in entries if entry['image_id'] == number)
            for entries in (one, two)
        ]
        assert best[0] == pytest.approx(best[1], abs=1e-4)
    truth = COCO(str(annotations))
    loaded = truth.loadRes(one)
    assert {entry['image_id'] for entry in one} == set(truth.getImgIds())
    entry = loaded.loadAnns(loaded.getAnnIds())[0]
    assert loaded.annToMask(entry).shape == (64, 96)
    listed = json.loads((tmp_path / 'one/images.json').read_text())
    assert [c['name'] for c in listed['categories']][:2] == ['star', 'heart']
    first = next(iter(sorted((tmp_path / 'one/predictions').glob('*.json'))))
    instances = json.loads(first.read_text())['instances']
    numbers = cv2.imread(str(first.with_suffix('.png')), cv2.IMREAD_UNCHANGED)
    assert numbers.shape == (64, 96) and numbers.max() <= len(instances)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_a_folder_goes_on_after_images_that_do_not_work(scope, tool, trained, tmp_path, capsys):
    (tmp_path / 'images').mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    for name in ('a.bmp', 'a.jpg', 'a.PNG', 'a.tif'):
        cv2.imwrite(str(tmp_path / 'images' / name), noise)
    cv2.imwrite(str(tmp_path / 'images/line.png'), np.zeros((3, 3000, 3), np.uint8))
    header = b'IHDR' + struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)  # 60000x60000 pixels
    header = struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
    (tmp_path / 'images/claim.png').write_bytes(b'\x89PNG\r\n\x1a\n' + header)
    config, checkpoint, options = trained(scope)
    arguments = [config, checkpoint, 'images', '--out-dir', 'out', '--batch-size', '5']
    assert tool('infer').main([*arguments, *options]) == 2
    drawn = {path.name for path in (tmp_path / 'out/pictures').iterdir()}
    assert drawn == {'a.bmp.jpg', 'a.jpg', 'a.PNG', 'a.tif.jpg'}
    output = capsys.readouterr().out
    assert '1 cannot be read as images: ' in output and 'another format: claim.png\n' in output
    assert 'line.png: 3000x3 pixels cannot be predicted: ' in output and '4 of 6 images' in output


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--tile', '64', '--overlap', '40'], 'expected 0 to 32, half of --tile 64'),
        (['--coco-ids', 'ids.json'], 'ids.json has no category star, heart'),
        (['--coco-ids', 'empty.json'], 'is no COCO annotation file'),
        (['--coco-ids', 'cut.json'], 'cut.json is no COCO annotation file'),
    ],
)
def test_bad_options(arguments, message, tool, trained, data, tmp_path):
    content = dict(images=[], categories=[dict(id=1, name='cat')])
    (tmp_path / 'ids.json').write_text(json.dumps(content))
    (tmp_path / 'empty.json').write_text('{}')
    (tmp_path / 'cut.json').write_text('{"images": [')
    config, checkpoint, options = trained('mmdet')
    source = str(data / 'images/val')
    with pytest.raises(ValueError, match=message):
        tool('infer').main([config, checkpoint, source, *arguments, *options])


@pytest.mark.parametrize('kind', ['.jpg', '.png', '.json'])
def test_a_full_disk_ends_it(kind, tool, trained, data, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(path, content):
        write(path, content)
        if path.suffix == '.part' and f'{kind}.' in path.name:
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    config, checkpoint, options = trained('mmseg')
    source = str(data / 'images/val')
    with pytest.raises(OSError, match=rf'No space left .*{kind}'):
        tool('infer').main([config, checkpoint, source, '--out-dir', 'out', *options])
    assert not list(tmp_path.rglob('*.part'))


@pytest.mark.parametrize(
    'arguments', [['--batch-size', '0'], ['--tile', '8'], ['--overlap', '8'], ['--max-frames', '0']]
)
def test_options_out_of_range(arguments, tool, capsys):
    with pytest.raises(SystemExit):
        tool('infer').main(['config.py', 'a.pth', 'images', *arguments])
    assert arguments[0] in capsys.readouterr().err


def test_bad_sources_and_models(tool, trained, tmp_path, data):
    infer = tool('infer')
    with pytest.raises(ValueError, match='camera:x: expected camera: and a number'):
        infer.open_source('camera:x')
    (tmp_path / 'a.mp4').write_text('text')
    with pytest.raises(ValueError, match='a.mp4 cannot be opened as a video'):
        infer.open_source('a.mp4')
    config, _, options = trained('mmpretrain')
    (tmp_path / 'model.txt').touch()
    with pytest.raises(ValueError, match=r'model.txt is no model to predict with: expected .pth'):
        infer.main([config, 'model.txt', str(data / 'images/val'), *options])
    with pytest.raises(ValueError, match='not for classifiers'):
        infer.main([config, 'mmpretrain.pth', str(data / 'images'), '--tile', '64', *options])


def test_progress_without_a_terminal(tool, monkeypatch, capsys):
    infer = tool('infer')
    monkeypatch.setattr(infer, 'SECONDS_A_LINE', 0)
    with infer.progress(3) as advance:
        advance(2)
    assert capsys.readouterr().err.startswith('2 of 3 images, ')
    with infer.progress(3, lines=False) as advance:
        advance(2)
    assert not capsys.readouterr().err.strip()
