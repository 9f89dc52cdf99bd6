"""Make README and metafile of every folder of configs, as mim reads them, and docs/zoo.md.

    python tools/make_metafiles.py [--check] [--keep-counts]

What is printed elsewhere comes from configs/published.yml, everything else from the configs
themselves: parameters and multiply-adds are counted on models without memory for weights, which
takes some minutes. --keep-counts counts only configs that are in no metafile yet; --check writes
nothing, and ends with 1 if a file would change.
"""

import argparse
import os
import re
import sys
from itertools import takewhile
from pathlib import Path

from _zoo import CLASSIFICATION, CONFIGS, DETECTION, FAMILIES, NAME, ROOT, config_names

from mmhybrid.config_files import config_files
from mmhybrid.files import write_file

FILES = config_files()
PUBLISHED = CONFIGS / 'published.yml'
HEADS = {
    'retinanet': 'RetinaNet',
    'maskrcnn': 'Mask R-CNN',
    'cascade': 'Cascade Mask R-CNN',
    'atss': 'ATSS',
    'gfl': 'GFL',
    'dino': 'DINO',
    'upernet': 'UperNet',
    'fpn': 'Semantic FPN',
    'linearseg': 'linear segmentor',
    'mask2former': 'Mask2Former',
    'mask2former_panoptic': 'Mask2Former, panoptic',
    'mask2former_instance': 'Mask2Former, instances',
    'linear': 'linear classifier',
    'imagenet': 'its own classifier',
    'cifar10': 'its own classifier',
    'cifar100': 'its own classifier',
}
SIZES = {'splus': 'S+', 'ti': 'Ti'}  # those that are not written in capitals
DATA = {
    'ADE20KDataset': 'ADE20K',
    'CIFAR10': 'CIFAR-10',
    'CIFAR100': 'CIFAR-100',
    'COCOStuffDataset': 'COCO-Stuff 164k',
    'CityscapesDataset': 'Cityscapes',
    'CocoDataset': 'COCO',
    'CocoPanopticDataset': 'COCO',
    'ImageNet': 'ImageNet-1k',
    'LVISV1Dataset': 'LVIS v1',
    'PascalVOCDataset': 'Pascal VOC 2012',
    'VOCDataset': 'Pascal VOC 07+12',
}
TASKS = {
    'box AP': 'Object Detection',
    'mask AP': 'Instance Segmentation',
    'mIoU': 'Semantic Segmentation',
    'mIoU (multi-scale)': 'Semantic Segmentation',
    'Top 1 Accuracy': 'Image Classification',
}
DETECTOR_INPUT = (800, 1280)
COUNTED = {}  # backbone, neck and size of input -> multiply-adds


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='write nothing; 1 if files differ')
    parser.add_argument(
        '--keep-counts', action='store_true', help='count only configs that are in no metafile yet'
    )
    args = parser.parse_args(argv)
    counts = read_counts() if args.keep_counts else {}
    for name in zoo_names():
        if name not in counts:
            counts[name] = count(name)
            print(f'{name}: {counts[name][0] / 1e6:.2f} M, {counts[name][1] / 1e9:.1f} G')
    stale = []
    for path, text in make_files(counts).items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not args.check:
            write_file(path, text)
    print(f'{"would change" if args.check else "written"}: {", ".join(stale) or "nothing"}')
    return int(args.check and bool(stale))


def zoo_names():
    """Names of the configs that are recipes: neither the demo nor a user's own data."""
    names = [name.removesuffix('.py') for name in config_names()]
    return [name for name in names if not name.startswith('demo_') and not name.endswith('_custom')]


def load(name):
    from mmengine.config import Config

    return Config.fromfile(FILES[name])


def recipe_folders():
    """Folder below configs -> names of the recipes in it, and of those in front of its family.

    Raises:
        ValueError: a recipe in front is the only one of its family.
    """
    places = {name: FILES[name].parent.relative_to(CONFIGS).as_posix() for name in zoo_names()}
    homes = {
        family_of(name): place
        for name, place in places.items()
        if place != '.' and not place.startswith('experiments/')
    }
    folders = {}
    for name, place in places.items():
        if place == '.' and family_of(name) not in homes:
            raise ValueError(f'configs/{name}.py: make a folder of its family, and put it there')
        folders.setdefault(homes[family_of(name)] if place == '.' else place, []).append(name)
    return folders


