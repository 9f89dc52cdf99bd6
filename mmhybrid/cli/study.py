"""Compare models at equal budgets: each with its best learning rate, over several seeds.

    mmhybrid study PLAN [--data DIR] [--weights FILE] [--work-dir DIR] [--jobs N] [--rows NAME ...]
                        [--cfg-options KEY=VALUE ...]

A plan is a YAML file, such as configs/experiments/small_data/semantic.yml. Each row of it is first
trained at each rate, in short, and evaluated on a part of the training images that is held out; the
best rate is then trained at full length with each seed, on all training images, and evaluated on
the validation part. Stopped by Ctrl-C or SIGTERM, the study goes on when it is started again.
WORK_DIR/table.md and report.html hold the results so far, the folder of each run its command.
"""

import argparse
import contextlib
import ctypes
import json
import math
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_file
from .config import check_weights_exist, read_config
from .paths import find_config
from .plan import Plan, Row, chosen_rows, read_plan
from .usage import UsageError, print_results

if TYPE_CHECKING:
    from ..inspect.report.comparison import Compared

PROGRAM = (sys.executable, '-m', 'mmhybrid')
RESULT = 'study.json'  # in the folder of a run: its command, cost, and score once it has ended
CONFIG = 'config.json'  # what its config said, without the changes that the command makes
LOG = 'output.txt'  # what it printed
LOCK = '.study.lock'  # in the folder of a study
NOTHING = 'testing results of the whole dataset is empty'  # mmdet's words for no object at all
DIVERGED = re.compile(r'^error: .* is (nan|inf|-inf) at iteration', re.MULTILINE)
NO_METRICS = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory')  # in the log of one
SHOWN = 15  # last lines of it, of a run that fails
LIBC = ctypes.CDLL(None) if sys.platform == 'linux' else None


@dataclass(frozen=True)
class Run:
    """One training of a study: its command, without the program, its folder and its metric."""

    folder: Path
    command: tuple[str, ...]
    metric: str

    @property
    def config(self) -> str:
        """Its config, by name or path."""
        return self.command[1]

    def result(self) -> dict[str, Any]:
        """Return what is known of it, ``{}`` if nothing was trained.

        Raises:
            UsageError: the folder holds a training by another command.
        """
        path = self.folder / RESULT
        if not path.is_file():
            return {}
        result = json.loads(path.read_text())
        saved = (self.folder / 'last_checkpoint').is_file() or any(self.folder.glob('*.pth'))
        if not saved and result.keys().isdisjoint({'score', 'diverged'}):
            return {}
        if result['command'] != list(self.command):
            raise UsageError(
                f'{self.folder} holds a training by another command,\n  '
                f'{shlex.join(result["command"])}\nand the plan asks for\n  '
                f'{shlex.join(self.command)}\nremove the folder, or give another --work-dir'
            )
        if result.setdefault('metric', self.metric) != self.metric:
            result |= dict(metric=self.metric)
            result.pop('score', None)  # the metric is read from the log anew
        return result


def main(argv: list[str] | None = None) -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description='Compare models at equal budgets.')
    parser.add_argument('plan', type=Path, help='YAML file with the rows of the study')
    parser.add_argument('--data', type=Path, help='folder of the data')
    parser.add_argument('--weights', help='of the rows that ask for some: a file, address or name')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/PLAN')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument('--rows', nargs='+', metavar='NAME', help='only these')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='changes of every config, after those of the plan: classes=road,sky,tree',
    )
    parser.add_argument('--dry-run', action='store_true', help='print the commands of all runs')
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs {args.jobs}: expected at least 1')
    plan = read_plan(args.plan)
    rows = chosen_rows(plan, args.rows)
    if args.weights is not None:
        check_weights_exist(args.weights)
    elif any(row.weights for row in rows):
        raise UsageError(
            f'rows of {args.plan} begin from weights: give them with --weights, or choose others '
            f'with --rows'
        )
    if args.data is not None and not args.data.is_dir():
        raise UsageError(f'--data {args.data}: no such folder')
    folder = args.work_dir or Path('work_dirs') / args.plan.stem
    study = Study(plan, folder, args.data, args.weights, args.cfg_options)
    if args.dry_run:
        study.show(rows)
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with study.locked():
            try:
                failed = study.run(rows, args.jobs)
            finally:
                written = study.write_results()
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f'\n{study.table()}')
    for name, why in study.left_out.items():
        print(f'not in the table: {name}: {why}', file=sys.stderr)
    print_results(written)
    if failed:
        raise UsageError(
            f'{len(failed)} of the trainings failed: '
            + ', '.join(str(run.folder / LOG) for run in failed)
        )


