"""A study: rates are chosen on what is held out, seeds are averaged, and nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from mmhybrid.checkpoints import CheckpointError
from mmhybrid.cli import study
from mmhybrid.cli.usage import UsageError

PLAN = """
metric: mIoU
steps: 90
search_steps: 30
rates: [1.0e-4, 1.0e-3]
seeds: [3, 4]
held_out: {mask_folder.val_fraction: 0.25, mask_folder.val_img: null}
options: {train_dataloader.batch_size: 2}
rows:
  First, tuned: {config: upernet_vit_t_scratch_custom, options: {model.backbone.with_cp: light}}
  Second:
    config: upernet_cmt_ti_scratch_custom
    weights: true
    arguments: [--lora, '8']
    rates: [2.0e-3]
"""

# In the place of the program: the score follows from rate and seed, a file beside it stops a run.
FAKE = """
import json, sys
from pathlib import Path
words = sys.argv[1:]
folder = Path(words[words.index('--work-dir') + 1])
options = dict(word.split('=', 1) for word in words if '=' in word)
rate, seed = float(options['optim_wrapper.optimizer.lr']), int(words[words.index('--seed') + 1])
with (Path(__file__).parent / 'started.txt').open('a') as file:
    file.write(json.dumps(words) + chr(10))
if not (Path(__file__).parent / 'early').exists():
    (folder / 'iter_1.pth').touch()
stop = Path(__file__).parent / 'stop' / folder.name
if stop.exists():
    text = stop.read_text() or 'out of luck'
    print(text)
    sys.exit('dataset is empty' not in text)
log = folder / '2026' / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True, exist_ok=True)
score = 40 + 1000 * rate + 2 * seed
lines = dict(loss=1.0, step=1), dict(mIoU=1.0, step=1), dict(mIoU=score, mAcc=score + 8, step=2)
log.write_text(''.join(json.dumps(line) + chr(10) for line in lines))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / 'plan.yml').write_text(PLAN)
    (tmp_path / 'fake.py').write_text(FAKE)
    monkeypatch.setattr(study, 'PROGRAM', (sys.executable, str(tmp_path / 'fake.py')))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        weights = ['--weights', 'deit_tiny_patch16_224']
        study.main(['plan.yml', *weights, '--work-dir', 'out', *arguments])

    run.started = lambda: [
        json.loads(line) for line in (tmp_path / 'started.txt').read_text().splitlines()
    ]
    return run


@pytest.mark.parametrize('jobs', [1, 3])
def test_the_best_held_out_rate_is_trained_with_each_seed(fake, tmp_path, capsys, jobs):
    fake('--jobs', str(jobs))
    first, second = (tmp_path / 'out/table.md').read_text().splitlines()[2:]
    # 40 + 1000 * 0.001 + 2 * (3 or 4): mean 48, standard deviation 2 / sqrt(2)
    assert first.startswith('| First, tuned | 0.001 | 48.00 | 1.41 | 2 |')
    assert second.startswith('| Second | 0.002 | 49.00 | 1.41 | 2 |')
    assert first in capsys.readouterr().out

    started = fake.started()
    searched = [words for words in started if 'mask_folder.val_fraction=0.25' in words]
    assert len(searched) == 2 and len(started) == 6  # one rate needs no search
    assert all({'max_iters=30', 'mask_folder.val_img=None'} < set(words) for words in searched)
    for words in started:
        assert 'train_dataloader.batch_size=2' in words
        if words not in searched:
            assert 'max_iters=90' in words
        is_second = words[1] == 'upernet_cmt_ti_scratch_custom'
        assert ('--lora' in words) == ('deit_tiny_patch16_224' in words) == is_second
        assert ('model.backbone.with_cp=light' in words) != is_second


def test_a_page_has_the_results_and_their_curves(fake, tmp_path, capsys):
    fake()
    page = (tmp_path / 'out/report.html').read_text()
    assert 'page   out/report.html' in capsys.readouterr().out
    assert 'First, tuned' in page and '<td>48.00</td><td>1.41</td><td>2</td>' in page
    assert 'mIoU on the validation images' in page and 'Training loss' not in page  # of one step


