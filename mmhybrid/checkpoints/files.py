"""From what a user writes (a path, an address, a name) to what the file holds, safely."""

import difflib
import hashlib
import pickle
import re
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..files import write_atomically
from .errors import CheckpointError
from .file_kinds import (
    TORCH_MAGIC,
    describe_folder,
    is_bare_pickle,
    is_text,
    name_archive,
    name_head,
    name_pickle,
)
from .folders import HUB, from_hub, is_folder, join_parts, weight_files
from .names import OFFICIAL_FILES

SCHEMES = ('http', 'https')


class Bookkeeping:
    """Stands for an object of a training file that is not needed to read its weights.

    It takes whatever a pickle gives such an object, keeps nothing and runs nothing.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Bookkeeping':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Objects that the training loops around the supported models keep beside the weights. A pickle
# that names one of these gets a Bookkeeping; one that names anything else but tensors is refused.
BOOKKEEPING = (
    'argparse.Namespace',
    'builtins.getattr',
    '_codecs.encode',
    'mmengine.config.config.ConfigDict',
    'mmengine.logging.history_buffer.HistoryBuffer',
    'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
    'numpy.dtype',
    'numpy.ndarray',
    'pathlib.PosixPath',
    'pathlib.WindowsPath',
)


def _stand_in(name):
    module, _, qualname = name.rpartition('.')
    return type(qualname, (Bookkeeping,), {'__module__': module})


STAND_INS = [_stand_in(name) for name in BOOKKEEPING]


def cache_folder() -> Path:
    """Return the folder of downloads, torch.hub's own: ``torch.hub.get_dir()``/checkpoints."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def locate(checkpoint: str | Path, *, sha256: str | None = None) -> Path:
    """Turn a path, an address or an official name into a local file, downloading if need be.

    Args:
        checkpoint: a path of a file or of a folder as transformers saves it, an http(s) or file
            address, 'hf://ORG/NAME' (see :func:`from_hub`), or a name of ``OFFICIAL_FILES``.
        sha256: the file's expected hash or its first digits (8 or more); for a name and for an
            address that ends in '-HASH.pth' it is known without being given.

    Returns:
        The path of a file whose hash, where known, has been checked; or of a folder.

    Raises:
        CheckpointError: no such file or name, no network, wrong hash.
    """
    checkpoint = str(checkpoint)
    if checkpoint.startswith('file:'):
        checkpoint = urllib.request.url2pathname(urllib.parse.urlsplit(checkpoint).path)
    if checkpoint.startswith(HUB):
        path, known = from_hub(checkpoint), None
    elif re.match(r'[a-z][a-z0-9+.-]*://', checkpoint):
        path, known = _from_url(checkpoint)
    elif checkpoint in OFFICIAL_FILES and not Path(checkpoint).exists():
        path, known = _from_name(checkpoint)
    else:
        path, known = Path(checkpoint).expanduser(), None
        if path.is_dir() and not is_folder(path):
            raise CheckpointError(describe_folder(path))
        if not path.exists():
            close = difflib.get_close_matches(checkpoint, OFFICIAL_FILES, n=3)
            hint = ' The names are listed by: mmhybrid weights'
            hint = f' Did you mean the official {" or ".join(close)}?' if close else hint
            raise CheckpointError(
                f'there is no file {path}, and no official file of that name.{hint}'
            )
    for expected in filter(None, (known, sha256)):
        files = weight_files(path) if is_folder(path) else [path]
        if len(files) > 1:
            raise CheckpointError(f'{path} is in {len(files)} parts: one sha256 is of none of them')
        check_hash(files[0], expected)
    return path


def check_hash(path: Path, sha256: str) -> None:
    """Raise CheckpointError unless the file's SHA-256 starts with ``sha256``."""
    if not re.fullmatch(r'[0-9a-fA-F]{8,64}', str(sha256)):
        raise CheckpointError(f'sha256={sha256!r} is not 8 to 64 hexadecimal digits')
    actual = _hash(path)
    if not actual.startswith(sha256.lower()):
        raise CheckpointError(
            f'{path} is not the file it should be: its SHA-256 is {actual}, expected {sha256}... '
            'Put the right file in its place, or correct the hash'
        )