def family_of(name):
    return NAME.fullmatch(f'{name}.py')['family']


def make_files(counts):
    """Path -> text of every generated file.

    Args:
        counts: name of a config -> (parameters, multiply-adds).

    Raises:
        ValueError: published.yml names a config or a collection that is not there, or a config has
            no counts.
    """
    import yaml

    source = yaml.safe_load(PUBLISHED.read_text())
    printed, others = published_results(source), results_of_weights(source)
    families = {family_of(name) for name in zoo_names()}
    unknown = sorted(set(zoo_names()) - set(counts))
    if unknown:
        raise ValueError(
            f'in no metafile: {", ".join(unknown)}; '
            'run python tools/make_metafiles.py --keep-counts'
        )
    missing = sorted(families - set(source['collections']))
    if missing:
        raise ValueError(f'{PUBLISHED.name} has no collection {", ".join(missing)}')
    unused = sorted(set(source['collections']) - families)
    if unused:
        raise ValueError(f'{PUBLISHED.name}: there is no config of collection {", ".join(unused)}')
    folders, files, described = recipe_folders(), {}, {}
    order = list(source['collections'])
    for place, names in folders.items():
        names.sort(key=lambda name: order.index(family_of(name)))
        own = list(dict.fromkeys(family_of(name) for name in names))
        about = {family: source['collections'][family] for family in own}
        models = [describe(name, about[family_of(name)], counts[name], printed) for name in names]
        described |= {model['Name']: model for model in models}
        content = dict(Models=models)
        extra = source['experiments'].get(place)
        if not extra:
            content = dict(Collections=[collection(f, about[f], place) for f in own]) | content
        elif not place.startswith('experiments/'):
            raise ValueError(f'{PUBLISHED.name}: experiments: {place} is the folder of a family')
        files[CONFIGS / place / 'metafile.yml'] = NOTE + yaml.safe_dump(
            content, sort_keys=False, allow_unicode=True, width=100
        )
        found = {name: others[name] for name in names if name in others}
        files[CONFIGS / place / 'README.md'] = folder_page(
            place, models, about.values(), extra, found
        )
    unknown = sorted(set(source['experiments']) - set(folders))
    if unknown:
        raise ValueError(f'{PUBLISHED.name}: experiments: no recipes in {", ".join(unknown)}')
    imports = sorted(f'configs/{place}/metafile.yml' for place in folders)
    files[ROOT / 'model-index.yml'] = NOTE + yaml.safe_dump(dict(Import=imports), width=100)
    names = sorted(described, key=lambda name: order.index(family_of(name)))
    files[ROOT / 'docs' / 'zoo.md'] = page([described[name] for name in names])
    files[CONFIGS / 'README.md'] = front_page(folders, source)
    return files


NOTE = '# Made by tools/make_metafiles.py of the configs and configs/published.yml.\n'


def published_results(source):
    """Name of a config -> (name of the source, its address, metric -> value)."""
    known, printed = set(zoo_names()), {}
    for group in source['published']:
        missing = {'source', 'url', 'metrics', 'rows'} - set(group)
        if missing:
            raise ValueError(f'{PUBLISHED.name}: a group without {sorted(missing)}: {group}')
        unknown = set(group['metrics']) - set(TASKS)
        if unknown:
            raise ValueError(f'{PUBLISHED.name}: unknown metrics {sorted(unknown)}')
        for name, values in group['rows'].items():
            if name not in known:
                raise ValueError(f'{PUBLISHED.name}: there is no config {name}')
            if name in printed:
                raise ValueError(f'{PUBLISHED.name}: {name} stands there twice')
            if len(values) > len(group['metrics']):
                raise ValueError(f'{PUBLISHED.name}: {name} has more values than metrics')
            metrics = dict(zip(group['metrics'], values, strict=False))
            printed[name] = (group['source'], group['url'], metrics)
    return printed


