"""What a user may point at, and what becomes of files that are not what they seem."""

import argparse
import hashlib
import http.server
import os
import pickle
import shutil
import threading
import zipfile

import pytest
import torch

from mmhybrid.checkpoints import (
    OFFICIAL_FILES,
    CheckpointError,
    cache_folder,
    load_pretrained,
    locate,
    read,
)
from tests.checkpoints import published

LEGACY = dict(_use_new_zipfile_serialization=False)


class Malicious:
    """A pickle of it runs a shell command when it is read without care."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    assert cache_folder() == tmp_path / 'hub' / 'checkpoints'
    return cache_folder()


@pytest.fixture
def server(tmp_path):
    """Serves a folder on this machine; 'short/NAME' breaks off half-way."""
    folder = tmp_path / 'served'
    folder.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = (folder / self.path.rsplit('/', 1)[-1]).read_bytes()
            self.send_response(200)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            half = self.path.startswith('/short/')
            self.wfile.write(content[: len(content) // 2] if half else content)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(('127.0.0.1', 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield folder, f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()
        thread.join()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save(path, content=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(published.deit() if content is None else content, path, **options)
    return path


def kept(cache):
    """The files in the cache."""
    return [str(path) for path in cache.rglob('*') if path.is_file()]


def refused(function, *args, **kwargs):
    with pytest.raises(CheckpointError) as error:
        function(*args, **kwargs)
    return str(error.value)


def test_no_such_file():
    assert 'there is no file nowhere/deit.pth' in refused(locate, 'nowhere/deit.pth')
    assert 'deit_base_patch16_224' in refused(locate, 'deit_bas_patch16_224')


def test_folder(tmp_path):
    assert 'is a folder' in refused(locate, tmp_path)
    assert 'is a folder' in refused(read, tmp_path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'is empty'),
        (b'<!DOCTYPE html><html>not found</html>', 'is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\n', 'Git LFS pointer'),
        (b'PK\x03\x04 and then nothing', 'cut short'),
        (b'{"weight_map": {"cls_token": "model-00001.safetensors"}}', 'is text'),
        (b'some text that is no checkpoint at all', 'is no checkpoint: text'),
        (pickle.dumps([1, 2, 3], protocol=2)[:-3], 'is no checkpoint: bytes'),
    ],
)
def test_content_that_is_no_checkpoint(tmp_path, content, message):
    path = tmp_path / 'weights.pth'
    path.write_bytes(content)
    text = refused(read, path)
    assert message in text and str(path) in text
    assert 'damaged' not in text and 'delete' not in text.lower()


@pytest.mark.parametrize('options', [{}, LEGACY], ids=['zip', 'legacy'])
def test_truncated_file(tmp_path, options):
    path = save(tmp_path / 'weights.pth', **options)
    content = path.read_bytes()
    for part in (0.1, 0.5, 0.99):
        path.write_bytes(content[: int(part * len(content))])
        message = refused(read, path)
        assert 'cut short' in message or 'damaged' in message
        assert 'download or copy it again' in message


def test_compressed_archive(tmp_path):
    path = save(tmp_path / 'weights.pth')
    with (
        zipfile.ZipFile(path) as good,
        zipfile.ZipFile(tmp_path / 'small.pth', 'w', zipfile.ZIP_DEFLATED) as small,
    ):
        for entry in good.infolist():
            small.writestr(entry.filename, good.read(entry))
    assert 'is a compressed archive' in refused(read, tmp_path / 'small.pth')


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'weights.safetensors'
    state_dict = published.dinov2()
    safetensors.save_file(state_dict, path)
    model = published.build_vit('dinov2')
    assert load_pretrained(model, path, parts={'vit': ''}).percent == 100
    assert torch.equal(model.cls_token, state_dict['cls_token'])
    content = path.read_bytes()
    other_name = tmp_path / 'weights.bin'
    other_name.write_bytes(content)
    assert read(other_name).keys() == state_dict.keys()
    for part in (0.0001, 0.5, 0.99):
        path.write_bytes(content[: 1 + int(part * len(content))])
        assert 'damaged' in refused(read, path)


@pytest.mark.parametrize('save_arrays', ['savez', 'savez_compressed'])
def test_npz(tmp_path, save_arrays):
    numpy = pytest.importorskip('numpy')
    path = tmp_path / 'Ti_16-i21k-300ep.npz'
    state_dict = published.augreg()
    getattr(numpy, save_arrays)(path, **{name: t.numpy() for name, t in state_dict.items()})
    model = published.build_vit()
    report = load_pretrained(model, path, parts={'vit': ''})
    assert report.percent == 100 and report.source == 'AugReg (npz)'
    assert torch.equal(model.cls_token, state_dict['cls'])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b'0' + content[len(content) // 2 + 1 :])
    assert 'damaged' in refused(read, path)
    marker = tmp_path / 'marker'
    numpy.savez(path, x=numpy.array([Malicious(marker)], dtype=object))
    message = refused(read, path)
    assert 'without running code' in message and 'damaged' not in message
    assert not marker.exists()


@pytest.mark.parametrize('options', [{}, LEGACY], ids=['zip', 'legacy'])
def test_pickle_that_needs_code_is_refused_and_not_run(tmp_path, options):
    marker = tmp_path / 'marker'
    content = published.deit() | {'meta': Malicious(marker)}
    path = save(tmp_path / 'weights.pth', content, **options)
    model = published.build_vit()
    before = published.copy_state(model)
    message = refused(load_pretrained, model, path, parts={'vit': ''})
    assert 'without running code from it' in message and 'it needs posix.system' in message
    assert f'mmhybrid convert --trust {path} OUT.pth' in message
    assert published.same_state(model, before)
    assert not marker.exists()
    read(path, trust=True)
    assert marker.exists()


def test_pickled_module_is_refused(tmp_path):
    path = save(tmp_path / 'weights.pth', {'model': published.build_vit()})
    assert 'it needs mmhybrid.models.backbones.vit.ViT' in refused(read, path)


def test_other_pickle_protocols_are_refused(tmp_path):
    path = save(tmp_path / 'weights.pth', pickle_protocol=4)
    with pytest.warns(UserWarning, match='protocol 4'):
        assert 'it needs another pickle protocol' in refused(read, path)


@pytest.mark.parametrize('name', ['getattr', 'eval', 'exec', '__import__'])
def test_builtin_functions_are_not_reached(tmp_path, name):
    marker = tmp_path / 'marker'

    class Call:
        def __reduce__(self):
            return __builtins__[name], (f"open({str(marker)!r}, 'w')", 'x')[
                : 1 + (name == 'getattr')
            ]

    path = save(tmp_path / 'weights.pth', {'model': published.deit(), 'extra': Call()})
    if name == 'getattr':  # stands for nothing: what training files name with it is not needed
        assert not callable(read(path)['extra'])
    else:
        assert 'without running code' in refused(read, path)
    assert not marker.exists()


def test_bookkeeping_of_training_is_read_over(tmp_path):
    numpy = pytest.importorskip('numpy')
    logging = pytest.importorskip('mmengine.logging')
    history = logging.HistoryBuffer()
    history.update(0.5)
    content = {
        'state_dict': {f'backbone.{k}': v for k, v in published.deit().items()},
        'args': argparse.Namespace(lr=0.1),
        'message_hub': {'log_scalars': {'loss': history}, 'best': numpy.float64(0.1)},
        'meta': {'epoch': 3, 'cfg': 'model = dict()'},
    }
    model = published.build_vit()
    path = save(tmp_path / 'epoch_3.pth', content)
    report = load_pretrained(model, path, parts={'vit': ''})
    assert report.found == 'state_dict backbone.'
    assert torch.equal(model.cls_token, published.deit()['cls_token'])


def test_hash_is_checked(tmp_path):
    path = save(tmp_path / 'weights.pth')
    good = sha256(path)
    assert locate(path, sha256=good) == locate(path, sha256=good[:8].upper()) == path
    wrong = ('0' if good[0] != '0' else '1') + good[1:8]
    message = refused(locate, path, sha256=wrong)
    assert good in message and wrong in message and 'delete' not in message.lower()
    assert 'hexadecimal' in refused(locate, path, sha256='abc')


def test_address(cache, server):
    folder, url = server
    path = save(folder / 'weights.pth')
    model = published.build_vit()
    report = load_pretrained(model, f'{url}/weights.pth', parts={'vit': ''})
    assert [report.file] == kept(cache)
    path.unlink()  # the second time it comes from the cache
    load_pretrained(model, f'{url}/weights.pth', parts={'vit': ''})


def test_addresses_that_end_in_the_same_name(cache, server):
    folder, url = server
    for value in (0.0, 1.0):
        save(folder / 'model.pth', {'weight': torch.tensor(value)})
        assert read(locate(f'{url}/of_{value}/resolve/main/model.pth'))['weight'] == value
    assert len(kept(cache)) == 2


def test_address_of_a_file_on_this_machine(cache, tmp_path):
    path = tmp_path / 'my weights.pth'
    for value in (0.0, 1.0):  # it may change
        save(path, {'weight': torch.tensor(value)})
        assert read(locate(path.as_uri()))['weight'] == value


def test_official_address(cache):
    official = OFFICIAL_FILES['dinov2_vits14']
    path = save(cache / official.file_name)
    assert locate(official.url) == path


def test_address_with_a_hash_in_its_name(cache, server):
    folder, url = server
    path = save(folder / 'weights.pth')
    named = path.rename(folder / f'weights-{sha256(path)[:8]}.pth')
    assert locate(f'{url}/{named.name}') == cache / named.name
    wrong = save(folder / 'other-0123456a.pth')
    message = refused(locate, f'{url}/{wrong.name}')
    assert 'SHA-256' in message and f'{url}/{wrong.name}' in message
    dated = save(folder / 'weights-20210928.pth')
    assert read(locate(f'{url}/{dated.name}')).keys() == published.deit().keys()
    shutil.rmtree(next(p for p in cache.iterdir() if p.is_dir()))
    assert [p.name for p in cache.iterdir()] == [named.name]
    (cache / named.name).write_bytes(b'changed later')
    assert 'SHA-256' in refused(locate, f'{url}/{named.name}')


def test_download_that_breaks_off_leaves_nothing(cache, server):
    folder, url = server
    save(folder / 'weights.pth')
    message = refused(locate, f'{url}/short/weights.pth')
    assert 'could not download' in message
    assert not kept(cache)


def test_no_network(cache, server):
    _, url = server
    url = f'{url.rpartition(":")[0]}:1/weights.pth'  # nothing listens there
    message = refused(locate, url)
    assert url in message and str(cache) in message and 'init_cfg=None' in message
    assert not kept(cache)


def test_other_addresses():
    assert 's3:// are not supported' in refused(locate, 's3://bucket/weights.pth')


def test_official_names(cache):
    for name, official in OFFICIAL_FILES.items():
        assert official.file_name.endswith(('.pth', '.pt', '.safetensors'))
        assert official.url or official.request
        if official.url:
            # timm's files are all of one name, each in a folder of its own.
            assert official.url.endswith((f'/{official.file_name}', '/model.safetensors'))
        if name.startswith('deit'):
            assert official.file_name == f'{name}-{official.sha256}.pth'
    save(cache / 'dinov2_vits14_reg4_pretrain.pth')
    assert locate('dinov2_vits14_reg4').parent == cache
    message = refused(locate, 'dinov3_vits16')
    assert OFFICIAL_FILES['dinov3_vits16'].request in message
    assert 'dinov3_vits16_pretrain_lvd1689m-08c60483.pth' in message and str(cache) in message
    # Another file under the official name is found out.
    save(cache / OFFICIAL_FILES['deit_tiny_patch16_224'].file_name)
    assert 'SHA-256' in refused(locate, 'deit_tiny_patch16_224')
