"""Files of other kinds are called by their names; only what is damaged is called so."""

import gzip
import pickle
import tarfile
import zipfile

import pytest
import torch
from torch import nn

from mmhybrid.checkpoints import CheckpointError, load_pretrained, load_weights, locate, read
from mmhybrid.models.backbones import BACKBONES
from tests.checkpoints import published
from tests.checkpoints.published import build_vit, copy_state, same_state

numpy = pytest.importorskip('numpy')


def arrays():
    return {name: tensor.numpy() for name, tensor in published.deit().items()}


def script(path):
    torch.jit.script(nn.Linear(3, 4)).save(str(path))


def export(path):
    torch.export.save(torch.export.export(nn.Linear(3, 4), (torch.ones(2, 3),)), path)


def detectron2(path):
    path.write_bytes(pickle.dumps({'model': arrays(), '__author__': 'a', 'matching_heuristics': 1}))


def vissl(path):
    path.write_bytes(pickle.dumps({'model': arrays()}, protocol=2))


def tensors(path):
    path.write_bytes(pickle.dumps({'model': {'weight': torch.ones(2)}}))


def archive(path):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('folder/weights.pth', b'x')


def tar(path):
    inner = path.with_name('inner')
    inner.write_bytes(b'x' * 10)
    with tarfile.open(path, 'w') as file:
        file.add(inner, arcname='inner')


def gzipped(path):
    path.write_bytes(gzip.compress(pickle.dumps(published.deit())))


def text(path):
    path.write_text('model = dict(type="EncoderDecoder")\n' * 9)


KINDS = {
    script: ('TorchScript', 'state_dict()'),
    export: ('torch.export', 'state_dict'),
    detectron2: ('NumPy', 'detectron2', '--trust'),
    vissl: ('NumPy', 'vissl', '--trust'),
    tensors: ('pickle of tensors', '--trust'),
    archive: ('zip archive', 'folder/weights.pth'),
    tar: ('tar archive', 'unpack'),
    gzipped: ('gzip', 'unpack'),
    text: ('text',),
    **{
        (lambda path, start=start: path.write_bytes(start + bytes(99))): facts
        for start, facts in (
            (b'\x89HDF\r\n\x1a\n', ('HDF5',)),
            (b'GGUF', ('GGUF', 'quantised')),
            (b'\x93NUMPY', ('.npz',)),
            (b'\x00\x01', ('no checkpoint',)),
        )
    },
}  # fmt: skip


def refused(function, *args, **kwargs):
    with pytest.raises(CheckpointError) as error:
        function(*args, **kwargs)
    message = str(error.value)
    assert 'damaged' not in message and 'delete' not in message.lower(), message
    return message


@pytest.mark.parametrize('suffix', ['.pth', '.bin'])
@pytest.mark.parametrize('write', KINDS)
@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')
def test_each_kind_is_named(write, suffix, tmp_path):
    path = tmp_path / f'weights{suffix}'
    write(path)
    message = refused(read, path)
    assert all(fact in message for fact in (*KINDS[write], str(path))), message


@pytest.mark.parametrize(
    ('suffix', 'fact'), [('.distcp', 'folder'), ('.onnx', 'ONNX'), ('.msgpack', 'Flax')]
)
def test_kinds_by_suffix(suffix, fact, tmp_path):
    path = tmp_path / f'weights{suffix}'
    path.write_bytes(b'PK\x03\x04' + bytes(99))
    assert fact in refused(read, path)


def test_pickle_runs_nothing_while_it_is_named(tmp_path):
    class Malicious:
        def __reduce__(self):
            return open, (str(tmp_path / 'marker'), 'w')

    path = tmp_path / 'weights.pkl'
    path.write_bytes(pickle.dumps({'model': arrays(), 'other': Malicious()}))
    assert 'NumPy' in refused(read, path)
    assert not (tmp_path / 'marker').exists()