class Study:
    """The runs of a plan in a folder.

    Args:
        plan: what to compare.
        folder: of all runs.
        data: folder of the data; the configs' own if None.
        weights: of the rows that ask for some.
        changes: of every config, as ``KEY=VALUE``.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        data: Path | None,
        weights: str | None,
        changes: Sequence[str] = (),
    ):
        self.plan, self.folder, self.data, self.weights = plan, folder, data, weights
        self.changes = changes
        self.digits = 3 if 'AP' in plan.metric else 2  # it is from 0 to 1, others are percent
        self.writing = threading.Lock()
        self.contents: dict[str, dict[str, Any]] = {}  # of the configs
        self.left_out: dict[str, str] = {}  # of the results: name of a row -> why
        self.processes: set[subprocess.Popen] = set()  # of the runs under way
        self.lock: int | None = None  # file descriptor
        self.stopped = False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other studies out of the folder.

        Its trainings hold the lock too: one whose study was killed may be saving itself.

        Raises:
            UsageError: another one is at work there.
        """
        if sys.platform == 'win32':
            yield
            return
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open('w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f'{self.folder}: another study, or a training that one began, is at work '
                    'there; wait for it, or give another --work-dir'
                ) from error
            self.lock = file.fileno()
            yield

    def show(self, rows: Iterable[Row]) -> None:
        """Print the commands of all runs, and how many of them are done."""
        count = done = 0
        for row in rows:
            rate = self.rate_of(row)
            search, finals = self.search(row), self.finals(row, 'RATE' if rate is None else rate)
            for run in (*search, *finals):
                print(shlex.join(['mmhybrid', *run.command]))
            known = search if rate is None else [*search, *finals]
            count += len(search) + len(finals)
            done += sum('score' in run.result() for run in known)
        print(f'# {count} runs, {done} of them done')

    def search(self, row: Row) -> list[Run]:
        """Return the runs that choose a row's rate."""
        rates = row.rates or self.plan.rates
        if len(rates) == 1:
            return []
        steps, held_out = self.plan.search_steps, self.plan.held_out
        return [
            self._run(row, f'rate_{rate:g}', steps, rate, self.plan.seeds[0], held_out)
            for rate in rates
        ]

    def finals(self, row: Row, rate: float | str) -> list[Run]:
        """Return a row's trainings at full length."""
        return [
            self._run(row, f'seed_{seed}', self.plan.steps, rate, seed, {})
            for seed in self.plan.seeds
        ]

    def rate_of(self, row: Row) -> float | None:
        """Return the rate with the best held-out score; None while a run of the search is open.

        Rates whose training diverged count as the worst; there is none if all did.
        """
        rates = row.rates or self.plan.rates
        results = [run.result() for run in self.search(row)]
        if not results:
            return rates[0]
        if not all('score' in result or 'diverged' in result for result in results):
            return None
        scores = [result.get('score', -math.inf) for result in results]
        best = max(scores)
        return None if best == -math.inf else rates[scores.index(best)]

    def run(self, rows: Iterable[Row], jobs: int = 1) -> list[Run]:
        """Run what is left to do for these rows, the searches first; return what failed."""
        rows = list(rows)
        for row in rows:
            self._check(row)  # all of them, before the first run
        rateless = [row for row in rows if self.rate_of(row) is None]
        searches = [run for row in rateless for run in self.search(row)]
        self._run_all([run for run in searches if 'diverged' not in run.result()], jobs)
        chosen = [(row, self.rate_of(row)) for row in rows]
        failed = [
            run
            for row, rate in chosen
            if rate is None  # else those that failed diverged
            for run in self.search(row)
            if 'score' not in run.result()
        ]
        finals = [run for row, rate in chosen if rate is not None for run in self.finals(row, rate)]
        return failed + self._run_all(finals, jobs)

    def _check(self, row: Row) -> None:
        """Refuse a row whose config now says something else than it did for a run of it."""
        now = self._content(row.config)
        rate = self.rate_of(row)
        for run in (*self.search(row), *(self.finals(row, rate) if rate is not None else ())):
            path = run.folder / CONFIG
            if not run.result() or not path.is_file():  # result() refuses another command
                continue
            then = json.loads(path.read_text())
            if changes := _changes(then, now):
                shown = '\n  '.join(changes[:SHOWN])
                raise UsageError(
                    f'{row.config} has changed since the training in {run.folder},\n  {shown}\n'
                    'change it back, remove the folder, or give another --work-dir'
                )

    def results(self, with_logs: bool = False) -> list['Compared']:
        """Return what the rows have reached so far; with the logs of their trainings, if asked."""
        from ..inspect.report.comparison import Compared
        from ..inspect.report.page import read_logs

        found = []
        self.left_out.clear()
        for row in self.plan.rows:
            try:
                rate = self.rate_of(row)
                runs = [] if rate is None else self.finals(row, rate)
                done = [(run, result) for run in runs if 'score' in (result := run.result())]
                if done:
                    self._check(row)
                elif rate is None and any(self.folder.glob(f'{row.folder}/seed_*/{RESULT}')):
                    raise UsageError('its rate is not chosen yet')
            except UsageError as error:  # asked for, it would have been refused
                self.left_out[row.name] = str(error)
                continue
            if rate is None or not done:
                continue
            costs = {
                key: statistics.median(result[key] for _, result in done)
                for key in ('minutes', 'cpu_minutes', 'peak_mb')
            }
            scores = [result['score'] for _, result in done]
            logs = [read_logs(run.folder) for run, _ in done] if with_logs else []
            found.append(Compared(name=row.name, rate=rate, scores=scores, logs=logs, **costs))
        return found

    def table(self, results: Iterable['Compared'] | None = None) -> str:
        """Return the results so far, as Markdown: mean and standard deviation over the seeds."""
        from ..inspect.report.comparison import comparison

        results = self.results() if results is None else results
        header, *rows = comparison(self.plan.metric, results, self.digits)
        return '\n'.join(
            f'| {" | ".join(cells)} |' for cells in (header, ['---'] * len(header), *rows)
        )

    def write_results(self) -> dict[str, Path]:
        """Write the table of the results so far, and a page with curves; return their files."""
        from ..inspect.report.comparison import build_comparison

        results = self.results(with_logs=True)
        if not results and not (self.folder / 'table.md').is_file():
            return {}
        title = f'Study: {self.folder.name}'
        page = build_comparison(title, self.plan.metric, results, self.digits)
        texts = {'table': ('table.md', self.table(results) + '\n'), 'page': ('report.html', page)}
        for name, text in texts.values():
            write_file(self.folder / name, text)
        return {what: self.folder / name for what, (name, _) in texts.items()}

    def _content(self, config: str) -> dict[str, Any]:
        if config not in self.contents:
            self.contents[config] = _content_of(config)
        return self.contents[config]

    def _run(
        self, row: Row, name: str, steps: int, rate: float | str, seed: int, options: Mapping
    ) -> Run:
        place = self.folder / row.folder / name
        words = ['train', row.config, '--work-dir', str(place), '--seed', str(seed)]
        if self.data is not None:
            words += ['--data', str(self.data)]
        if row.weights:
            words += ['--weights', str(self.weights)]
        changes = {
            **self.plan.options, **row.options, **options,
            'max_iters': steps, 'optim_wrapper.optimizer.lr': rate,
        }  # fmt: skip
        words += [*row.arguments, '--cfg-options', *(f'{k}={v}' for k, v in changes.items())]
        words += self.changes
        return Run(place, tuple(words), self.plan.metric)

    def _run_all(self, runs: list[Run], jobs: int) -> list[Run]:
        runs = [run for run in runs if 'score' not in run.result()]
        threads = max(1, _cores() // jobs)
        with ThreadPoolExecutor(jobs) as pool:
            try:
                done = list(pool.map(lambda run: self._train(run, threads), runs))
            except BaseException:  # Ctrl-C, or SIGTERM
                self.stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self.processes):
                    _stop(process)
                raise
        return [run for run, is_done in zip(runs, done, strict=True) if not is_done]

    def _train(self, run: Run, threads: int) -> bool:
        """Train as the run's command says, and go on where it was stopped; write its result."""
        before = run.result()
        run.folder.mkdir(parents=True, exist_ok=True)
        print(f'{run.folder}: {"going on" if before else "starting"}', flush=True)
        command = [*PROGRAM, *run.command, *(['--resume'] if before else [])]
        environment = {'OMP_NUM_THREADS': str(threads), **os.environ}
        costs = dict.fromkeys(('minutes', 'cpu_minutes', 'peak_mb'), 0.0)
        result: dict[str, Any] = dict(command=list(run.command), metric=run.metric) | costs | before
        with self.writing:  # reading a config changes what this process imports from
            content = _content_of(run.config)
            if changes := _changes(self._content(run.config), content):
                raise UsageError(f'{run.config} has changed since the study began, {changes[0]}')
        if not before or not (run.folder / CONFIG).is_file():
            write_file(run.folder / CONFIG, json.dumps(content, indent=1))
        write_file(run.folder / RESULT, json.dumps(result, indent=1))
        begin = time.monotonic()
        with (run.folder / LOG).open('a') as output:
            printed = output.tell()
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment,
                preexec_fn=_end_with_study,
                pass_fds=() if self.lock is None else (self.lock,),
                start_new_session=True,  # Ctrl-C in a terminal is for the study alone
            )  # fmt: skip
            self.processes.add(process)
            if self.stopped:  # since this run was chosen
                _stop(process)
            _, status, used = os.wait4(process.pid, 0)
            self.processes.remove(process)
        process.returncode = os.waitstatus_to_exitcode(status)
        result['minutes'] += (time.monotonic() - begin) / 60
        result['cpu_minutes'] += (used.ru_utime + used.ru_stime) / 60
        result['peak_mb'] = max(result['peak_mb'], used.ru_maxrss / 1024)
        text = (run.folder / LOG).read_bytes()[printed:].decode(errors='replace')
        lines = text.splitlines()[-SHOWN:]
        score = _last_score(run, text) if process.returncode == 0 else None
        if score is not None:
            result['score'] = score
        elif DIVERGED.search('\n'.join(lines)):
            result['diverged'] = True
        write_file(run.folder / RESULT, json.dumps(result, indent=1))
        if score is None and self.stopped:
            print(f'{run.folder}: stopped', file=sys.stderr, flush=True)
            return False
        if score is None:
            if process.returncode == 0:
                lines.append(f'its last evaluation gave no {run.metric}')
            print('\n'.join([f'{run.folder}: failed', *lines]), file=sys.stderr, flush=True)
            return False
        print(f'{run.folder}: {self.plan.metric} {score:.{self.digits}f}', flush=True)
        with self.writing:
            try:
                self.write_results()
            except Exception as error:  # the other trainings go on, and the end tries again
                print(f'{self.folder}: no table and page: {error}', file=sys.stderr, flush=True)
        return True


