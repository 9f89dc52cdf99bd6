"""Time, memory and cost of backbones and whole models, side by side."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.benchmark import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
