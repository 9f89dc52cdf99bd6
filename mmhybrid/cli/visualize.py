"""Pictures of what backbones see in an image: yours, and any other beside it.

    mmhybrid visualize NAME... --image FILE... [--weights FILE...] [--out DIR]
                              [--show features,attention,...] [--at X Y] [--size H W]

A NAME is a config file, a name of `mmhybrid.list_backbones()`, perhaps with arguments
(`vitcomer_s,windows=0`), `timm:` and a name of timm, or a backbone class of a host library
(`mmdet.ResNet,depth=50`). `--weights` gives one for each NAME, in order, and `-` for none: a
checkpoint of the config's training, `pretrained` for the weights that the config names, or
published weights of a backbone. Nothing in the models is changed: all is read by hooks.

features    the maps of every level, their three main directions as colours
attention   where the token at --at looks, in every attention of the model: the weight of its
            strongest key, and that of the class and register tokens before the patches (prefix)
exchange    what MRFP and CTI of ViT-CoMer, or injectors and extractors of ViT-Adapter, do to the
            two streams of features, stage by stage
points      the points that the query at --at samples in every deformable attention
field       the effective receptive field of the place --at in every level: mean absolute gradient
            over all images given
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .arguments import KeyValues
from .paths import find, is_config
from .usage import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from .models import Looked

SHOWN = ('features', 'attention', 'exchange', 'points', 'field')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='+', metavar='NAME')
    parser.add_argument('--image', nargs='+', required=True, metavar='FILE')
    parser.add_argument('--weights', nargs='+', default=[], metavar='FILE')
    parser.add_argument('--out', default='work_dirs/visualize', metavar='DIR')
    parser.add_argument('--show', default='all', help='by comma: ' + ', '.join(SHOWN))
    parser.add_argument(
        '--at', nargs=2, type=float, default=(0.5, 0.5), metavar=('X', 'Y'), help='from 0 to 1'
    )
    parser.add_argument(
        '--size', nargs=2, type=int, metavar=('H', 'W'), help="default: the image's own"
    )
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, default={})
    args = parser.parse_args(argv)
    args.show = SHOWN if args.show == 'all' else tuple(args.show.split(','))
    unknown = [what for what in args.show if what not in SHOWN]
    if unknown:
        parser.error(f'--show {unknown[0]}: expected all or some of {", ".join(SHOWN)}')
    if not all(0 <= place <= 1 for place in args.at):
        parser.error(f'--at {args.at[0]} {args.at[1]}: expected numbers from 0 to 1')
    if args.size and min(args.size) < 32:
        parser.error(f'--size {args.size[0]} {args.size[1]}: expected at least 32 32')
    if args.weights and len(args.weights) != len(args.names):
        parser.error(
            f'--weights: {len(args.weights)} for {len(args.names)} names; give one each, - for none'
        )
    if args.cfg_options and not any(map(is_config, args.names)):
        parser.error('--cfg-options are for configs, but no NAME is one')
    return args


def main(argv: list[str] | None = None) -> list[Path]:
    """Draw, and return the paths of the pictures."""
    from .models import open_model

    args = parse_args(argv)
    images = [read_image(find(path, 'image'), args.size) for path in args.image]
    weights = [None if file == '-' else file for file in args.weights] or [None] * len(args.names)
    opened = []
    for name, file in zip(args.names, weights, strict=True):
        options = args.cfg_options if is_config(name) else None
        opened.append(open_model(name, file, options))
    if len({looked.name for looked in opened}) < len(opened):
        for number, looked in enumerate(opened, 1):  # two checkpoints of a config, say
            looked.name = f'{looked.name}_{number}'
    written: list[Path] = []
    out = Path(args.out)
    for what in args.show:
        begin = len(written)
        if what in ('features', 'field'):
            path = out / f'{what}.png'
            DRAWN[what](opened, images, args.at, path)
            written.append(path)
        else:
            for looked in opened:
                written += DRAWN[what](looked, images[0], args.at, out)
        for path in written[begin:]:
            print(path, flush=True)
    return written


def read_image(path: str | Path, size: Sequence[int] | None) -> np.ndarray:
    """An RGB image (H, W, 3) uint8, resized to ``size`` if that is given."""
    import cv2

    from ..inspect.report import draw

    image = draw.read_image(path)
    if image is None:
        raise UsageError(f'{path} cannot be read as an image')
    if size:
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    if min(image.shape[:2]) < 32:
        raise UsageError(
            f'{path} has {image.shape[1]}x{image.shape[0]} pixels: expected 32 or more'
        )
    return image


def fitted(looked: 'Looked', image: np.ndarray) -> 'tuple[np.ndarray, Tensor]':
    """The image with sides that the model's divisor divides, so that maps lie on it exactly; and
    as the model takes it."""
    import cv2

    d = looked.divisor
    h, w = (max(round(side / d), 1) * d for side in image.shape[:2])
    if (h, w) != image.shape[:2]:
        image = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    return image, looked.normalize(image)


def maps_of(looked: 'Looked', tensor: 'Tensor') -> 'list[Tensor]':
    """The maps of a model's backbone."""
    from ..inspect import feature_maps

    try:
        return feature_maps(looked.backbone, tensor)
    except ValueError as error:
        raise UsageError(
            f'{looked.name}: {error}. Give it the arguments that make it a backbone of detectors, '
            'such as out_indices=(0,1,2,3)'
        ) from error


