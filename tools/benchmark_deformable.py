"""Time of deformable attention by each backend, beside the bytes that it has to move."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.benchmark_deformable import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