def _content_of(config: str) -> dict[str, Any]:
    """Return what a config and those it is based on say, as JSON knows it.

    Raises:
        UsageError: it is not there, or cannot be read.
    """

    def plain(value):  # what has another text in each process
        return sorted(map(str, value)) if isinstance(value, set) else type(value).__name__

    content = read_config(find_config(config)).to_dict()
    return json.loads(json.dumps(content, default=plain))


def _changes(then: Any, now: Any, name: str = '') -> list[str]:
    """Return the keys that two contents of a config differ in, each with both values."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [
            change
            for key in {**then, **now}
            for change in _changes(then.get(key), now.get(key), f'{name}.{key}' if name else key)
        ]
    return [] if then == now else [f'{name} was {then}, is {now}']


def _cores() -> int:
    """Count the cores that this process may use."""
    if sys.platform == 'linux':
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _end_with_study() -> None:
    """Have Linux send SIGTERM to this process, a training, when the study is killed."""
    if LIBC is not None:
        LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _stop(process: subprocess.Popen) -> None:
    """Let a training save itself and end. Popen would wait for it, as a thread does already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)


def _last_score(run: Run, text: str) -> float | None:
    """Return the score of a training that ended; None if there is none, or it is no number.

    Args:
        text: what its last start printed.

    Raises:
        UsageError: the evaluation has other metrics, and so will have those of all other runs.
    """
    from ..inspect.report.page import read_logs

    # Of the last start: one before may have been stopped in its last evaluation.
    starts = sorted(path.parent for path in run.folder.glob('*/vis_data'))
    metrics: dict[str, Any] = {}
    for line in read_logs(starts[-1]) if starts else ():
        metrics = {} if 'loss' in line else metrics | line
    if run.metric in metrics:
        score = metrics[run.metric]
        return score if score is not None and math.isfinite(score) else None
    if NOTHING in text:
        return 0.0
    if known := [name for name in metrics if name not in NO_METRICS]:
        raise UsageError(
            f'{run.folder}: its evaluation has no metric {run.metric!r}; '
            f'there are {", ".join(known)}'
        )
    return None
