"""What is fuzzed: samples to damage, how each is read, and files that attack on purpose."""

import argparse
import contextlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.checkpoints import published

ROOT = Path(__file__).resolve().parents[2]


class RunsCode:
    """A pickle of it makes a file when it is read without care."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, 'w')


class Target:
    """One kind of files.

    Attributes:
        samples: good files.
        marker: exists once code of a file was run.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.marker = folder / 'marker'
        self.samples: list[Path] = []

    @contextlib.contextmanager
    def damaged(self, sample: Path, data: bytes) -> Iterator[None]:
        """Within it the sample holds other bytes."""
        good = sample.read_bytes()
        sample.write_bytes(data)
        try:
            yield
        finally:
            sample.write_bytes(good)

    def read(self, path: Path) -> str:
        """``'read'``, or what it was refused with; any other error passes through."""
        raise NotImplementedError

    def hostile(self) -> Iterator[tuple[str, Path]]:
        """Name and path of files that attack on purpose."""
        return iter(())


class Checkpoints(Target):
    """The loader of published weights: zip, legacy and safetensors files, down to the model."""

    def __init__(self, folder):
        super().__init__(folder)
        import safetensors.torch

        weights = published.deit()
        for name, content, options in (
            ('zip.pth', weights, {}),
            ('nested.pth', {'model': weights, 'epoch': 3, 'args': argparse.Namespace(lr=1)}, {}),
            ('legacy.pth', weights, dict(_use_new_zipfile_serialization=False)),
        ):
            torch.save(content, folder / name, **options)
            self.samples.append(folder / name)
        safetensors.torch.save_file(weights, folder / 'weights.safetensors')
        self.samples.append(folder / 'weights.safetensors')
        self.model = published.build_vit()

    def read(self, path):
        from mmhybrid.checkpoints import CheckpointError, load_pretrained

        try:
            load_pretrained(self.model, path, parts={'vit': ''})
        except CheckpointError as error:
            assert str(path) in str(error), f'does not name the file: {error}'
            return 'refused'
        return 'read'

    def hostile(self):
        weights = published.deit()
        for name, options in (('zip', {}), ('legacy', dict(_use_new_zipfile_serialization=False))):
            path = self.folder / f'code-{name}.pth'
            torch.save(weights | {'extra': RunsCode(self.marker)}, path, **options)
            yield f'pickle that runs code, {name}', path
        yield 'archive that expands 200-fold', self._bomb()
        path = self.folder / 'allocate.pth'
        path.write_bytes(_pickle_call(bytearray, 2**40))
        yield 'pickle that asks for a terabyte', path
        path = self.folder / 'header.safetensors'
        path.write_bytes((2**40).to_bytes(8, 'little') + b'{}')
        yield 'safetensors that declares a terabyte of header', path
        header = json.dumps(dict(x=dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42])))
        path = self.folder / 'shape.safetensors'
        path.write_bytes(len(header).to_bytes(8, 'little') + header.encode())
        yield 'safetensors that declares four terabytes of numbers', path

    def _bomb(self):
        """A checkpoint whose tensors are 1.5 GB of zeros, more than the bound, in 7 MB."""
        buffer = io.BytesIO()
        torch.save({'cls_token': torch.zeros(1, 1, 32)}, buffer)
        path = self.folder / 'bomb.pth'
        with (
            zipfile.ZipFile(buffer) as source,
            zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
        ):
            for entry in source.infolist():
                if not entry.filename.endswith('data/0'):
                    bomb.writestr(entry.filename, source.read(entry))
                    continue
                with bomb.open(entry.filename, 'w', force_zip64=True) as file:
                    for _ in range(1536):
                        file.write(bytes(2**20))
        return path


