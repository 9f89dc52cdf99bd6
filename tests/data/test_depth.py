"""Images of more than 8 bits: their headers, what the hosts make of them, copies of 8 bits."""

import errno

import cv2
import numpy as np
import pytest
from PIL import Image

from mmhybrid.cli.data import main
from mmhybrid.data.coco import DataError
from mmhybrid.data.depth import headers_of, report_depth, write_8bit
from mmhybrid.data.findings import Findings
from mmhybrid.data.header import read_header

RAMP = np.tile(np.arange(40) / 39, (30, 1))  # (30, 40), 0 to 1
COLOURS = np.stack([RAMP, RAMP[::-1, ::-1], RAMP / 2], axis=2)


def draw(path, values):
    plain = (cv2.IMWRITE_TIFF_COMPRESSION, 1) if path.suffix.startswith('.tif') else ()
    assert cv2.imwrite(str(path), values, plain)
    return path


KINDS = {
    # name: pixels, bits, float, level and text of the finding
    'gray.png': ((RAMP * 200).astype(np.uint16), 16, False, 'error', '0 to 200, which are read as'),
    'full.png': ((RAMP * 65535).astype(np.uint16), 16, False, 'warning', 'read as 0 to 255 of 255'),
    'colours.png': ((COLOURS * 4095).astype(np.uint16), 16, False, 'error', 'read as 0 to 15 of'),
    'gray.tif': ((RAMP * 60000).astype(np.uint16), 16, False, None, 'of 0 to 60000'),
    'float.tif': (RAMP.astype(np.float32), 32, True, 'error', '32-bit floating-point values'),
    'floats.tiff': (COLOURS.astype(np.float32), 32, True, 'error', 'the hosts cannot read'),
    'gray.pgm': ((RAMP * 4095).astype(np.uint16), 16, False, 'error', 'of 255'),
    'plain.png': ((RAMP * 255).astype(np.uint8), 8, False, None, None),
    'plain.tif': ((COLOURS * 255).astype(np.uint8), 8, False, None, None),
    'plain.jpg': ((COLOURS * 255).astype(np.uint8), 8, False, None, None),
    'plain.webp': ((COLOURS * 255).astype(np.uint8), 8, False, None, None),
}


@pytest.mark.parametrize('name', KINDS)
def test_headers_and_findings(name, tmp_path):
    pixels, bits, is_float, level, text = KINDS[name]
    path = draw(tmp_path / name, pixels)
    header = read_header(path)
    assert (header.size, header.bits, header.is_float) == ((40, 30), bits, is_float)
    findings = Findings()
    report_depth(findings, headers_of([path]))
    if text is None:
        assert findings.lines() == []
        return
    (line,) = findings.lines()
    assert text in line and 'mmhybrid data to8bit FOLDER OUT' in line
    if level is not None:  # OpenCV's versions differ in the others
        assert line.startswith(level)


def test_headers_of_broken_files(tmp_path):
    with pytest.raises(DataError, match='missing image files'):
        read_header(tmp_path / 'no.png')
    for name, content in (
        ('a.png', b'\x89PNG'),
        ('b.tif', b'II*\0\xff\xff\xff\xff'),
        ('c.jpg', b''),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match='broken or truncated'):
            read_header(tmp_path / name)


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp'])
def test_a_turned_photograph_has_the_size_that_opencv_gives(suffix, tmp_path):
    exif = Image.Exif()
    for orientation in (1, 3, 6, 8):
        exif[0x0112] = orientation
        Image.new('RGB', (40, 30)).save(tmp_path / f'a{suffix}', exif=exif)
        header = read_header(tmp_path / f'a{suffix}')
        assert header.size == (40, 30)
        seen = cv2.imread(str(tmp_path / f'a{suffix}'), cv2.IMREAD_COLOR)
        assert header.shown_size == seen.shape[1::-1]


def test_copies_of_8_bits(tmp_path):
    root, out = tmp_path / 'in', tmp_path / 'out'
    (root / 'images/train').mkdir(parents=True)
    (root / 'annotations/train').mkdir(parents=True)
    draw(root / 'images/train/a.png', (RAMP * 400 + 100).astype(np.uint16))
    draw(root / 'images/train/b.tif', (COLOURS * 300 + 100).astype(np.float32))
    draw(root / 'images/train/c.png', (RAMP * 255).astype(np.uint8))
    draw(root / 'annotations/train/a.png', (RAMP * 3).astype(np.uint16))  # numbers of classes
    (root / 'classes.txt').write_text('a\nb\n')
    copies = write_8bit(root, out)
    assert (copies.images, copies.others, copies.limits) == (2, 3, (100, 500))
    seen = cv2.imread(str(out / 'images/train/a.png'), cv2.IMREAD_COLOR)
    expected = np.round((np.floor(RAMP * 400 + 100) - 100) / 400 * 255)
    assert np.array_equal(seen, np.stack([expected] * 3, axis=2))
    seen = cv2.imread(str(out / 'images/train/b.tif'), cv2.IMREAD_COLOR)
    assert np.abs(seen - COLOURS * 300 / 400 * 255).max() <= 0.51
    for name in ('images/train/c.png', 'annotations/train/a.png', 'classes.txt'):
        assert (out / name).read_bytes() == (root / name).read_bytes()
    findings = Findings()
    report_depth(findings, headers_of(sorted((out / 'images/train').iterdir())))
    assert findings.lines() == []
    write_8bit(root, tmp_path / 'half', (300, 500))
    seen = cv2.imread(str(tmp_path / 'half/images/train/a.png'), cv2.IMREAD_COLOR)
    assert seen[0, 10, 0] == 0 and seen[0, 30, 0] == round(107 / 200 * 255)
    for arguments, message in (
        ((root, out), 'is there: give a new folder'),
        ((out, tmp_path / 'x'), 'no image in .* has more than 8 bits'),
        ((root, tmp_path / 'x', (5, 5)), 'expected two that differ'),
        ((tmp_path / 'y', tmp_path / 'x'), 'folder not found'),
        ((root, root / 'x'), 'give a folder outside'),
    ):
        with pytest.raises(DataError, match=message):
            write_8bit(*arguments)
    assert not (tmp_path / 'x').exists()


