"""Reference runs of original implementations, without their code or their trained weights.

A reference is NAME.json with NAME.npz beside it. The JSON holds the original constructor's
arguments, each state-dict key with its shape and distribution, the input, and the outputs' shapes
and statistics; the NPZ holds values of each output at drawn positions. All values are drawn with
NumPy's PCG64 seeded by the CRC-32 of a name, so weights and input can be made again anywhere.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

NUM_SAMPLES = 2048  # positions kept of an output, all if it has fewer


@dataclass(frozen=True)
class Comparison:
    """One output beside its reference; errors are relative to the output's standard deviation.

    Attributes:
        level: number of the output.
        shape, expected_shape: of the output (None if missing) and of the reference.
        max_error, mean_error: NaN where they cannot be computed.
    """

    level: int
    shape: tuple[int, ...] | None
    expected_shape: tuple[int, ...]
    max_error: float = float('nan')
    mean_error: float = float('nan')

    def passes(self, max_error: float = 1e-4, mean_error: float = 1e-5) -> bool:
        """Return True if the output is there and near enough; NaN is not near."""
        return self.max_error <= max_error and self.mean_error <= mean_error


class Golden:
    """A reference run.

    Attributes:
        name, source: which run, of which code.
        arch: the original constructor's arguments.
        shapes: original state-dict key -> shape.

    Raises:
        ValueError: the file is no such reference.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self._spec = json.loads(self.path.read_text())
            self.name, self.source = self._spec['name'], self._spec['source']
            self.arch = dict(self._spec['arch'])
            self._entries = dict(self._spec['state_dict'])
            self._outputs = list(self._spec['outputs'])
            self.input_shape = tuple(self._spec['input']['shape'])
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f'{path} is not a reference run: {error!r}') from error
        self.shapes = {key: tuple(entry['shape']) for key, entry in self._entries.items()}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The run's weights under the original's names, float32 (counters int64)."""
        return {
            key: torch.from_numpy(_draw(entry, _generator(key)))
            for key, entry in self._entries.items()
        }

    def image(self) -> torch.Tensor:
        """The run's input, (N, C, H, W)."""
        return torch.from_numpy(_draw(self._spec['input'], _generator(f'input:{self.name}')))

    def compare(self, outputs: Sequence[torch.Tensor]) -> list[Comparison]:
        """Compare a model's outputs with the reference.

        Args:
            outputs: sequence of tensors, in the reference's order. Outputs past the reference's
                last are compared too: they have no expected shape and do not pass.

        Returns:
            A Comparison for each output.

        Raises:
            ValueError: the NPZ lacks an output.
            OSError: there is no NPZ.
        """
        rows = []
        values_path = self.path.with_name(f'{self.name}.npz')
        with np.load(values_path) as reference:
            for level, expected in enumerate(self._outputs):
                shape = tuple(expected['shape'])
                got = outputs[level] if level < len(outputs) else None
                if got is None or tuple(got.shape) != shape:
                    rows.append(Comparison(level, None if got is None else tuple(got.shape), shape))
                    continue
                if f'out{level}' not in reference:
                    raise ValueError(f'{values_path} has no out{level}')
                values = got.detach().cpu().double().numpy().reshape(-1)
                error = np.abs(
                    values[self._positions(level, values.size)] - reference[f'out{level}']
                )
                error /= expected['std']
                rows.append(
                    Comparison(level, shape, shape, float(error.max()), float(error.mean()))
                )
        for level in range(len(self._outputs), len(outputs)):
            rows.append(Comparison(level, tuple(outputs[level].shape), ()))
        return rows

    def _positions(self, level, size):
        if size <= NUM_SAMPLES:
            return np.arange(size)
        generator = _generator(f'sample:{self.name}:{level}')
        return np.sort(generator.choice(size, NUM_SAMPLES, replace=False))


def _generator(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def _draw(entry, generator):
    """Values of one array as its entry describes them."""
    shape, kind = tuple(entry['shape']), entry['dist']
    if kind == 'zeros':  # batch counters
        return np.zeros(shape, np.int64)
    if kind == 'thirds':  # mask of a qkv bias: queries and values on, keys off
        return np.repeat(np.array([1, 0, 1], np.float32), shape[0] // 3)
    if kind == 'geometric':  # RoPE periods
        return (entry['base'] ** (np.arange(shape[0]) / shape[0])).astype(np.float32)
    if kind == 'normal':
        values = generator.standard_normal(shape) * entry['std'] + entry['mean']
    elif kind == 'uniform':
        values = generator.uniform(entry['low'], entry['high'], shape)
    else:
        raise ValueError(f'unknown distribution {kind!r}')
    return np.asarray(values, np.float32)