def test_what_is_done_stays_and_what_failed_goes_on(fake, tmp_path, capsys):
    (tmp_path / 'stop').mkdir()
    (tmp_path / 'stop/seed_4').touch()
    with pytest.raises(UsageError, match=r'2 of the trainings failed: out/first__tuned/seed_4/'):
        fake()
    assert 'out of luck' in capsys.readouterr().err
    assert '| 46.' not in (tmp_path / 'out/table.md').read_text()
    assert '| First, tuned | 0.001 | 47.00 |  | 1 |' in (tmp_path / 'out/table.md').read_text()
    (tmp_path / 'stop/seed_4').unlink()
    fake()
    again = fake.started()[6:]
    result = json.loads((tmp_path / 'out/second/seed_4/study.json').read_text())
    assert 0 < result['cpu_minutes']
    assert [words[-1] for words in again] == ['--resume', '--resume']
    assert '| 48.00 | 1.41 | 2 |' in (tmp_path / 'out/table.md').read_text()


def test_average_precision_is_no_percentage(fake, tmp_path):
    plan = study.read_plan(tmp_path / 'plan.yml')
    of_objects = study.Study(replace(plan, metric='coco/segm_mAP'), tmp_path / 'out', None, None)
    for run, score in zip(of_objects.finals(plan.rows[1], 2e-3), (0.0625, 0.0645), strict=True):
        run.folder.mkdir(parents=True)
        result = dict(minutes=1.0, cpu_minutes=1.0, peak_mb=1.0, score=score)
        text = json.dumps(dict(result, command=list(run.command), metric='coco/segm_mAP'))
        (run.folder / study.RESULT).write_text(text)
    assert '| Second | 0.002 | 0.064 | 0.001 | 2 |' in of_objects.table()


def test_a_rate_that_diverges_is_not_chosen(fake, tmp_path):
    (tmp_path / 'stop').mkdir()
    loss = 'error: loss is nan, loss_cls is nan at iteration 7, epoch 1. Images: a.jpg'
    (tmp_path / 'stop/rate_0.001').write_text(loss)
    fake('--rows', 'First, tuned')
    assert '| First, tuned | 0.0001 |' in (tmp_path / 'out/table.md').read_text()
    started = len(fake.started())
    fake('--rows', 'First, tuned')
    assert len(fake.started()) == started

    (tmp_path / 'stop/rate_0.0001').write_text(loss)
    for _ in range(2):
        with pytest.raises(
            UsageError, match=r'2 of the trainings failed: other/first__tuned/rate_'
        ):
            fake('--rows', 'First, tuned', '--work-dir', 'other')
    assert not list(tmp_path.glob('other/*/seed*'))

    (tmp_path / 'stop/rate_0.0001').write_text('out of luck')
    for expected in (2, 1):  # what diverged does so again
        started = len(fake.started())
        with pytest.raises(UsageError, match='2 of the trainings failed: third/'):
            fake('--rows', 'First, tuned', '--work-dir', 'third')
        assert len(fake.started()) - started == expected


def test_a_detector_that_finds_nothing_has_the_lowest_score(fake, tmp_path):
    (tmp_path / 'stop').mkdir()
    text = 'The testing results of the whole dataset is empty.'
    (tmp_path / 'stop/rate_0.001').write_text(text)
    fake('--rows', 'First, tuned')
    assert '| First, tuned | 0.0001 | 47.10 |' in (tmp_path / 'out/table.md').read_text()


def test_another_metric_is_read_from_the_logs(fake, tmp_path):
    fake('--rows', 'Second')
    (tmp_path / 'plan.yml').write_text(PLAN.replace('metric: mIoU', 'metric: mAcc'))
    fake('--rows', 'Second')
    lines = (tmp_path / 'out/table.md').read_text().splitlines()
    assert '| mAcc |' in lines[0]
    assert lines[2].startswith('| Second | 0.002 | 57.00 | 1.41 | 2 |')


def test_rows_of_another_plan_are_not_in_the_table(fake, tmp_path, capsys):
    fake()
    study.main(['plan.yml', '--work-dir', 'out', '--rows', 'First, tuned'])  # Second had weights
    assert '| First, tuned |' in capsys.readouterr().out.rpartition('minutes')[2]
    (tmp_path / 'plan.yml').write_text(PLAN.replace('rates: [2.0e-3]', 'rates: [3.0e-3]'))
    fake('--rows', 'First, tuned')
    shown = capsys.readouterr()
    assert 'Second' not in shown.out.rpartition('minutes')[2]
    assert 'not in the table: Second: out/second/seed_3 holds a training by another' in shown.err