class Data(Target):
    """The check of data folders: annotation files, lists, masks and images of every layout."""

    def __init__(self, folder):
        super().__init__(folder)
        from mmhybrid.testing.folders import draw_folder

        for layout in ('coco', 'voc', 'cityscapes'):
            draw_folder(layout, folder / layout, train=2, val=1, size=(64, 64))
        coco, voc, cityscapes = (folder / name for name in ('coco', 'voc', 'cityscapes'))
        self.samples = [
            coco / 'annotations' / 'instances_train2017.json',
            *sorted((coco / 'train2017').iterdir())[:1],
            *sorted(voc.rglob('*.xml'))[:1],
            *sorted(voc.rglob('ImageSets/Main/*.txt'))[:1],
            *sorted(cityscapes.rglob('*_labelTrainIds.png'))[:1],
        ]

    def read(self, path):
        from mmhybrid.data import check

        layout = path.relative_to(self.folder).parts[0]
        root = self.folder / layout
        if layout == 'coco':
            annotations = root / 'annotations' / 'instances_train2017.json'
            if path.suffix == '.json' and path.name.startswith('hostile'):
                annotations = path
            split = check.check_coco('train', annotations, root / 'train2017', masks=True)
        elif layout == 'voc':
            voc = next(root.rglob('JPEGImages')).parent
            lists = sorted(voc.glob('ImageSets/Main/*.txt'))
            split = check.check_voc('train', voc, lists[0], ['aeroplane', 'bicycle'])
        else:
            split = check.check_masks(
                'train',
                root / 'leftImg8bit' / 'train',
                root / 'gtFine' / 'train',
                [f'class {i}' for i in range(19)],
                suffixes=('_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
            )
        lines = split.findings.lines()
        assert all(line.isprintable() for line in lines), 'control characters of a file are printed'
        return f'{layout}: {"refused" if split.findings.count("error") else "read"}'

    def hostile(self):
        coco = self.folder / 'coco' / 'annotations'
        good = json.loads((coco / 'instances_train2017.json').read_text())
        for name in ('../../../../etc/passwd', '/etc/passwd', 'a/../../b.jpg', '\x1b[2Jx.jpg', 7):
            content = json.loads(json.dumps(good))
            content['images'][0]['file_name'] = name
            path = coco / f'hostile-{len(str(name))}.json'
            path.write_text(json.dumps(content))
            yield f'file name {name!r}', path
        path = coco / 'hostile-deep.json'
        path.write_text('[' * 200_000)
        yield 'JSON nested 200,000 deep', path
        content = json.loads(json.dumps(good))
        for image in content['images']:
            image.update(width=10**9, height=10**9)
        path = coco / 'hostile-size.json'
        path.write_text(json.dumps(content))
        yield 'images of 10^18 pixels', path


class Configs(Target):
    """The config loader of the commands. A config in Python is a program and is run: what is tried
    here is that a damaged one is refused with a message, not that a hostile one is harmless."""

    def __init__(self, folder):
        super().__init__(folder)
        shutil.copytree(ROOT / 'configs', folder, dirs_exist_ok=True)
        self.samples = [
            folder / name for name in ('cmt/upernet_cmt_ti.py', 'vit_comer/maskrcnn_vitcomer_t.py')
        ]

    def read(self, path):
        from mmhybrid.cli.config import load_config
        from mmhybrid.cli.usage import UsageError
        from mmhybrid.data.coco import DataError

        args = argparse.Namespace(config=str(path), cfg_options={}, work_dir=None)
        try:
            load_config(args)
        except (UsageError, DataError) as error:
            assert path.name in str(error), f'does not name the file: {error}'
            return 'refused'
        return 'read'


def _pickle_call(function, *args) -> bytes:
    """A pickle, as torch.save writes it, that calls a function."""
    return pickle.dumps(_Call(function, args), protocol=2)


class _Call:
    def __init__(self, function, args):
        self.call = function, args

    def __reduce__(self):
        return self.call


TARGETS = {'checkpoints': Checkpoints, 'data': Data, 'configs': Configs}