def _hash(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(url: str, path: Path, *, sha256: str | None = None) -> None:
    """Download to ``path`` in one step: it is complete and checked, or it is not there.

    Raises:
        CheckpointError: no network, an incomplete or wrong file. Says the address, the folder to
            put the file in by hand, and how to go on without it.
    """
    path = Path(path)
    try:
        with write_atomically(path) as draft:
            with open(draft, 'wb') as file, urllib.request.urlopen(url, timeout=60) as response:
                length = response.headers.get('Content-Length')
                while block := response.read(1 << 20):
                    file.write(block)
                if length is not None and file.tell() != int(length):
                    raise OSError(f'{file.tell()} of {length} bytes arrived')
            if sha256 and not (actual := _hash(draft)).startswith(sha256):
                raise CheckpointError(
                    f'{url} gives another file than it should: its SHA-256 is {actual}, expected '
                    f'{sha256}...; it was not kept. If it is right, give the path of a copy'
                )
    except (OSError, ValueError) as error:  # URLError, timeouts and lost connections are OSError
        raise CheckpointError(
            f'could not download {url} ({error}). {_by_hand(url, path)}'
        ) from error


def read(path: Path, *, trust: bool = False) -> Any:
    """Read a .pth, .safetensors or .npz file without running code from it.

    Args:
        path: the file, a folder with it, or the index of one in parts.
        trust: read a pickle by running what it names. Only for a file whose author you trust.

    Returns:
        The content of the file, tensors on the CPU; for .safetensors and .npz a state dict.

    Raises:
        CheckpointError: empty, cut short, damaged, of another kind (which it names), or a pickle
            that needs code.
    """
    path = Path(path)
    if is_folder(path):
        return join_parts(path, [read(part, trust=trust) for part in weight_files(path)])
    head = _first_bytes(path)
    if head[8:9] == b'{' and (path.suffix == '.safetensors' or head[9:10] == b'"'):
        return _read_safetensors(path)  # its header follows its length
    zipped = zipfile.is_zipfile(path)
    if zipped and _is_numpy(path):
        return _read_numpy(path)
    if kind := name_head(path, head) or (zipped and name_archive(path)):
        raise CheckpointError(f'{path} is {kind}')
    if head.startswith(b'PK') and not zipped:
        raise CheckpointError(f'{path} is cut short (its end is missing): {_again(path)}')
    if is_bare_pickle(head) and (kind := name_pickle(path)):
        return _read_pickle(path, kind, trust=trust)
    try:
        if zipped:
            _check_archive(path)
        if trust:
            return _as_tensors(torch.load(path, map_location='cpu', weights_only=False))
        with torch.serialization.safe_globals(STAND_INS):
            return torch.load(path, map_location='cpu', weights_only=True, mmap=zipped)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        needs = _what_it_needs(str(error), zipped)
        if needs and not trust:
            raise CheckpointError(
                f'{path} cannot be read without running code from it: it needs {needs}. {_TRUST} '
                f'{path} OUT.pth'
            ) from error
        raise CheckpointError(_damaged(path, head, zipped)) from error
    except Exception as error:  # what torch meets in a damaged file is of any kind
        raise CheckpointError(_damaged(path, head, zipped, error)) from error


_TRUST = 'If you trust its author, convert it once: mmhybrid convert --trust'


def _damaged(path, head, zipped, error=None):
    """Say that a file is damaged, if it is one that torch.save began; else that it is none."""
    if zipped or head.startswith(TORCH_MAGIC) or path.suffix == '.safetensors':
        reason = f' ({str(error) or type(error).__name__})' if error else ''
        return f'{path} is damaged{reason}: {_again(path)}'
    return (
        f'{path} is no checkpoint: {"text" if is_text(head) else "bytes"} that neither torch.save '
        'nor safetensors nor NumPy wrote, or what is left of one without its beginning'
    )


def _read_pickle(path, kind, *, trust):
    if not trust:
        raise CheckpointError(
            f'{path} is {kind}, and cannot be read without running code from it. {_TRUST} {path} '
            'OUT.pth'
        )
    with open(path, 'rb') as file:
        return _as_tensors(pickle.load(file, encoding='latin1'))


def _as_tensors(content):
    """Replace the arrays of NumPy in nested dicts by tensors."""
    if isinstance(content, dict):
        return {key: _as_tensors(value) for key, value in content.items()}
    if type(content).__module__ == 'numpy' and hasattr(content, 'ndim') and content.ndim:
        return torch.as_tensor(content)
    return content


def _is_numpy(path):
    with zipfile.ZipFile(path) as archive:
        return all(name.endswith('.npy') for name in archive.namelist())


def _check_archive(path):
    """Raise CheckpointError if a zip archive is compressed.

    torch.save does not compress; torch takes the bytes of a mapped file for numbers as they are.
    """
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise CheckpointError(
                f'{path} is a compressed archive, which torch.save does not write: unpack it and '
                'give the checkpoint in it, or load it with torch and save it again'
            )


def _what_it_needs(text, whole):
    """Return what a pickle needs beyond data, by torch's message; None if it is damaged."""
    if match := re.search(r'(?i)unsupported global(?:: global)? ([\w.]+)', text):
        return match[1].rstrip('.')
    if 'unrecognized function' in text:
        return 'a function'
    # The safe reader knows pickle protocol 2, what torch.save writes unless told otherwise.
    return 'another pickle protocol' if whole and 'Unsupported operand' in text else None


def _from_url(url):
    scheme = url.split('://')[0]
    if scheme not in SCHEMES:
        raise CheckpointError(
            f'addresses of the kind {scheme}:// are not supported ({url}); known are '
            f'{", ".join(SCHEMES)}. Download the file and give its path'
        )
    for name, official in OFFICIAL_FILES.items():
        if official.url == url:
            return _from_name(name)
    file_name = url.split('?')[0].rstrip('/').rsplit('/', 1)[-1]
    # The convention of torch.hub: the first digits of the hash end the name. A date is no hash.
    known = re.search(r'-(?=[0-9]*[a-f])([0-9a-f]{8,64})\.[a-z]+$', file_name)
    known = known[1] if known else None
    folder = cache_folder()
    if known is None:  # other addresses end in the same name: model.safetensors
        folder /= hashlib.sha256(url.encode()).hexdigest()[:16]
    path = folder / file_name
    if not path.exists():
        download(url, path, sha256=known)
    return path, known


def _from_name(name):
    official = OFFICIAL_FILES[name]
    if official.refusal:
        raise CheckpointError(f'{name}: {official.refusal}')
    path = cache_folder() / official.file_name
    if not path.exists():
        if official.url is None:
            other = f'; {official.other} can be had at once' if official.other else ''
            raise CheckpointError(
                f'{name} is given out by its authors, at {official.request}. Put the '
                f'file {official.file_name} into {path.parent}, or give its path{other}'
            )
        download(official.url, path, sha256=official.sha256)
    return path, official.sha256


def _first_bytes(path):
    if path.is_dir():
        raise CheckpointError(describe_folder(path))
    try:
        with open(path, 'rb') as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f'{path} cannot be opened: {error.strerror}') from error
    if not head:
        raise CheckpointError(f'{path} is empty: {_again(path)}')
    if head.startswith(b'version https://git-lfs'):
        raise CheckpointError(f'{path} is a Git LFS pointer, not the file: run git lfs pull')
    if b'\0' in head:
        return head
    if head.lstrip().startswith(b'{'):
        raise CheckpointError(
            f'{path} is text, not weights; is it the index of a file in parts? Give the file that '
            'holds the weights'
        )
    if head.lstrip().startswith(b'<'):
        raise CheckpointError(f'{path} is a web page, not a checkpoint: {_again(path)}')
    return head


def _read_safetensors(path):
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise CheckpointError(
            f'{path} needs the package safetensors: pip install safetensors'
        ) from error
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f'{path} is damaged ({error}): {_again(path)}') from error


def _read_numpy(path):
    try:
        import numpy as np
    except ImportError as error:
        raise CheckpointError(f'{path} needs the package numpy: pip install numpy') from error
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # as above
        if 'allow_pickle' in str(error):
            raise CheckpointError(
                f'{path} has arrays of Python objects, which cannot be read without running code'
            ) from error
        raise CheckpointError(f'{path} is damaged ({error}): {_again(path)}') from error


def _by_hand(url, path):
    return (
        f'Fetch it by hand into {path.parent} under the name {path.name}, give the path of a file '
        'in its place, or begin from random weights: init_cfg=None, and no option weights=...'
    )


def _again(path):
    return 'download or copy it again'
