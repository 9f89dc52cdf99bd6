"""Pictures of what backbones see in an image: yours, and any other beside it."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.usage import run
from mmhybrid.cli.visualize import main

if __name__ == '__main__':
    run(main)