def draw_features(
    opened: 'list[Looked]', images: list[np.ndarray], at: tuple[float, float], path: Path
) -> None:
    """Each model's levels in a row beside the image."""
    from ..inspect import pca_colors
    from .figures import label_row, panels, save, show_image

    rows = []
    for looked in opened:
        image, tensor = fitted(looked, images[0])
        rows.append((looked, image, maps_of(looked, tensor)))
    columns = 1 + max(len(maps) for *_, maps in rows)
    figure, grid = panels(len(rows), columns, height=_height(rows[0][1], 2.6))
    for axes, (looked, image, maps) in zip(grid, rows, strict=True):
        show_image(axes[0], image, f'image\n{image.shape[1]} x {image.shape[0]} px')
        label_row(axes[0], f'{looked.name}\n{looked.weights}')
        for level, ax in zip(maps, axes[1:], strict=False):
            colors, share = pca_colors(level)
            c, h, w = level.shape
            title = (
                f'stride {_stride(image, level)}, {w} x {h}\n{c} channels, {share:.0%} of variance'
            )
            show_image(ax, colors, title)
        for ax in axes[1 + len(maps) :]:
            ax.set_axis_off()
    figure.suptitle('Feature maps: three main directions of each level (PCA) as colours')
    save(figure, path)