@pytest.mark.parametrize('value', [np.inf, -np.inf, np.nan])
def test_a_value_that_is_not_finite_leaves_the_others_as_they_are(value, tmp_path, capsys):
    root, out = tmp_path / 'in', tmp_path / 'out'
    root.mkdir()
    pixels = RAMP.astype(np.float32)
    pixels[3, 20] = value
    draw(root / 'a.tif', pixels)
    draw(root / 'b.tif', np.full((30, 40), np.nan, np.float32))
    draw(root / 'c.tif', RAMP.astype(np.float32))
    findings = Findings()
    report_depth(findings, headers_of([root / 'a.tif', root / 'b.tif']))
    assert 'floating-point values of 0 to 1, which' in findings.lines()[0]
    main(['to8bit', str(root), str(out)])
    assert f'1201 values that are not finite became 0 (NaN, -inf) or 255: {root / "a.tif"} and 1 ' \
           'more\n0 is 0 and 1 is 255' in capsys.readouterr().out  # fmt: skip
    expected = np.round(RAMP * 255)
    assert np.array_equal(cv2.imread(str(out / 'c.tif'), cv2.IMREAD_GRAYSCALE), expected)
    expected[3, 20] = 255 if value == np.inf else 0
    assert np.array_equal(cv2.imread(str(out / 'a.tif'), cv2.IMREAD_GRAYSCALE), expected)
    for name in ('a.tif', 'c.tif'):
        (root / name).unlink()
    with pytest.raises(DataError, match='no finite value in 1 images'):
        write_8bit(root, tmp_path / 'none')


def test_masks_in_a_folder_of_another_name_are_refused(tmp_path):
    root = tmp_path / 'in'
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 200, (30, 40)).astype(np.uint16)  # few values, but no areas
    mask = np.kron(rng.integers(0, 30, (6, 8)), np.ones((5, 5))).astype(np.uint16)
    for name in ('camera/a.png', 'camera/b.png', 'segmentation/a.png', 'segmentation/b.tif'):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw(root / name, dark if name.startswith('camera') else mask)
    draw(root / 'camera/black.png', np.zeros((30, 40), np.uint16))
    with pytest.raises(DataError, match=f'2 of 5 images of more than 8 bits look like masks.* as '
                       f'{root}/segmentation/a.png does .{root}/segmentation.. Put masks in a '
                       'folder called masks; if they are images: --range 0 199$'):  # fmt: skip
        write_8bit(root, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    assert write_8bit(root, tmp_path / 'range', (0, 199)).images == 5
    draw(root / 'segmentation/b.tif', mask.astype(np.float32))
    with pytest.raises(DataError, match='2 of 5 images'):
        write_8bit(root, tmp_path / 'out')
    (root / 'segmentation').rename(root / 'images')
    assert write_8bit(root, tmp_path / 'images').images == 5
    (root / 'images/b.tif').rename(root / 'images/b_mask.tif')
    with pytest.raises(DataError, match='1 of 5 images'):
        write_8bit(root, tmp_path / 'out')
    (root / 'images').rename(root / 'masks')
    made = write_8bit(root, tmp_path / 'masks')
    assert (made.images, made.others) == (3, 2)


def test_nothing_is_left_of_copies_that_failed(tmp_path, monkeypatch):
    def fail(source, target):
        assert list(target.parent.glob('a.png'))  # the first is written
        raise OSError(errno.ENOSPC, 'No space left on device')

    root = tmp_path / 'in'
    root.mkdir()
    draw(root / 'a.png', (RAMP * 400).astype(np.uint16))
    (root / 'b.txt').write_text('a\n')
    monkeypatch.setattr('mmhybrid.data.depth.shutil.copy2', fail)
    with pytest.raises(OSError, match='No space') as raised:
        write_8bit(root, tmp_path / 'out')
    assert raised.value.filename == str(tmp_path / 'out')
    assert [path.name for path in tmp_path.iterdir()] == ['in']
