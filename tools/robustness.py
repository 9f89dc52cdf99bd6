"""Evaluate a trained detector, segmentor or classifier on disturbed images."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.robustness import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
