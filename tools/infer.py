"""Run a trained detector, segmentor or classifier on images, folders, videos or a camera."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.infer import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
