"""Long runs of a small model of every family: is memory flat, does training stay finite?

    python -m tests.endurance inference --count 2000      calls on images of changing sizes
    python -m tests.endurance training --count 1000       training steps on images of changing sizes
    python -m tests.endurance health --count 300          training on demo images, fp32 and bf16

`inference` and `training` print the bytes of all living tensors and the resident memory of the
process after a tenth of the run and at its end; they fail if either grew by more than 5 % and 1 MB.
`health` fails at the first loss or gradient that is not finite, and if the loss did not fall.
--family takes one family; without it each runs in a process of its own.
"""

import argparse
import gc
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

# torch keeps a oneDNN kernel for each of the last 1024 shapes: here a bound that is reached early.
os.environ.setdefault('ONEDNN_PRIMITIVE_CACHE_CAPACITY', '32')

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmhybrid.data.demo import CLASSES, draw_scene
from tests.models.backbones import test_spach, test_vit
from tests.models.families import contracts

FAMILIES = contracts() | {
    'vit': test_vit.TestWindowedViT,
    'vit_relative': test_vit.TestBEiT,
    'vit_rope': test_vit.TestDINOv3,
    'spach': test_spach.TestHybridWithDeepStem,
}
SLACK = 2**20


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m tests.endurance',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('what', choices=RUNS)
    parser.add_argument('--count', type=int, default=1000)
    parser.add_argument('--family', choices=FAMILIES)
    args = parser.parse_args(argv)
    if args.count < 40:
        parser.error(f'--count {args.count}: expected at least 40')
    if args.family:
        torch.manual_seed(0)
        return RUNS[args.what](args.family, args.count)
    command = [sys.executable, '-m', 'tests.endurance', args.what, '--count', str(args.count)]
    codes = [subprocess.run([*command, '--family', family]).returncode for family in FAMILIES]
    print(f'{len(codes) - codes.count(0)} of {len(codes)} families failed')
    return int(any(codes))


# ---------------------------------------------------------------------------- memory


def inference(family: str, count: int) -> int:
    model = FAMILIES[family]().build().eval()

    def call(image):
        with torch.inference_mode():
            model(image)

    return watch_memory(family, call, count)


def training(family: str, count: int) -> int:
    model = FAMILIES[family]().build(drop_path_rate=0.1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(image):
        sum(m.square().mean() for m in model(image.expand(2, -1, -1, -1))).backward()
        optimizer.step()
        optimizer.zero_grad()

    return watch_memory(family, step, count)


def watch_memory(family: str, run, count: int) -> int:
    sizes = random.Random(0)
    early = None
    for i in range(count):
        # The largest size first: what it needs stays with the process.
        size = (128, 128) if i < 2 else (sizes.randint(32, 128), sizes.randint(32, 128))
        run(torch.randn(1, 3, *size))
        if i + 1 == count // 10:
            early = memory()
    late = memory()
    passed = all(end <= 1.05 * start + SLACK for start, end in zip(early, late, strict=True))
    print(
        f'{family:14}  tensors {early[0] / 2**20:7.2f} -> {late[0] / 2**20:7.2f} MB   '
        f'resident {early[1] / 2**20:6.0f} -> {late[1] / 2**20:6.0f} MB   '
        f'{"flat" if passed else "GROWS"}',
        flush=True,
    )
    return int(not passed)


def memory() -> tuple[int, int]:
    """Bytes of all living tensors, and resident bytes of the process."""
    gc.collect()
    storages = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        if type(one) in (torch.Tensor, nn.Parameter)  # others may have no storage
    }
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return sum(storages.values()), pages * resource.getpagesize()


# ---------------------------------------------------------------------------- health


def health(family: str, count: int) -> int:
    """Classes of pixels on demo images, by a linear layer on the finest map."""
    failed = 0
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = FAMILIES[family]().build(drop_path_rate=0.1).train()
        head = nn.Conv2d(model.out_channels[0], 1 + len(CLASSES), 1)
        parameters = [*model.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
        images, labels = demo_batch(16)
        losses = []
        for step in range(count):
            chosen = torch.arange(4 * step, 4 * step + 4) % len(images)
            with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
                logits = head(model(images[chosen])[0])
            wanted = F.interpolate(labels[chosen, None].float(), logits.shape[2:])[:, 0].long()
            loss = F.cross_entropy(logits.float(), wanted)
            loss.backward()
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if not (loss.isfinite() and norm.isfinite()):
                break
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
        passed = len(losses) == count and last < 0.8 * first
        failed += not passed
        print(
            f'{family:14}  {str(dtype).removeprefix("torch."):8}  {len(losses)} steps finite   '
            f'loss {first:.2f} -> {last:.2f}   {"healthy" if passed else "FAILED"}',
            flush=True,
        )
    return int(failed > 0)


def demo_batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Drawn images ``(count, 3, 96, 128)`` and the class of every pixel, 0 where there is none."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for _ in range(count):
        image, masks, classes = draw_scene(rng, (128, 96))
        label = np.zeros(image.shape[:2], np.int64)
        for mask, number in zip(masks, classes, strict=True):
            label[mask] = 1 + number
        images.append(torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 64 - 2)
        labels.append(torch.from_numpy(label))
    return torch.stack(images), torch.stack(labels)


RUNS = {'inference': inference, 'training': training, 'health': health}

if __name__ == '__main__':
    sys.exit(main())
