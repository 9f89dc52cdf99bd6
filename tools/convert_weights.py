"""Write a published checkpoint in mmhybrid's form, or show what it is."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.convert_weights import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
