"""Damaged and hostile files, by the thousand: is every one read or refused with a message?

    python -m tests.fuzz checkpoints --cases 2000
    python -m tests.fuzz data --cases 1000 --seed 7

An input passes if it is read, or refused with the error that its reader documents. Anything else is
a failure: another exception, an end of the process, code that ran (files that try to run code write
a marker), or more memory than the bound, which the system enforces: `--memory` MB above what the
process has when it starts. The exit code is 0 if nothing failed. Failing inputs are kept in --keep.
"""

import argparse
import collections
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz import targets
from tests.fuzz.mutate import mutate


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m tests.fuzz',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('target', choices=targets.TARGETS)
    parser.add_argument('--cases', type=int, default=1000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--memory', type=int, default=1024, metavar='MB')
    parser.add_argument('--keep', type=Path, metavar='FOLDER')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        return fuzz(args, targets.TARGETS[args.target](Path(folder)))


def fuzz(args, target) -> int:
    for sample in target.samples:  # what is imported or kept once is there before the bound is set
        result = target.read(sample)
        if not result.endswith('read'):
            raise RuntimeError(f'{sample.name} is not damaged yet, but {result}')
    bound_memory(args.memory << 20)
    rng = random.Random(args.seed)
    results, failures = collections.Counter(), []
    start = time.perf_counter()
    for case in range(args.cases):
        sample = target.samples[case % len(target.samples)]
        data = mutate(sample.read_bytes(), rng)
        with target.damaged(sample, data):
            try:
                result = target.read(sample)
            except Exception:
                result = 'failed'
                failures.append((case, sample.name, traceback.format_exc(limit=-3)))
                if args.keep:
                    args.keep.mkdir(parents=True, exist_ok=True)
                    (args.keep / f'{case}-{sample.name}').write_bytes(data)
        results[result] += 1
    for name, path in target.hostile():
        try:
            results[f'{name}: {target.read(path)}'] += 1
        except Exception:
            failures.append((name, path.name, traceback.format_exc(limit=-3)))
    if target.marker.exists():
        failures.append(('-', '-', 'code of a file was run'))
    for result, count in sorted(results.items()):
        print(f'{count:8d}  {result}')
    print(f'{args.cases:8d}  cases in {time.perf_counter() - start:.0f} s, seed {args.seed}')
    print(f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:8d}  MB at most')
    for case, name, text in failures[:10]:
        print(f'\ncase {case}, {name}\n{text}')
    print(f'{len(failures)} failures')
    return 1 if failures else 0


def bound_memory(spare: int) -> None:
    """Let the process have so many more bytes of address space and no more."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == '__main__':
    sys.exit(main())
