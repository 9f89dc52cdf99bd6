"""Check a data folder before training, and print what is in it and what is wrong."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.check_data import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
