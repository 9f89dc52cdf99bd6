"""Files that hold something else than a checkpoint, or hold it in another way, named for it."""

import pickletools
import zipfile
from pathlib import Path

TORCH_MAGIC = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'  # of torch.save before 1.6
HEADS = (
    (b'\x1f\x8b', 'compressed by gzip: unpack it first'),
    (b'BZh', 'compressed by bzip2: unpack it first'),
    (b'\xfd7zXZ\0', 'compressed by xz: unpack it first'),
    (b'\x28\xb5\x2f\xfd', 'compressed by zstd: unpack it first'),
    (b'7z\xbc\xaf\x27\x1c', 'a 7z archive: unpack it first'),
    (b'\x89HDF\r\n\x1a\n', 'an HDF5 file, as Keras writes; TensorFlow is not supported'),
    (b'GGUF', 'a GGUF file, whose weights are quantised; give those it was made of'),
    (b'\x93NUMPY', 'one array of NumPy (.npy); weights by name are an .npz'),
    (b'%PDF', 'a PDF document'),
    (b'\x89PNG', 'an image'),
    (b'\xff\xd8\xff', 'an image'),
)
SUFFIXES = {
    '.distcp': 'a part of a folder of torch.distributed.checkpoint; give that folder',
    '.onnx': 'an ONNX graph; give the weights it was exported from',
    '.engine': 'a TensorRT engine; give the weights it was built from',
    '.msgpack': 'weights of Flax; save them by torch or safetensors',
    '.index': 'a part of a TensorFlow checkpoint, which is not supported',
}


def name_head(path: Path, head: bytes) -> str | None:
    """Name a file by its suffix and first bytes if it is of another kind than a checkpoint."""
    if path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    for start, kind in HEADS:
        if head.startswith(start):
            return kind
    if _is_tar(path):
        return 'a tar archive: unpack it first'
    return None


def name_archive(path: Path) -> str | None:
    """Name a zip archive by the files in it, None if torch.save or NumPy may have written it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.partition('/')[2] for name in names}
    if 'constants.pkl' in inner and 'data.pkl' in inner:
        return (
            'a TorchScript archive, a program with its weights; save these alone: '
            'torch.save(torch.jit.load(PATH).state_dict(), OUT)'
        )
    if {'archive_format', 'serialized_exported_program.json'} & (inner | set(names)):
        return (
            'a program of torch.export with its weights; save these alone: '
            'torch.save(torch.export.load(PATH).state_dict, OUT)'
        )
    if 'data.pkl' not in inner and not all(name.endswith('.npy') for name in names):
        return f'a zip archive that torch.save did not write, of {", ".join(names[:3])}; unpack it'
    return None


def name_pickle(path: Path) -> str | None:
    """Name a pickle by what it is made of, without building it; None if it is no whole pickle.

    Bare pickles only: torch.save's own begin with a magic number or are zip archives.
    """
    names, strings = set(), ['', '']
    try:
        with open(path, 'rb') as file:
            for code, argument, _ in pickletools.genops(file):
                if code.name == 'GLOBAL':
                    names.add(str(argument).replace(' ', '.'))
                elif code.name == 'STACK_GLOBAL':
                    names.add('.'.join(strings))
                elif isinstance(argument, str):
                    strings = [strings[1], argument]
    except Exception:  # of any kind where it is no pickle
        return None
    if any(name.startswith('torch.') for name in names):
        return 'a pickle of tensors that torch.save did not write'
    if any(name.startswith('numpy.') for name in names):
        return 'a pickle of NumPy arrays, as detectron2 and vissl write'
    return 'a pickle without tensors or arrays'


def is_bare_pickle(head: bytes) -> bool:
    """Return True for the first bytes of a pickle that torch.save did not write."""
    return head[:1] == b'\x80' and head[1:2] <= b'\x05' and not head.startswith(TORCH_MAGIC)


def is_text(head: bytes) -> bool:
    """Return True if these bytes can be read as a text's first."""
    return all(byte in b'\t\n\r' or 32 <= byte < 127 for byte in head)


def describe_folder(path: Path) -> str:
    """Say what is in a folder that was given for a file, and what to give instead."""
    if (path / '.metadata').exists() and any(path.glob('*.distcp')):
        return (
            f'{path} is a folder of torch.distributed.checkpoint, whose index is a pickle. If you '
            'trust its author, join it: python -m torch.distributed.checkpoint.format_utils '
            f'dcp_to_torch {path} OUT.pth (dcp_to_torch_save in Python), and give OUT.pth'
        )
    suffixes = ('.pth', '.pt', '.bin', '.safetensors', '.npz', '.ckpt')
    files = sorted(file.name for file in path.iterdir() if file.suffix in suffixes)
    hint = f', {" or ".join(files[:3])} for example' if files else '; there is none in it'
    return f'{path} is a folder; give the checkpoint file in it{hint}'


def _is_tar(path):
    with open(path, 'rb') as file:
        file.seek(257)
        return file.read(5) == b'ustar'