@pytest.mark.parametrize('write', [detectron2, vissl])
def test_trusted_pickles_of_arrays_load(write, tmp_path):
    path = tmp_path / 'weights.pkl'
    write(path)
    model = build_vit()
    load_weights(model, read(path, trust=True), parts={'vit': ''})
    assert torch.equal(model.cls_token, published.deit()['cls_token'])


def test_arrays_in_a_file_of_torch(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'model': arrays(), 'epoch': 3}, path)
    message = refused(load_pretrained, build_vit(), path, parts={'vit': ''})
    assert 'NumPy' in message and 'mmhybrid convert --trust FILE OUT.pth' in message
    model = build_vit()
    load_weights(model, read(path, trust=True), parts={'vit': ''})
    assert torch.equal(model.cls_token, published.deit()['cls_token'])


@pytest.mark.filterwarnings('ignore:torch.distributed is disabled')
def test_folders(tmp_path):
    checkpoint = pytest.importorskip('torch.distributed.checkpoint')
    join = pytest.importorskip('torch.distributed.checkpoint.format_utils')
    assert 'none in it' in refused(read, tmp_path)
    (tmp_path / 'epoch_3.pth').touch()
    assert 'epoch_3.pth' in refused(locate, tmp_path)
    folder = tmp_path / 'dcp'
    checkpoint.save({'model': published.deit()}, checkpoint_id=folder, no_dist=True)
    for function in (locate, read):
        message = refused(function, folder)
        assert 'dcp_to_torch' in message and str(folder) in message
    joined = tmp_path / 'joined.pth'
    join.dcp_to_torch_save(folder, joined)
    model = build_vit()
    load_pretrained(model, joined, parts={'vit': ''})
    assert torch.equal(model.cls_token, published.deit()['cls_token'])


def test_a_file_of_torch_under_the_name_of_safetensors(tmp_path):
    path = tmp_path / 'weights.safetensors'
    torch.save(published.deit(), path)
    assert read(path).keys() == published.deit().keys()


def test_a_header_that_begins_like_a_web_page(tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'weights.safetensors'
    safetensors.save_file({'a': torch.ones(1)}, path)
    content = path.read_bytes()
    size = 0x3C20  # as a file's first bytes: b' <'
    header = content[8 : 8 + int.from_bytes(content[:8], 'little')].ljust(size)
    path.write_bytes(size.to_bytes(8, 'little') + header + content[-4:])
    assert path.read_bytes()[:2] == b' <'
    assert read(path).keys() == {'a'}


def test_ibot(tmp_path):
    state_dict = published.deit() | {'masked_embed': torch.zeros(1, published.WIDTH)}
    model = build_vit()
    report = load_weights(model, {'teacher': state_dict}, parts={'vit': ''})
    assert 'masked_embed' in report.unused and report.percent == 100


def test_names_that_two_wrappers_share_are_left_alone():
    first, second = published.deit(), {k: v + 1 for k, v in published.deit().items()}
    model = build_vit()
    both = first | {f'module.{k}': v for k, v in second.items()}
    assert 'module.cls_token' in refused(load_weights, model, both, parts={'vit': ''})
    load_weights(model, both, parts={'vit': ''}, prefix='module.')
    assert same_state(model, {k: second[k] for k in copy_state(model)})


def test_a_prefix_may_name_the_wrapper():
    wrapped = {f'module.odd.{k}': v for k, v in published.deit().items()}
    model = build_vit()
    load_weights(model, wrapped, parts={'vit': ''}, prefix='module.odd')
    assert torch.equal(model.cls_token, published.deit()['cls_token'])


@pytest.mark.parametrize('backbone', BACKBONES)
def test_no_backbone_has_the_name_of_a_wrapper(backbone):
    with torch.device('meta'):
        names = '.'.join(backbone().state_dict()).split('.')
    assert not {'module', '_orig_mod'} & set(names)
