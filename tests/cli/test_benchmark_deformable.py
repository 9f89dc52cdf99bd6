import pytest
import torch

from mmhybrid.cli import benchmark_deformable as benchmark


def test_backends_of_a_cpu(capsys):
    sizes = ['--size', '64', '96', '--heads', '2', '--dims', '8', '--points', '2', '--rounds', '1']
    benchmark.main([*sizes, '--device', 'cpu'])
    told = capsys.readouterr()
    assert '64x96 (batch 1, 126 queries), 2 heads of 8, 2 points, fp32' in told.out
    for backend in ('embedding_bag', 'grid_sample', 'gather'):
        rows = [line for line in told.out.splitlines() if line.startswith(backend)]
        assert [line[14:].split('  ')[0] for line in rows] == ['forward', 'forward + backward']
    for backend in ('mmcv', 'triton'):
        assert f'without {backend}: ' in told.err


def test_moved_bytes_are_those_of_the_tensors():
    value = torch.empty(2, 20, 3, 8, dtype=torch.bfloat16)
    locations, weights = torch.empty(2, 5, 3, 6, 2), torch.empty(2, 5, 3, 6)
    out = torch.empty(2, 5, 24, dtype=torch.bfloat16)
    moved = benchmark.moved_bytes(2, 20, 5, 3, 8, 6, 2)
    places = locations.nbytes + weights.nbytes
    assert moved['forward'] == value.nbytes + places + out.nbytes
    summed = value.numel() * 4
    gradients = places + value.nbytes  # written
    assert moved['both'] - moved['forward'] == (
        value.nbytes + 2 * (out.nbytes + places) + 3 * summed + gradients
    )
    row = 8 * value.itemsize
    assert moved['forward_rows'] == weights.numel() * 4 * row
    assert moved['both_rows'] == weights.numel() * 4 * (2 * row + 8 * 4)


def test_bad_arguments(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['--size', '16', '64'])
    assert 'at least 32 each' in capsys.readouterr().err