def results_of_weights(source):
    """Name of a config -> lines of a table: what was published of it with other weights."""
    from mmhybrid.checkpoints import OFFICIAL_FILES

    known, found = set(zoo_names()), {}
    for group in source['published']:
        for name, rows in group.get('weights', {}).items():
            unknown = {name} - known | set(rows) - set(OFFICIAL_FILES)
            if unknown:
                raise ValueError(f'{PUBLISHED.name}: no config or weights {", ".join(unknown)}')
            for weights, values in rows.items():
                metrics = zip(values, group['metrics'], strict=True)
                text = ', '.join(f'{value} {metric}' for value, metric in metrics)
                line = f'| {weights} | {text} | [{group["source"]}]({group["url"]}) |'
                found.setdefault(name, []).append(line)
    return found


def collection(family, about, place):
    return {
        'Name': about['name'],
        'Metadata': {'Architecture': [FAMILIES[family]]},
        'Paper': {'Title': about['title'], 'URL': about['paper']},
        'README': f'configs/{place}/README.md',
        'Code': {'URL': about['code']},
    }


def describe(name, about, counted, printed):
    """The entry of one config in its metafile."""
    cfg, match = load(name), NAME.fullmatch(f'{name}.py')
    data = DATA[leaf_dataset(cfg.train_dataloader.dataset).type.split('.')[-1]]
    size = SIZES.get(match['size'], match['size'].upper())
    length = {
        'Epochs': cfg.train_cfg.get('max_epochs'),
        'Iterations': cfg.train_cfg.get('max_iters'),
    }
    entry = {
        'Name': name,
        'In Collection': about['name'],
        'Config': FILES[name].relative_to(ROOT).as_posix(),
        'Metadata': {
            'Training Data': data,
            'Architecture': [HEADS[match['head']], f'{about["name"]}-{size}'],
            'Pretrained Weights': weights(cfg),
            **{key: value for key, value in length.items() if value},
            'Batch Size': cfg.auto_scale_lr.base_batch_size,
            'Parameters': counted[0],
            'FLOPs': counted[1],
        },
    }
    if name in printed:
        source, url, metrics = printed[name]
        entry['Metadata'] |= {
            'Results From': source,
            'Results URL': url,
            'Results Reproduced Here': False,
        }
        results = {}
        for metric, value in metrics.items():
            results.setdefault(TASKS[metric], {})[metric] = value
        entry['Results'] = [
            {'Task': task, 'Dataset': data, 'Metrics': found} for task, found in results.items()
        ]
    return entry


def weights(cfg):
    """Return the backbone's pretrained weights: a name, a file's name, or none."""
    checkpoint = (cfg.model.get('backbone', {}).get('init_cfg') or {}).get('checkpoint')
    return checkpoint.split('/')[-1].removesuffix('.pth') if checkpoint else 'none'


def leaf_dataset(dataset):
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


# Counting


def read_counts():
    """Read the metafiles: name of a config -> (parameters, multiply-adds)."""
    import yaml

    counts = {}
    for path in CONFIGS.rglob('metafile.yml'):
        for model in yaml.safe_load(path.read_text())['Models']:
            about = model['Metadata']
            counts[model['Name']] = (about['Parameters'], about['FLOPs'])
    return counts


def count(name):
    """Parameters of the model of a config, and multiply-adds of its backbone and neck."""
    cfg = load(name)
    model = build(cfg)
    return sum(p.numel() for p in model.parameters()), macs(cfg, model, input_size(name, cfg))


def macs(cfg, model, size):
    """Multiply-adds of backbone and neck; those of a backbone seen before are not counted again."""
    import torch

    from mmhybrid.engine.flops import count_macs

    features = dict(cfg.model.get('backbone') or cfg.model)
    for key in ('drop_path_rate', 'freeze', 'frozen_stages', 'init_cfg', 'norm_cfg', 'with_cp'):
        features.pop(key, None)
    key = repr((features, cfg.model.get('neck'), size))
    if key not in COUNTED:
        image = torch.empty(1, 3, *size, device='meta')
        model = model.to('meta').eval()
        COUNTED[key] = count_macs(model, image, forward=model.extract_feat)
    return COUNTED[key]