@pytest.mark.parametrize(
    ('last', 'printed', 'score'),
    [
        ('{"mIoU": 41.5, "step": 9}', '', 41.5),
        ('{"mIoU": NaN}', '', None),
        ('{"mIoU": 41.5}\n{"loss": 1.0}', '', None),  # stopped in the evaluation after it
        ('{"mIoU": 41.5}\n{"loss": 1.0}', study.NOTHING, 0.0),
        ('', '', None),
    ],
)
def test_the_last_evaluation_counts(tmp_path, last, printed, score):
    for name, line in (('2026_1', '{"mIoU": 50.0}'), ('2026_2', last)):
        log = tmp_path / name / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(f'{{"loss": 1.0}}\n{line}\n')
    assert study._last_score(study.Run(tmp_path, (), 'mIoU'), printed) == score


def test_a_metric_that_is_not_evaluated_ends_the_study(fake, tmp_path):
    (tmp_path / 'plan.yml').write_text(PLAN.replace('metric: mIoU', 'metric: mIou'))
    with pytest.raises(
        UsageError, match="rate_0.0001: its evaluation has no metric 'mIou'; there are mIoU"
    ):
        fake()
    assert len(fake.started()) == 1


def is_gone(pid):
    """Return True once a process has ended, though nobody may have asked for its status."""
    done = subprocess.run(['ps', '-o', 'stat=', '-p', str(pid)], capture_output=True, text=True)
    return done.stdout.strip()[:1] in ('', 'Z')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_study_stops_its_trainings(tmp_path, number):
    (tmp_path / 'plan.yml').write_text(PLAN)
    (tmp_path / 'slow.py').write_text(
        'import os, pathlib, signal, sys, time\n'
        'here = pathlib.Path(__file__)\n'
        'def note(number, frame):\n'
        '    here.with_name("signal").write_text(str(int(number)))\n'
        '    sys.exit(1)\n'
        'for number in (signal.SIGINT, signal.SIGTERM):\n'
        '    signal.signal(number, note)\n'
        'here.with_name("pid").write_text(str(os.getpid()))\n'
        'time.sleep(600)\n'
    )
    program = (
        'import signal, sys\n'
        # A shell that starts the tests in the background lets them ignore it.
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        'from mmhybrid.cli import study, usage\n'
        'study.PROGRAM = (sys.executable, "slow.py")\n'
        'words = ["plan.yml", "--weights", "deit_tiny_patch16_224", "--work-dir", "out"]\n'
        'usage.run(lambda: study.main(words))\n'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', program], cwd=tmp_path, start_new_session=True
    )
    pid = tmp_path / 'pid'
    for _ in range(1200):
        if process.poll() is not None or pid.exists() and pid.read_text():
            break
        time.sleep(0.1)
    training = int(pid.read_text())
    os.killpg(process.pid, number)  # as a terminal does
    assert process.wait(60) == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    for _ in range(600 if number == signal.SIGKILL else 1):
        if is_gone(training):
            break
        time.sleep(0.1)
    assert is_gone(training)
    assert int((tmp_path / 'signal').read_text()) == signal.SIGTERM  # which saves a training
    runs = list(tmp_path.glob('out/*/*/study.json'))
    assert len(runs) == 1 and 'score' not in json.loads(runs[0].read_text())


def test_a_folder_of_another_plan_is_left_alone(fake, tmp_path):
    fake('--rows', 'Second')
    assert len(fake.started()) == 2
    (tmp_path / 'plan.yml').write_text(PLAN.replace('steps: 90', 'steps: 91'))
    with pytest.raises(UsageError, match='(?s)max_iters=90.*plan asks for.*max_iters=91'):
        fake('--rows', 'Second')


