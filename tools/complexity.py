"""The CMT paper's complexity formulas beside counted multiply-adds, for each stage."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.complexity import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