def draw_attention(
    looked: 'Looked', image: np.ndarray, at: tuple[float, float], out: Path
) -> list[Path]:
    """All attentions of one token, heads averaged; and the last one's heads."""
    from ..inspect import attention_maps
    from .figures import label_row, panels, save

    image, tensor = fitted(looked, image)
    maps = attention_maps(looked.backbone, tensor, at)
    if not maps:
        _skip(looked, 'attention', 'calls no attention that can be placed on the image')
        return []
    columns = min(6, len(maps))
    paths = [out / f'{looked.name}_attention.png', out / f'{looked.name}_heads.png']

    figure, grid = panels(-(-len(maps) // columns), columns, 2.3, _height(image, 2.3))
    for ax, one in zip(grid.flat, maps, strict=False):
        mean = one.weights.mean(0).numpy()
        title = f'{one.name}\nstrongest {np.nanmax(mean):.1%}'
        if one.prefix.shape[1]:
            title += f', prefix {one.prefix.sum(1).mean():.0%}'
        drawn = _attention_panel(ax, image, mean, one, title)
    _finish_attention(figure, grid, len(maps), drawn)
    figure.suptitle(
        f'{looked.name}, {looked.weights}: attention of the token at the cross, mean of heads'
    )
    save(figure, paths[0])

    last = maps[-1]
    columns = min(6, len(last.weights))
    figure, grid = panels(-(-len(last.weights) // columns), columns, 2.3, _height(image, 2.3))
    for number, (ax, head) in enumerate(zip(grid.flat, last.weights.numpy(), strict=False), 1):
        title = f'head {number}\nstrongest {np.nanmax(head):.1%}'
        drawn = _attention_panel(ax, image, head, last, title)
    _finish_attention(figure, grid, len(last.weights), drawn)
    label_row(grid[0, 0], last.name)
    figure.suptitle(f'{looked.name}, {looked.weights}: heads of {last.name}')
    save(figure, paths[1])
    return paths


def _attention_panel(ax, image, weights, one, title):
    """Weights over a grey image, in parts of the strongest; a cross on the token."""
    from .figures import show_image

    extent = image.shape[:2]
    show_image(ax, image.mean(-1), title, extent, cmap='gray', vmin=0, vmax=255)
    scaled = np.ma.masked_invalid(weights / np.nanmax(weights))
    drawn = show_image(ax, scaled, title, extent, cmap='inferno', vmin=0, vmax=1, alpha=0.75)
    x, y = ((cell + 0.5) / side for cell, side in zip(one.cell[::-1], one.grid[::-1], strict=True))
    ax.plot(x * extent[1], y * extent[0], '+', color='#35e0ff', markersize=11, markeredgewidth=2)
    return drawn


def _finish_attention(figure, grid, count, drawn):
    for ax in grid.flat[count:]:
        ax.set_axis_off()
    bar = figure.colorbar(drawn, ax=grid, shrink=0.6, aspect=30)
    bar.set_label('weight, in parts of the strongest key', fontsize=9)


def draw_exchange(
    looked: 'Looked', image: np.ndarray, at: tuple[float, float], out: Path
) -> list[Path]:
    """Bars of each stream before a part, of what the part changes, and after it."""
    from ..inspect import exchanges
    from .figures import COLORS, panels, save

    try:
        rows = exchanges(looked.backbone, fitted(looked, image)[1])
    except TypeError as error:
        _skip(looked, 'exchange', str(error))
        return []
    streams = list(dict.fromkeys(row.stream for row in rows))
    kinds = list(dict.fromkeys(_kind(row.part) for row in rows))
    streams.sort(key=lambda stream: (stream != 'ViT tokens', len(stream), stream))
    figure, grid = panels(len(streams), 1, width=12, height=2.6)
    for ax, stream in zip(grid[:, 0], streams, strict=True):
        shown = [row for row in rows if row.stream == stream]
        place = np.arange(len(shown)) + 0.4 * np.array([row.stage for row in shown])
        colors = [COLORS[kinds.index(_kind(row.part)) % len(COLORS)] for row in shown]
        ax.bar(place - 0.28, [row.before for row in shown], 0.28, color='#c9ccd1')
        ax.bar(place, [row.added for row in shown], 0.28, color=colors)
        ax.bar(place + 0.28, [row.after for row in shown], 0.28, color='#85898f')
        for x, row in zip(place, shown, strict=True):
            text = f'{row.share:.0%}' if row.share < 10 else f'{row.share:.0f}x'
            ax.annotate(text, (x, row.added), ha='center', va='bottom', fontsize=7)
        ax.set_xticks(place, [_wrapped(row.part) for row in shown], fontsize=6.5)
        for stage in sorted({row.stage for row in shown}):
            within = [x for x, row in zip(place, shown, strict=True) if row.stage == stage]
            middle = (within[0] + within[-1]) / 2
            ax.text(
                middle, 0.97, f'stage {stage}', transform=ax.get_xaxis_transform(),
                ha='center', va='top', fontsize=8, color='#555555',
            )  # fmt: skip
        ax.set_ylabel('root mean square', fontsize=8)
        ax.set_title(stream, fontsize=10, loc='left')
        ax.set_xlim(place[0] - 0.6, place[-1] + 0.6)
        ax.margins(y=0.22)
        ax.spines[['top', 'right']].set_visible(False)
    figure.suptitle(
        f'{looked.name}, {looked.weights}: each stream before a part (light grey), what the part '
        'changes (colour; with its share of before), and after it (dark grey)',
        fontsize=10,
    )
    path = out / f'{looked.name}_exchange.png'
    save(figure, path)
    return [path]


def _wrapped(part):
    """'CTI to CNN: ViT map' in lines that are short enough for a bar."""
    return part.replace(': ', '\n').replace(' to ', '\nto ').replace('extra ', 'extra\n')


def _kind(part):
    """A part without its numbers: 'extra CTI 1' and 'extra CTI 2' are of one kind."""
    return ' '.join(word for word in part.split() if not word.rstrip(':').isdigit())


def draw_points(
    looked: 'Looked', image: np.ndarray, at: tuple[float, float], out: Path
) -> list[Path]:
    """Sampling points of every deformable attention over the image."""
    from ..inspect import sampling_points
    from .figures import COLORS, panels, save, show_image

    image, tensor = fitted(looked, image)
    found = sampling_points(looked.backbone, tensor, at)
    if not found:
        _skip(looked, 'points', 'has no deformable attention')
        return []
    height, width = image.shape[:2]
    columns = min(4, len(found))
    figure, grid = panels(-(-len(found) // columns), columns, 2.9, _height(image, 2.9))
    strides: dict[int, str] = {}
    for ax, one in zip(grid.flat, found, strict=False):
        outside = ((one.locations < 0) | (one.locations > 1)).any(-1)
        lost = float((one.weights * outside).sum() / one.weights.sum())
        show_image(
            ax, image, f'{one.name}\n{lost:.0%} of the weight outside', (height, width), alpha=0.55
        )
        for level, (h, _) in enumerate(one.shapes):
            stride = round(height / h)
            color = strides.setdefault(stride, COLORS[len(strides)])
            xy = one.locations[:, level].reshape(-1, 2).numpy() * (width, height)
            weight = one.weights[:, level].flatten().numpy()
            area = 4 + 400 * weight / len(one.weights)
            ax.scatter(*xy.T, s=area, color=color, edgecolors='black', linewidths=0.4, zorder=3)
        x, y = one.query
        ax.plot(x * width, y * height, '+', color='red', markersize=12, markeredgewidth=2, zorder=4)
        ax.set_xlim(-0.08 * width, 1.08 * width)
        ax.set_ylim(1.08 * height, -0.08 * height)
    for ax in grid.flat[len(found) :]:
        ax.set_axis_off()
    handles = [
        grid[0, 0].scatter([], [], color=color, edgecolors='black', label=f'on stride {stride}')
        for stride, color in sorted(strides.items())
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), frameon=False)
    figure.suptitle(
        f'{looked.name}, {looked.weights}: points that the query at the cross samples; '
        'areas are weights',
        fontsize=11,
    )
    path = out / f'{looked.name}_points.png'
    save(figure, path)
    return [path]


def draw_field(
    opened: 'list[Looked]', images: list[np.ndarray], at: tuple[float, float], path: Path
) -> None:
    """Receptive fields of all levels, each model in a row."""
    import torch
    from matplotlib.patches import Rectangle

    from ..inspect import central_side, receptive_fields
    from .figures import label_row, panels, save, show_image

    rows = []
    for looked in opened:
        size = fitted(looked, images[0])[0].shape[:2]
        tensors = torch.cat([looked.normalize(_resized(image, size)) for image in images])
        maps = maps_of(looked, tensors[:1])
        rows.append((looked, size, maps, receptive_fields(looked.backbone, tensors, at)))
    columns = max(len(fields) for *_, fields in rows)
    figure, grid = panels(len(rows), columns, height=_height(images[0], 2.6))
    for axes, (looked, (height, width), maps, fields) in zip(grid, rows, strict=True):
        label_row(axes[0], f'{looked.name}\n{looked.weights}')
        for ax, level, field in zip(axes, maps, fields, strict=False):
            center = [(int(p * n) + 0.5) / n for p, n in zip(at, level.shape[:0:-1], strict=True)]
            center = [min(p, 1 - 0.5 / n) for p, n in zip(center, level.shape[:0:-1], strict=True)]
            half, most = (central_side(field, share, center) for share in (0.5, 0.9))
            title = f'stride {round(height / level.shape[1])}\n50% in {half} px, 90% in {most} px'
            scaled = np.log10(field / max(field.max(), 1e-30) + 1e-6)
            drawn = show_image(ax, scaled, title, (height, width), cmap='magma', vmin=-4, vmax=0)
            for side, style in ((half, '-'), (most, '--')):
                corner = (center[0] * width - side / 2, center[1] * height - side / 2)
                ax.add_patch(
                    Rectangle(corner, side, side, fill=False, edgecolor='#35e0ff', linestyle=style)
                )
            ax.set_xlim(0, width)
            ax.set_ylim(height, 0)
        for ax in axes[len(fields) :]:
            ax.set_axis_off()
    bar = figure.colorbar(drawn, ax=grid, shrink=0.6, aspect=30)
    bar.set_label('gradient, log10 of its maximum', fontsize=9)
    figure.suptitle(
        f'Effective receptive fields, {rows[0][1][1]} x {rows[0][1][0]} px, mean of {len(images)} '
        f'image{"s" if len(images) > 1 else ""}; squares hold 50% (line) and 90% (dashes)',
        fontsize=10,
    )
    save(figure, path)


def _resized(image, size):
    import cv2

    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def _height(image, width):
    """Of a panel in inches: the image at this width, and two lines of title."""
    return width * image.shape[0] / image.shape[1] + 0.55


def _stride(image, level):
    return round(image.shape[0] / level.shape[1])


def _skip(looked, what, why):
    print(f'no {what} of {looked.name}: {why}', file=sys.stderr)


DRAWN: dict[str, Callable] = dict(
    features=draw_features,
    attention=draw_attention,
    exchange=draw_exchange,
    points=draw_points,
    field=draw_field,
)