def test_a_config_that_has_changed_is_not_taken_for_the_one_that_was_trained(
    fake, tmp_path, capsys
):
    config = tmp_path / 'own.py'
    config.write_text("_base_ = 'mmhybrid::upernet_cmt_ti_scratch_custom.py'\n")
    (tmp_path / 'plan.yml').write_text(PLAN.replace('upernet_cmt_ti_scratch_custom', str(config)))
    fake('--rows', 'Second')
    config.write_text(config.read_text() + '# a comment changes nothing\n')
    fake('--rows', 'Second')
    assert len(fake.started()) == 2
    config.write_text(config.read_text() + 'model = dict(decode_head=dict(channels=32))\n')
    message = (
        r'(?s)own.py has changed .* out/second/seed_3,\n  model.decode_head.channels was \d+, is 32'
    )
    with pytest.raises(UsageError, match=message):
        fake('--rows', 'Second')
    assert len(fake.started()) == 2
    capsys.readouterr()
    fake('--rows', 'First, tuned')
    shown = capsys.readouterr()
    assert '| Second |' not in shown.out.rpartition('minutes')[2]
    assert 'not in the table: Second: ' in shown.err and 'channels was' in shown.err


def test_a_config_that_cannot_be_read_stops_its_row_alone(fake, tmp_path):
    (tmp_path / 'own.py').write_text('model = dict(')
    (tmp_path / 'plan.yml').write_text(PLAN.replace('upernet_vit_t_scratch_custom', 'own.py'))
    fake('--rows', 'Second')
    with pytest.raises(UsageError, match='own.py cannot be read, SyntaxError in line 1'):
        fake()
    assert len(fake.started()) == 2


