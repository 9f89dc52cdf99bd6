"""Evaluate the checkpoint of a work dir and write a report: one HTML file, with pictures."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.report import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
