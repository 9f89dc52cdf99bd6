"""Train a detector, segmentor or classifier: the config's default_scope decides."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.train import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