def test_changes_of_a_config_are_named():
    changes = study._changes({'a': {'b': 1, 'c': [1]}}, {'a': {'b': 2, 'c': [1]}, 'd': 3})
    assert changes == ['a.b was 1, is 2', 'd was None, is 3']


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('metric:', 'metrics:', "unknown metrics; known: metric, steps"),
        ('seeds: [3, 4]', '', "missing 1 required keyword-only argument: 'seeds'"),
        ('seeds: [3, 4]', 'seeds: 3', 'seeds: expected a list'),
        ('steps: 90', 'steps: [90]', 'steps: expected one value'),
        ('rates: [1.0e-4,', 'rates: [fast,', "rates: could not convert string to float: 'fast'"),
        ('weights: true', 'weight: true', "row 'Second': unknown weight; known: name, config"),
        ('metric: mIoU', '[', 'is no YAML'),
        ('steps: 90', 'steps: 90\nsteps: 91', "(?s)is no YAML: 'steps' is there twice.*line 4"),
        ('seeds: [3, 4]', 'seeds: [3, 3]', r'seeds: \[3, 3\]: each once'),
        ('rates: [1.0e-4,', 'rates: [1.0e-3,', 'rates: .*: each once'),
        ('{mask_folder.val_fraction: 0.25, mask_folder.val_img: null}', '{}', 'held_out and rows'),
        ('{train_dataloader.batch_size: 2}', '', 'options: expected KEY: VALUE, got None'),
        ('{train_dataloader.batch_size: 2}', '{train_cfg: {val_interval: 2}}', "'train_cfg.KEY'"),
        ('arguments: [', 'arguments: {lora: 8} #', 'arguments: expected a list'),
        ('{config: upernet_vit_t_scratch_custom, options: {model.backbone.with_cp: light}}',
         'upernet_vit_t_scratch_custom', "row 'First, tuned': expected name, config.*got 'uper"),
        ('Second:', 'first  TUNED:', "'First, tuned' and 'first  TUNED' are one folder"),
        ('upernet_cmt_ti_scratch_custom', 'upernet_cmt', 'upernet_cmt'),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused_before_the_first_run(fake, tmp_path, old, new, message):
    (tmp_path / 'plan.yml').write_text(PLAN.replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        fake()
    assert not (tmp_path / 'started.txt').exists()


def test_rows_and_weights_are_asked_for_by_name(fake):
    with pytest.raises(UsageError, match="no 'Third'; there are First, tuned, Second"):
        fake('--rows', 'Third')
    with pytest.raises(UsageError, match='give them with --weights'):
        study.main(['plan.yml', '--work-dir', 'out'])
    with pytest.raises(CheckpointError, match='w.pth'):
        study.main(['plan.yml', '--weights', 'w.pth'])
    with pytest.raises(UsageError, match='--data nowhere: no such folder'):
        study.main(['plan.yml', '--weights', 'dinov2_vits14', '--data', 'nowhere'])


def test_a_dry_run_prints_the_commands(fake, tmp_path, capsys):
    fake('--dry-run', '--data', str(tmp_path), '--cfg-options', 'classes=a,b', 'palette=None')
    *lines, summary = capsys.readouterr().out.splitlines()
    assert summary == '# 6 runs, 0 of them done'
    assert len(lines) == 6 and all(line.startswith('mmhybrid train upernet_') for line in lines)
    assert all(f'--data {tmp_path}' in line for line in lines)
    assert all(line.endswith(' classes=a,b palette=None') for line in lines)


def test_a_dry_run_knows_what_is_done(fake, capsys):
    fake('--rows', 'Second')
    capsys.readouterr()
    fake('--dry-run')
    assert capsys.readouterr().out.splitlines()[-1] == '# 6 runs, 2 of them done'


def test_a_dry_run_of_another_metric(fake, tmp_path, capsys):
    fake()
    (tmp_path / 'plan.yml').write_text(PLAN.replace('metric: mIoU', 'metric: mAcc'))
    capsys.readouterr()
    fake('--dry-run')
    assert capsys.readouterr().out.splitlines()[-1] == '# 6 runs, 0 of them done'


def test_a_row_asked_for_twice_is_trained_once(fake):
    fake('--rows', 'Second', 'Second', '--jobs', '2')
    assert len(fake.started()) == 2


def test_numbers_among_the_arguments_are_words(fake, tmp_path):
    (tmp_path / 'plan.yml').write_text(PLAN.replace("[--lora, '8']", '[--lora, 8]'))
    fake('--rows', 'Second')
    assert fake.started()[0].count('8') == 1


def test_a_start_that_trained_nothing_leaves_nothing_behind(fake, tmp_path):
    config = tmp_path / 'own.py'
    config.write_text("_base_ = 'mmhybrid::upernet_cmt_ti_scratch_custom.py'\n")
    (tmp_path / 'plan.yml').write_text(PLAN.replace('upernet_cmt_ti_scratch_custom', str(config)))
    (tmp_path / 'stop').mkdir()
    (tmp_path / 'early').touch()
    for seed in (3, 4):
        (tmp_path / f'stop/seed_{seed}').touch()
    with pytest.raises(UsageError, match='2 of the trainings failed'):
        fake('--rows', 'Second')
    for seed in (3, 4):
        (tmp_path / f'stop/seed_{seed}').unlink()
    config.write_text(config.read_text() + 'model = dict(decode_head=dict(channels=32))\n')
    fake('--rows', 'Second')
    assert not any('--resume' in words for words in fake.started())
    content = json.loads((tmp_path / 'out/second/seed_3/config.json').read_text())
    assert content['model']['decode_head']['channels'] == 32


def test_a_config_that_changes_under_a_study_ends_it(fake, tmp_path):
    config = tmp_path / 'own.py'
    config.write_text("_base_ = 'mmhybrid::upernet_cmt_ti_scratch_custom.py'\n")
    (tmp_path / 'plan.yml').write_text(PLAN.replace('upernet_cmt_ti_scratch_custom', str(config)))
    with (tmp_path / 'fake.py').open('a') as program:
        program.write('with open("own.py", "a") as config:\n')
        program.write('    config.write("model = dict(decode_head=dict(channels=32))" + chr(10))\n')
    with pytest.raises(
        UsageError, match='changed since the study began, model.decode_head.channels'
    ):
        fake('--rows', 'Second')
    assert len(fake.started()) == 1


def test_a_folder_has_one_study_at_a_time(fake, tmp_path):
    plan = study.read_plan(tmp_path / 'plan.yml')
    with study.Study(plan, tmp_path / 'out', None, None).locked():
        with pytest.raises(UsageError, match='out: another study, or a training that one began'):
            fake()
    fake('--rows', 'Second')


def test_a_page_that_cannot_be_drawn_ends_no_training(fake, capsys, monkeypatch):
    write, tries = study.Study.write_results, []

    def fail_once(self):
        tries.append(self)
        if len(tries) == 1:
            raise OSError('no room')
        return write(self)

    monkeypatch.setattr(study.Study, 'write_results', fail_once)
    fake('--rows', 'Second')
    shown = capsys.readouterr()
    assert 'out: no table and page: no room' in shown.err and '| Second |' in shown.out
