"""Folders of weights as transformers and timm save them, here or on the Hugging Face Hub."""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from .errors import CheckpointError

HUB = 'hf://'
INDEX = '.index.json'
# Names of the weights in a folder, the first that is there is read.
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
CONFIG = 'config.json'


def is_folder(path: Path) -> bool:
    """Return True for a folder of weights, or the index of such a folder."""
    return bool(_first(path)) if path.is_dir() else path.name.endswith(INDEX)


def _first(folder: Path) -> list[Path]:
    """Find what says first where the weights of a folder are: their file, or their index."""
    files = [folder / f'{name}{end}' for name in WEIGHTS for end in ('', INDEX)]
    return [file for file in files if file.exists()][:1]


def weight_files(path: Path) -> list[Path]:
    """List the files that hold the weights of a folder.

    Args:
        path: the folder, see :func:`is_folder`, or the index in it that names the parts.

    Raises:
        CheckpointError: the index is none, or names files that are not there.
    """
    if path.is_dir():
        (path,) = _first(path)
    return _parts(path) if path.name.endswith(INDEX) else [path]


def _parts(index: Path) -> list[Path]:
    names = part_names(index)
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f'{index} names {len(names)} parts, of which {missing[0]} is missing; put all of them '
            'beside it'
        )
    return [index.parent / name for name in names]


def part_names(index: Path) -> list[str]:
    """List the files that an index names."""
    parts = _read_object(index).get('weight_map')
    if not isinstance(parts, Mapping) or not parts:
        raise CheckpointError(f'{index} has no weight_map: it is not the index of weights in parts')
    names = sorted(set(map(str, parts.values())))
    outside = [name for name in names if PurePosixPath(name).name != name]
    if outside:
        raise CheckpointError(f'{index} names {outside[0]}, which is no file beside it')
    return names


def join_parts(path: Path, parts: list[Mapping]) -> dict:
    """Join the state dicts of the files of :func:`weight_files`.

    Raises:
        CheckpointError: a key that the index names is in none of them.
    """
    joined = {key: value for part in parts for key, value in part.items()}
    (index,) = _first(path) if path.is_dir() else [path]
    if index.name.endswith(INDEX):
        missing = [key for key in _read_object(index)['weight_map'] if key not in joined]
        if missing:
            raise CheckpointError(
                f'{index} names {missing[0]} and {len(missing) - 1} more keys that are in none of '
                f'the {len(parts)} parts: get them anew, all of one version'
            )
    return joined


def read_config(path: Path) -> dict:
    """Read the ``config.json`` of transformers that lies with weights.

    Args:
        path: a folder, or a file in it.

    Returns:
        Its content; {} if there is none, or if it is another program's, of which any may lie
        beside a file of weights.
    """
    try:
        content = _read_object((path if path.is_dir() else path.parent) / CONFIG)
    except CheckpointError:
        return {}
    return content if isinstance(content.get('model_type'), str) else {}


def _read_object(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds a {type(content).__name__}, expected an object')
    return content


def from_hub(address: str) -> Path:
    """Fetch the weights of a repository of the Hugging Face Hub into the Hub's own cache.

    Args:
        address: 'hf://ORG/NAME', with '@REVISION' for another than the newest, and '/FILE' for one
            file of it. Of revisions with slashes those of the Hub's own are taken, 'refs/pr/3' and
            'refs/convert/parquet'. The Hub's token and its offline mode (``HF_TOKEN``,
            ``HF_HUB_OFFLINE``) count here too.

    Returns:
        The folder, or the file.

    Raises:
        CheckpointError: no such repository or file, no access, no network.
    """
    revision = r'refs/pr/\d+|refs/convert/\w+|(?!refs/)[^/]+'
    match = re.fullmatch(rf'hf://([\w.-]+/[\w.-]+)(?:@({revision}))?(?:/(.+))?', address)
    if match is None:
        raise CheckpointError(f'{address} is no address of a repository: give hf://ORG/NAME')
    repository, revision, file = match.groups()
    try:
        import huggingface_hub
        from huggingface_hub.utils import (
            EntryNotFoundError,
            GatedRepoError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise CheckpointError(
            f'{address} needs the package huggingface_hub: pip install huggingface_hub'
        ) from error
    offline = False

    def fetch(name: str) -> Path | None:
        nonlocal offline
        try:
            path = huggingface_hub.hf_hub_download(
                repository, name, revision=revision, local_files_only=offline
            )
        except LocalEntryNotFoundError:  # do not wait for the network again
            offline = True
            return None
        except EntryNotFoundError:
            return None
        return Path(path)

    try:
        found = _fetch_weights(fetch, file)
    except GatedRepoError as error:
        raise CheckpointError(
            f'{address} is open to those who agreed to its terms: agree on its page, then log in '
            '(hf auth login, or HF_TOKEN)'
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f'{address} is not there, or private: check name and revision, and log in for a '
            'private one (hf auth login, or HF_TOKEN)'
        ) from error
    except OSError as error:  # what else goes wrong between here and there
        raise CheckpointError(f'{address} could not be fetched: {error}') from error
    if found is not None:
        return found
    wanted = file or ' or '.join(WEIGHTS)
    if offline:
        raise CheckpointError(
            f'{address}: there is no network (or HF_HUB_OFFLINE is set), and {wanted} is not in '
            "the Hub's cache. Fetch it where there is a network, and give the path of the folder"
        )
    raise CheckpointError(f'{address} has no {wanted}; give the file, hf://ORG/NAME/FILE')


def _fetch_weights(fetch, file: str | None) -> Path | None:
    """Fetch one file, or the weights of a repository, and the config beside them."""
    if file is not None:
        path = fetch(file)
        if path is not None:
            fetch(str(PurePosixPath(file).with_name(CONFIG)))
        return path
    for name in WEIGHTS:
        path = fetch(name)
        if path is None and (index := fetch(f'{name}{INDEX}')) is not None:
            path = index
            if None in [fetch(part) for part in part_names(index)]:
                return None
        if path is not None:
            fetch(CONFIG)
            return path.parent
    return None