def build(cfg):
    """The model of a config, without memory for weights where its backbone allows it."""
    import torch
    from mmengine.registry import MODELS, DefaultScope

    ours = cfg.model.get('backbone', {}).get('type', '').startswith('mmhybrid.')
    device = torch.device('meta' if ours else 'cpu')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), device:
        return MODELS.build(cfg.model)


def input_size(name, cfg):
    """Height and width at which multiply-adds are counted."""
    head = NAME.fullmatch(f'{name}.py')['head']
    if head in DETECTION or cfg.default_scope == 'mmdet':
        return DETECTOR_INPUT
    if cfg.default_scope == 'mmseg':
        return tuple(cfg.model.data_preprocessor.size)
    for step in leaf_dataset(cfg.val_dataloader.dataset).pipeline:
        if step.type in ('CenterCrop', 'Resize'):
            side = step.get('crop_size', step.get('scale'))
            return (side, side) if isinstance(side, int) else tuple(side)
    raise ValueError(f'configs/{name}.py: no CenterCrop or Resize tells the size of its images')


# The pages


def page(models):
    """The text of docs/zoo.md."""
    return '\n'.join([*INTRODUCTION.strip().splitlines(), '', *tables(models, Path('docs'))])


def folder_page(place, models, collections, extra, others):
    """The text of a folder's README.

    Args:
        extra: title and text of a folder of experiments.
        others: name of a config -> lines of a table, of its results with other weights.
    """
    up = '../' * (place.count('/') + 2)
    lines = [f'# {extra["title"] if extra else " and ".join(it["name"] for it in collections)}', '']
    lines += [MADE, '']
    if extra:
        lines += [extra['text'].strip(), '']
    for title, paper, code in dict.fromkeys(
        (c['title'], c['paper'], c['code']) for c in collections
    ):
        lines += [f'*{title}* ([paper]({paper}), [code]({code})).']
    if (ROOT / f'docs/models/{place}.md').exists():
        lines += [f'[The backbone]({up}docs/models/{place}.md), its options and its weights.']
    lines += [
        'None of the results below was reproduced here. What the columns say stands over',
        f'[the list of all configs]({up}docs/zoo.md).',
        '',
        '```console',
        f'python tools/train.py {models[0]["Config"]}',
        '```',
        '',
        *tables(models, Path('configs', place)),
    ]
    for name, rows in others.items():
        lines += [f'## `{name}` with other weights', '']
        lines += ['```console', f'python tools/train.py {name} --weights NAME', '```', '']
        lines += ['| weights | published | where |', '|---|---|---|', *rows, '']
    return '\n'.join(lines)


def front_page(folders, source):
    """The text of configs/README.md."""
    lines = [*FRONT.strip().splitlines(), '', '| folder | recipes | |', '|---|---|---|']
    for place in sorted(folders, key=lambda place: (place.startswith('experiments/'), place)):
        families = dict.fromkeys(family_of(name) for name in folders[place])
        titles = [source['collections'][family]['name'] for family in families]
        extra = source['experiments'].get(place)
        title = extra['title'] if extra else ' and '.join(titles)
        lines += [f'| [`{place}`]({place}/README.md) | {len(folders[place])} | {title} |']
    lines += ['', '| in front | |', '|---|---|']
    for path in sorted(CONFIGS.glob('*.py')):
        lines += [f'| [`{path.stem}`]({path.name}) | {first_sentence(path)} |']
    return '\n'.join([*lines, ''])


def first_sentence(path):
    """The sentence that heads a config, up to a full stop or colon."""
    head = takewhile(lambda line: line.startswith('#'), path.read_text().splitlines())
    text = ' '.join(line.removeprefix('#').strip() for line in head)
    return re.split(r'[.:;](?: |$)', text, maxsplit=1)[0]


