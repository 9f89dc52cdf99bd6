import pytest

from mmhybrid.cli.complexity import complexity, main


@pytest.mark.parametrize(('arch', 'side', 'gmacs'), [('ti', 160, 0.64), ('s', 224, 4.03)])
def test_counts_are_those_of_the_published_models(arch, side, gmacs):
    stages, total = complexity(arch, (side, side))
    last = stages[-1]
    head = last['n'] * last['d'] * 1280 + 1280 * 1000
    assert (total + head) / 1e9 == pytest.approx(gmacs, abs=0.005)
    assert len(stages) == 4
    for row in stages:
        assert row['paper'] * 0.999 <= row['counted'] <= row['paper'] * 1.01


def test_the_table(capsys):
    assert main(['ti', '--size', '64x96']) == 0
    output = capsys.readouterr().out
    assert 'CMT-ti at 64x96' in output and output.count('\n') == 10
    with pytest.raises(SystemExit):
        main(['huge'])
    with pytest.raises(SystemExit):
        main(['--size', '64'])
