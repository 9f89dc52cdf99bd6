"""Every data set: a config's loaders and evaluator on a tiny folder of its layout."""

import json
import shutil
from collections import Counter

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData

from mmhybrid import config_path
from mmhybrid.cli.arguments import argument_parser
from mmhybrid.cli.config import load_config
from mmhybrid.cli.datasets import check_data, leaf_datasets
from mmhybrid.data.findings import Reading
from mmhybrid.testing.folders import LAYOUTS, PLACES, draw_folder

from .conftest import CONFIGS

# A config, the layout it is made for, where its data root lies in the folder, what perfect
# predictions get.
CASES = [
    ('retinanet_cmt_ti', 'coco', '', {'coco/bbox_mAP': 1}),
    ('maskrcnn_vitcomer_b', 'coco', '', {'coco/bbox_mAP': 1, 'coco/segm_mAP': 1}),
    ('maskrcnn_vitcomer_s_lvis', 'lvis', '', {'lvis/bbox_AP': 1, 'lvis/segm_AP': 1}),
    ('retinanet_cmt_s_voc', 'voc', '', {'pascal_voc/mAP': 1}),
    ('upernet_vitcomer_t_voc', 'voc', 'VOC2012', {'mIoU': 100}),
    ('upernet_vitcomer_t', 'ade20k', '', {'mIoU': 100}),
    ('upernet_vitcomer_s_cityscapes', 'cityscapes', '', {'mIoU': 100}),
    ('upernet_vitcomer_b_cocostuff', 'cocostuff', '', {'mIoU': 100}),
    ('imagenet_cmt_ti', 'imagenet', '', {'accuracy/top1': 100, 'accuracy/top5': 100}),
    ('cifar10_cmt_s', 'cifar10', '', {'accuracy/top1': 100}),
    ('cifar100_cmt_s', 'cifar100', '', {'accuracy/top1': 100}),
]
LOADERS = [
    f'{split}_dataloader.{option}'
    for split in ('train', 'val', 'test')
    for option in ('num_workers=0', 'persistent_workers=False')
]


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """A function of a layout: its tiny folder, drawn once."""
    root = tmp_path_factory.mktemp('layouts')

    def draw(layout):
        if not (root / layout).exists():
            draw_folder(layout, root / layout)
        return root / layout

    return draw


def read_config(tool, name, root, *options):
    arguments = ['--cfg-options', f'data_root={root}', *LOADERS, *options]
    parser = argument_parser('')
    args = parser.parse_args([config_path(name), *arguments])
    cfg = load_config(args)
    check_data(cfg, ['train', 'val', 'test'])
    init_default_scope(cfg.default_scope)
    return cfg


def perfect(sample):
    """The sample with its ground truth as prediction."""
    if 'gt_instances' in sample:
        truth = sample.gt_instances
        prediction = InstanceData(
            bboxes=torch.as_tensor(getattr(truth.bboxes, 'tensor', truth.bboxes)),
            labels=truth.labels,
            scores=torch.ones(len(truth.labels)),
        )
        if 'masks' in truth:
            prediction.masks = truth.masks.to_tensor(torch.bool, 'cpu')
        sample.pred_instances = prediction
    elif 'gt_sem_seg' in sample:
        labels = sample.gt_sem_seg.data
        sample.pred_sem_seg = PixelData(data=torch.where(labels == 255, 0, labels))
    else:
        sample.set_pred_score(torch.nn.functional.one_hot(sample.gt_label[0], 1000).float())
    return sample


def evaluate(cfg, dataset, predict, count=200):
    """Metrics of predictions for the first images of a data set."""
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    count = min(count, len(dataset))
    for index in range(count):
        sample = predict(dataset[index]['data_samples'])
        evaluator.process([sample], None)
    return evaluator.evaluate(count)


@pytest.mark.parametrize(('name', 'layout', 'place', 'expected'), CASES)
def test_loaders_and_evaluator(name, layout, place, expected, folder, tool):
    root = folder(layout) / place
    cfg = read_config(tool, name, root, 'train_dataloader.batch_size=2')
    assert "'data/" not in repr(cfg._cfg_dict)  # the one option has moved every path
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batch = next(iter(loader))
    assert len(batch['inputs']) == len(batch['data_samples']) == 2
    for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
        assert image.shape[0] == 3 and min(image.shape[1:]) >= 160
        assert str(root) in str(sample.get('img_path', root))
    loader = Runner.build_dataloader(cfg.val_dataloader)
    assert len(loader.dataset) == (1000 if layout == 'imagenet' else 2)
    metrics = evaluate(cfg, loader.dataset, perfect)
    assert {key: metrics[key] for key in expected} == pytest.approx(expected)


def wrong(sample):
    """The sample with the truth of another class as prediction."""
    sample = perfect(sample)
    if 'pred_instances' in sample:
        sample.pred_instances.labels = (sample.pred_instances.labels + 1) % 80
    elif 'pred_sem_seg' in sample:
        sample.pred_sem_seg.data = (sample.pred_sem_seg.data + 1) % 150
    else:
        sample.set_pred_score(sample.pred_score.roll(1))
    return sample


