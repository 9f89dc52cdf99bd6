"""`check_data` in each of several processes, which say who reads, and what all raise."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mmhybrid.cli.arguments import argument_parser  # noqa: E402
from mmhybrid.cli.config import load_config  # noqa: E402
from mmhybrid.cli.datasets import check_data  # noqa: E402
from mmhybrid.data import before  # noqa: E402

if __name__ == '__main__':
    rank = os.environ['RANK']
    original = before.look_at_coco

    def look(*args, **kwargs):
        print(f'process {rank} reads', flush=True)
        return original(*args, **kwargs)

    before.look_at_coco = look
    args = argument_parser('').parse_args(sys.argv[1:])
    args.launcher, args.local_rank, args.dist_timeout = 'pytorch', 0, None
    cfg = load_config(args)
    if os.environ.get('MISSING') == rank:
        cfg.train_dataloader.dataset.data_root = 'nowhere'
    try:
        check_data(cfg, ['train'])
    except ValueError as error:
        print(f'process {rank} raises {type(error).__name__}: {error}', flush=True)
