"""Check this package on a GPU, within five minutes."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.check_gpu import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