def tables(models, folder):
    """Lines of a table a task; configs are linked from a folder of the checkout."""
    lines = []
    for title, wanted in SECTIONS.items():
        rows = [m for m in models if NAME.fullmatch(m['Name'] + '.py')['head'] in wanted]
        if rows:
            lines += [f'## {title}', '']
            lines += [f'| {" | ".join(COLUMNS)} |', '|' + '---|' * len(COLUMNS)]
            lines += [row(model, folder) for model in rows]
            lines += ['']
    return lines


COLUMNS = (
    *('config', 'head', 'backbone', 'weights', 'data', 'schedule', 'params', 'GFLOPs'),
    *('published', 'where'),
)


def row(model, folder):
    about = model['Metadata']
    head, backbone = about['Architecture']
    length = f'{about["Epochs"]} epochs' if 'Epochs' in about else f'{about["Iterations"] // 1000}k'
    metrics = [
        f'{value} {metric}'
        for result in model.get('Results', [])
        for metric, value in result['Metrics'].items()
    ]
    cells = (
        f'[`{model["Name"]}`]({os.path.relpath(model["Config"], folder)})',
        head,
        backbone,
        about['Pretrained Weights'],
        about['Training Data'],
        f'{length} x {about["Batch Size"]}',
        f'{about["Parameters"] / 1e6:.1f} M',
        f'{about["FLOPs"] / 1e9:.0f}' if about['FLOPs'] >= 1e10 else f'{about["FLOPs"] / 1e9:.1f}',
        ', '.join(metrics) or '-',
        f'[{about["Results From"]}]({about["Results URL"]})' if metrics else '-',
    )
    return f'| {" | ".join(cells)} |'


SECTIONS = {
    'Detection and instance segmentation': (*DETECTION, 'mask2former_instance'),
    'Semantic and panoptic segmentation': (
        *('upernet', 'fpn', 'linearseg', 'mask2former', 'mask2former_panoptic'),
    ),
    'Classification': CLASSIFICATION,
}

MADE = '<!-- Made by tools/make_metafiles.py; a change here would be lost. -->'

INTRODUCTION = f"""
# The configs

{MADE}

Every recipe with what it trains, and what was published of it, in percent and with the place where
its authors print it. **None of these results was reproduced here.** A dash means that nothing was
published of this combination; where its recipe is from then stands in the first lines of the file.
The demo's configs and those of [your own data](data.md) are not listed.

"schedule" is the length and the images of a step, over all GPUs. Parameters are those of the whole
model; multiply-adds (GFLOPs, in thousands of millions) those of backbone and neck, for detectors at
800 x 1280 pixels, for segmentors at their crop, for classifiers at their image size. Both are
counted from the configs.

```console
python tools/train.py configs/maskrcnn_vitcomer_b.py --cfg-options data_root=/data/coco
python tools/train.py configs/maskrcnn_vitcomer_b.py --auto-scale-lr  # on fewer GPUs
```
"""

FRONT = f"""
# Configs

{MADE}

A name is `{{head}}_{{backbone}}_{{size}}[_{{weights}}][_{{schedule}}][_{{data}}]`, of COCO or
ADE20K where no data is named. Each is there once, and is found by its name alone:

```console
python tools/train.py configs/maskrcnn_vitcomer_b.py
python tools/train.py configs/cmt/retinanet_cmt_s.py
python tools/train.py retinanet_cmt_s
```

Configs of a frozen ViT, `frozen` in their names, and `{{head}}_{{adapter}}_s_dinov3` take every
size, which the weights tell:
`python tools/train.py linearseg_vit_s_dinov3_frozen --weights dinov3_vitl16`, or
`--cfg-options vit=dinov3_l`; [With DINOv3](../docs/dinov3.md).

In a config of your own: `_base_ = 'mmhybrid::retinanet_cmt_s'`. A config is a few lines over files
of `_base_` or over another config of its family, at most three files in all.
[All of them in one list](../docs/zoo.md); [your own data](../docs/data.md);
[a host's config with one of our backbones](../docs/swap.md).
"""


if __name__ == '__main__':
    sys.exit(main())
