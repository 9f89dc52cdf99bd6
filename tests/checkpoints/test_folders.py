"""Folders of weights, in one file and in parts, and repositories of the Hugging Face Hub."""

import json
import shutil

import pytest
import torch

from mmhybrid.checkpoints import CheckpointError, load_pretrained, locate, read
from mmhybrid.checkpoints.folders import read_config
from tests.checkpoints.published import build_vit, deit, same_state

safetensors = pytest.importorskip('safetensors.torch')


def save_whole(folder, state_dict, name='model.safetensors'):
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith('.safetensors'):
        safetensors.save_file(state_dict, folder / name)
    else:
        torch.save(state_dict, folder / name)
    return folder


def save_parts(folder, state_dict, name='model'):
    """In two files and their index, as transformers saves what is large."""
    folder.mkdir(parents=True, exist_ok=True)
    keys, weight_map = list(state_dict), {}
    for i, part in enumerate((keys[::2], keys[1::2]), 1):
        file = f'{name}-{i:05}-of-00002.safetensors'
        safetensors.save_file({key: state_dict[key] for key in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / f'{name}.safetensors.index.json'
    index.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
    return index


def loaded(checkpoint):
    model = build_vit()
    report = load_pretrained(model, checkpoint, parts={'vit': ''})
    assert report.percent == 100
    return model.state_dict()


@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_folder_of_one_file(name, tmp_path):
    folder = save_whole(tmp_path / 'vit', deit(), name)
    assert torch.equal(loaded(str(folder))['pos_embed'], deit()['pos_embed'])


def test_folder_in_parts_and_its_index(tmp_path):
    index = save_parts(tmp_path, deit())
    for checkpoint in (tmp_path, index):
        state_dict = read(locate(checkpoint))
        assert state_dict.keys() == deit().keys()
        assert all(torch.equal(value, deit()[key]) for key, value in state_dict.items())
        loaded(checkpoint)


def refuse(checkpoint, *facts, **options):
    model = build_vit()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_pretrained(model, checkpoint, parts={'vit': ''}, **options)
    for fact in facts:
        assert fact in str(error.value)
    assert same_state(model, before)


@pytest.mark.parametrize(
    'content',
    [
        b'[1, 2]',
        b'// of an editor\n{"model_type": "vit"}',
        b'{"name": "another program", "num_attention_heads": 7}',
        b'{"model_type": 3, "num_attention_heads": 7}',
        b'{"architecture": "vit_tiny_patch16_224", "num_classes": 1000}',
        b'\xff\xfe',
        b'',
    ],
)
def test_a_config_of_another_program_is_not_read(content, tmp_path):
    torch.save(deit(), tmp_path / 'deit.pth')
    (tmp_path / 'config.json').write_bytes(content)
    loaded(tmp_path / 'deit.pth')
    assert read_config(tmp_path) == {}


def test_the_config_of_transformers_says_nothing_of_other_weights(tmp_path):
    torch.save(deit(), tmp_path / 'deit.pth')
    config = {'model_type': 'vit', 'num_attention_heads': 7}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    assert read_config(tmp_path / 'deit.pth') == config
    loaded(tmp_path / 'deit.pth')


def test_a_missing_part_is_named(tmp_path):
    save_parts(tmp_path, deit())
    (tmp_path / 'model-00002-of-00002.safetensors').unlink()
    refuse(tmp_path, 'model-00002-of-00002.safetensors', 'missing')


def test_parts_of_different_versions(tmp_path):
    save_parts(tmp_path, deit())
    safetensors.save_file({'other': torch.ones(1)}, tmp_path / 'model-00002-of-00002.safetensors')
    refuse(tmp_path, 'index.json', 'one version')


@pytest.mark.parametrize('content', ['[]', '{"weight_map": {}}', '{"weight_map": 3}', '{'])
def test_an_index_that_is_none(content, tmp_path):
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(content)
    refuse(tmp_path, str(index))


def test_an_index_names_no_file_elsewhere(tmp_path):
    save_whole(tmp_path / 'other', deit())
    index = tmp_path / 'vit' / 'model.safetensors.index.json'
    index.parent.mkdir()
    parts = dict.fromkeys(deit(), '../other/model.safetensors')
    index.write_text(json.dumps({'weight_map': parts}))
    refuse(index.parent, '../other/model.safetensors')


def test_a_folder_without_weights(tmp_path):
    refuse(tmp_path, str(tmp_path), 'folder')


def test_a_hash_is_that_of_the_one_file(tmp_path):
    folder = save_whole(tmp_path / 'vit', deit())
    refuse(folder, 'SHA-256', sha256='0' * 64)
    save_parts(tmp_path / 'parts', deit())
    refuse(tmp_path / 'parts', '2 parts', sha256='0' * 64)


class TestHub:
    """``hf_hub_download`` in front of a folder that stands for the Hub."""

    @pytest.fixture(autouse=True)
    def hub(self, tmp_path, monkeypatch):
        self.hub = pytest.importorskip('huggingface_hub')
        self.remote, self.cache = tmp_path / 'remote', tmp_path / 'cache'
        self.asked, self.error = [], None
        monkeypatch.setattr(self.hub, 'hf_hub_download', self.download)

    def download(self, repository, name, *, revision=None, local_files_only=False):
        from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

        self.asked.append((repository, name, revision, local_files_only))
        source, target = self.remote / repository / name, self.cache / repository / name
        without_network = local_files_only or isinstance(self.error, LocalEntryNotFoundError)
        if without_network and not target.exists():
            raise LocalEntryNotFoundError(name)
        if not without_network:
            if self.error is not None:
                raise self.error
            if not source.exists():
                raise EntryNotFoundError(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        return str(target)

    def fail(self, kind):
        import requests

        response = requests.Response()
        response.status_code = 403
        self.error = getattr(self.hub.utils, kind)('no', response=response)

    def test_weights_and_config(self):
        folder = save_whole(self.remote / 'org/vit', deit())
        (folder / 'config.json').write_text('{}')
        loaded('hf://org/vit')
        names = [(repository, name) for repository, name, *_ in self.asked]
        assert names == [('org/vit', 'model.safetensors'), ('org/vit', 'config.json')]

    def test_parts(self):
        save_parts(self.remote / 'org/vit', deit())
        loaded('hf://org/vit')

    def test_revision_and_file(self):
        save_whole(self.remote / 'org/vit/weights', deit(), 'vit.pth')
        loaded('hf://org/vit@v1.0/weights/vit.pth')
        assert ('org/vit', 'weights/vit.pth', 'v1.0', False) in self.asked

    @pytest.mark.parametrize('revision', ['refs/pr/3', 'refs/convert/parquet', 'main'])
    def test_revisions_with_slashes(self, revision):
        save_whole(self.remote / 'org/vit', deit())
        save_whole(self.remote / 'org/vit/weights', deit(), 'vit.pth')
        loaded(f'hf://org/vit@{revision}')
        assert ('org/vit', 'model.safetensors', revision, False) in self.asked
        loaded(f'hf://org/vit@{revision}/weights/vit.pth')
        assert ('org/vit', 'weights/vit.pth', revision, False) in self.asked

    def test_no_weights(self):
        save_whole(self.remote / 'org/vit', deit(), 'other.pth')
        refuse('hf://org/vit', 'hf://org/vit', 'model.safetensors')
        refuse('hf://org/vit/another.pth', 'another.pth')

    @pytest.mark.parametrize(
        'address',
        [
            'hf://',
            'hf://vit',
            'hf://org/',
            'hf://org/vit@',
            'hf://org/vit@refs/pr',
            'hf://org/vit@refs/pr/x',
            'hf://org/vit@refs/heads/main',
        ],
    )
    def test_addresses_that_are_none(self, address):
        refuse(address, address, 'hf://ORG/NAME')
        assert not self.asked

    @pytest.mark.parametrize(
        ('kind', 'fact'),
        [('GatedRepoError', 'HF_TOKEN'), ('RepositoryNotFoundError', 'private')],
    )
    def test_no_access(self, kind, fact):
        self.fail(kind)
        refuse('hf://org/vit', 'hf://org/vit', fact)

    def test_without_a_network_the_cache_is_read(self):
        save_whole(self.remote / 'org/vit', deit())
        loaded('hf://org/vit')
        from huggingface_hub.utils import LocalEntryNotFoundError

        shutil.rmtree(self.remote)
        self.error = LocalEntryNotFoundError('no network')
        loaded('hf://org/vit')
        self.asked.clear()
        refuse('hf://org/another', 'HF_HUB_OFFLINE')
        assert [offline for *_, offline in self.asked] == [False, True, True, True]  # one wait

    def test_another_failure(self):
        self.error = OSError('broken pipe')
        refuse('hf://org/vit', 'broken pipe')
