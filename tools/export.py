"""Export a model to ONNX or torch.export, and keep the file only if it agrees with the model."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.export import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
