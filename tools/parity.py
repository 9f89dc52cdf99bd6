"""Compare mmhybrid's backbones with reference runs of the original implementations."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.parity import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
