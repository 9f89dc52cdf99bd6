"""Measure the costs of a model, part by part, and how a config would train it."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.analyze import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
