"""Draw images, train Mask R-CNN with ViT-CoMer-T on them, evaluate, draw results."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.demo import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
