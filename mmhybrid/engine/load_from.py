"""Comparing a file that ``load_from`` names with the model, before mmengine takes what fits."""

from collections.abc import Mapping

import torch
from torch import nn

from mmhybrid.checkpoints import CheckpointError
from mmhybrid.checkpoints.report import listing, table
from mmhybrid.lora import is_of_lora

HINT = (
    "Weights of a backbone belong into weights='...' (--weights), or "
    "model.backbone.init_cfg=dict(type='Pretrained', checkpoint='...'), which convert them and "
    'fill every part'
)


def compare_load_from(model: nn.Module, checkpoint: Mapping, path: str) -> str | None:
    """Compare a checkpoint with the model, into which mmengine loads by name whatever fits.

    Args:
        model: the model, out of any wrapper.
        checkpoint: what the file holds.
        path: its name in the report and in errors.

    Returns:
        A report of what is filled and what is not; None if both agree one to one.

    Raises:
        CheckpointError: no learned value of the model is in the file, or what LoRA learned in it
            does not fit the model's.
    """
    content = checkpoint.get('state_dict', checkpoint)
    given = {
        name.removeprefix('module.'): value
        for name, value in content.items()
        if isinstance(value, torch.Tensor)
    }
    expected = model.state_dict()
    same = [name for name, value in given.items() if name in expected]
    filled = [name for name in same if given[name].shape == expected[name].shape]
    # Counts of batches say nothing: every model has the same.
    if not any(given[name].is_floating_point() for name in filled):
        raise CheckpointError(
            f'load_from={path} fits nothing of {type(model).__name__}: of its {len(given)} weights '
            f'({listing(given, 2)}) none has a name and a shape of the model '
            f'({listing(expected, 2)}). {HINT}'
        )
    _compare_lora(given, expected, path, type(model).__name__)
    shapes = [name for name in same if name not in set(filled)]
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    if not (shapes or missing or unexpected):
        return None
    sizes = {name: value.numel() for name, value in expected.items()}
    percent = 100 * sum(sizes[name] for name in filled) / max(sum(sizes.values()), 1)
    return table(
        'load_from fills a part of the model',
        [
            ('file', path),
            ('into', f'{type(model).__name__}, {percent:.1f} % of its values'),
            ('filled', f'{len(filled)} of {len(expected)} names'),
            ('of another shape, not taken', listing(shapes)),
            ('in the file only, not taken', listing(unexpected)),
            ('left at initialisation', listing(missing + shapes)),
        ],
    )


def _compare_lora(
    given: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], path: str, model: str
) -> None:
    """Raise CheckpointError for a file with LoRA unless the model takes all of it.

    Without it the model would begin from weights that were never used alone.
    """
    found, wanted = (
        {name: value.shape for name, value in weights.items() if is_of_lora(name)}
        for weights in (given, expected)
    )
    if not found or found == wanted:
        return
    raise CheckpointError(
        f'load_from={path} holds LoRA, {_describe(found)}; {model} has '
        f'{_describe(wanted) if wanted else "none"}. Give model.backbone.lora=dict(...) as it was '
        'trained, or join LoRA and weights first: mmhybrid convert IN OUT --merge-lora CONFIG'
    )


def _describe(lora: Mapping[str, torch.Size]) -> str:
    """Describe LoRA by the shapes of its matrices: 'rank 8 in 24 layers (proj, qkv)'."""
    matrices = {name: shape for name, shape in lora.items() if '.lora_A.' in name}
    ranks = sorted({shape[0] for shape in matrices.values()})
    layers = {name.partition('.lora_')[0].rpartition('.')[2] for name in matrices}
    return (
        f'rank {" and ".join(map(str, ranks))} in {len(matrices)} layers '
        f'({", ".join(sorted(layers))})'
    )