@pytest.mark.parametrize('number', [0, 5, 9])
def test_wrong_predictions_are_noticed(number, folder, tool):
    name, layout, place, expected = CASES[number]
    cfg = read_config(tool, name, folder(layout) / place)
    dataset = Runner.build_dataloader(cfg.val_dataloader).dataset
    metrics = evaluate(cfg, dataset, wrong)
    assert {key: metrics[key] for key in expected} == dict.fromkeys(expected, 0)


def test_all_layouts_are_here():
    assert {layout for _, layout, _, _ in CASES} == set(LAYOUTS) == set(PLACES)


def test_published_recipe_trains_and_evaluates(folder, tool, tmp_path):
    """As typed for COCO, with another data root; the model alone is smaller than the published."""
    (tmp_path / 'small.py').write_text(f"""
_base_ = '{CONFIGS}/maskrcnn_vitcomer_b.py'
model = dict(
    backbone=dict(
        vit=dict(_delete_=True), init_cfg=None,
        arch=dict(
            _delete_=True, embed_dims=24, depth=4, num_heads=2, deform_heads=2, stem_channels=8,
            windows=0, extra_cti=1,
        ),
    ),
    neck=dict(in_channels=[24] * 4, out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=50)),
    # After two steps no class is likely: every box counts, or there is nothing to evaluate.
    test_cfg=dict(rpn=dict(max_per_img=50), rcnn=dict(score_thr=0.0, max_per_img=10)),
)
""")
    options = ['--cfg-options', f'data_root={folder("coco")}', 'train_cfg.max_epochs=1', *LOADERS]
    arguments = ['small.py', '--work-dir', 'work']
    runner = tool('train').main([*arguments, *options])
    assert (runner.epoch, runner.iter) == (1, 2)
    arguments = ['small.py', 'work/epoch_1.pth', '--work-dir', 'tested']
    metrics = tool('test').main([*arguments, *options])
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)


def spoil(rows):
    """Change some annotations so that the host leaves them out; return how many kinds there are."""
    kinds = [
        dict(area=0), dict(bbox=[3, 3, 0.5, 20]), dict(bbox=[900, 3, 20, 20]), dict(ignore=1),
        dict(iscrowd=1),
    ]  # fmt: skip
    for row, kind in zip(rows[1:], kinds, strict=False):
        row.update(kind)
    return len(kinds)


@pytest.mark.parametrize(
    ('name', 'layout', 'file'),
    [
        ('maskrcnn_vitcomer_b', 'coco', 'instances_train2017'),
        ('maskrcnn_vitcomer_s_lvis', 'lvis', 'lvis_v1_train'),
    ],
)
def test_counts_are_those_of_the_data_set(name, layout, file, folder, tool, tmp_path):
    root = shutil.copytree(folder(layout), tmp_path / 'in')
    path = root / f'annotations/{file}.json'
    content = json.loads(path.read_text())
    kinds = spoil(content['annotations'])
    path.write_text(json.dumps(content))
    cfg = read_config(tool, name, root)
    (dataset,) = leaf_datasets(cfg.train_dataloader.dataset)
    built = DATASETS.build(dataset)
    infos = map(built.get_data_info, range(len(built)))
    kept = [one for info in infos for one in info['instances'] if not one['ignore_flag']]
    classes = built.metainfo['classes']
    counts = Counter(classes[one['bbox_label']] for one in kept)
    report = tool('check_data').check_of_dataset('train', dataset, 'mmdet')(Reading())
    assert {label: n for label, n in report.counts.items() if n} == dict(counts)
    crowds = sum(bool(row.get('iscrowd')) for row in content['annotations'])
    assert report.left_out == kinds - 1 + crowds
    assert len(kept) + report.left_out == len(content['annotations'])


def test_hidden_folders_that_a_host_reads(folder, tool, tmp_path, capsys):
    hidden = '.ipynb_checkpoints'
    for name, layout, place in (
        ('upernet_vitcomer_t', 'ade20k', 'images/training'),
        ('imagenet_cmt_ti', 'imagenet', 'train/n00000000'),
    ):
        root = shutil.copytree(folder(layout), tmp_path / layout)
        read_config(tool, name, root)
        assert 'hidden folders' not in capsys.readouterr().out
        shutil.copytree(root / place, root / place / hidden)
        cfg = read_config(tool, name, root)
        assert f'train: hidden folders in {root / place}'[:40] in capsys.readouterr().out
        (dataset,) = leaf_datasets(cfg.train_dataloader.dataset)
        built = DATASETS.build(dataset)
        paths = [built.get_data_info(i)['img_path'] for i in range(len(built))]
        assert any(hidden in path for path in paths)  # the warning is right
        report = tool('check_data').check_of_dataset('train', dataset, cfg.default_scope)
        assert 'hidden folders' in ' '.join(report(Reading()).findings.lines())
        if layout == 'imagenet':  # without images it is a class, and numbers the others anew
            (root / 'train' / hidden).mkdir()
            shutil.rmtree(root / place / hidden)
            read_config(tool, name, root)
            assert 'takes for classes: remove them' in capsys.readouterr().out
