"""`mmhybrid train` as one of several processes, to one of which something happens.

FAULT=RANK,RESTARTS,ITERATION,SIGNAL: the process of that rank gets the signal when that iteration
begins, if torchrun has restarted the processes that many times.
"""

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mmhybrid.cli.train import main  # noqa: E402
from mmhybrid.cli.usage import run  # noqa: E402
from tests.cli.faults import at_iteration, send  # noqa: E402

if __name__ == '__main__':
    rank, restarts, iteration, name = os.environ['FAULT'].split(',')
    here = os.environ.get('RANK', os.environ.get('SLURM_PROCID'))
    if (here, os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) == (rank, restarts):
        at_iteration(int(iteration), send(getattr(signal, name)))()
    run(main)
