"""Time of models in PyTorch, compiled, in onnxruntime and in OpenVINO, side by side."""

import _checkout  # noqa: F401, which need not be installed

from mmhybrid.cli.benchmark_runtimes import main
from mmhybrid.cli.usage import run

if __name__ == '__main__':
    run(main)
