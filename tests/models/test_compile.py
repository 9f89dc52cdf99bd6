"""`torch.compile` of every family: one graph without a break, and none anew for each image size."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from mmhybrid.models.backbones import (
    BACKBONES,
    CMT,
    SPACH,
    STA,
    ConvStemViT,
    CvT,
    ViT,
    ViTAdapter,
    ViTCoMer,
)
from tests.models.drawn import draw_loss, draw_parameters
from tests.models.families import tiny_models

PLAIN = dict(embed_dims=16, depth=1, num_heads=2, pretrain_size=64)
DINOV2 = dict(PLAIN, patch_size=14, pretrain_size=70)
ADAPTED = dict(
    embed_dims=16, depth=1, num_heads=2, deform_heads=2, num_points=2, stem_channels=4, windows=4
)
AROUND = dict(interaction_indexes=[(0, 0)], vit=dict(pretrain_size=64))
CMT_ARCH = dict(
    embed_dims=[8], depths=[1], num_heads=[2], sr_ratios=[4], stem_channels=4, pretrain_size=64
)
CVT_ARCH = dict(
    embed_dims=[8, 16],
    depths=[1, 1],
    num_heads=[1, 2],
    patch_sizes=[7, 3],
    patch_strides=[4, 2],
    patch_paddings=[2, 1],
)
# One of each family; these are smaller than that of the contract. Then what others have beyond it.
FAMILIES = tiny_models() | {
    'vit': lambda: ViT(dict(PLAIN, depth=2), windows=(4, 0), class_token=False),
    'convstemvit': lambda: ConvStemViT(
        dict(PLAIN, stem_channels=(4, 8), stem_strides=(4, 4), stem_kernels=(5, 5))
    ),
    'vitcomer': lambda: ViTCoMer(dict(ADAPTED, cti_to_cnn=False, extra_cti=1), **AROUND),
    'vitadapter': lambda: ViTAdapter(dict(ADAPTED, extra_extractors=0), **AROUND),
    'sta': lambda: STA(dict(vit=dict(PLAIN, position='rope'), stem_channels=4)),
    'cmt': lambda: CMT(CMT_ARCH),
    'cvt': lambda: CvT(CVT_ARCH, out_indices=(0, 1)),
    'spach': lambda: SPACH(dict(embed_dims=8, num_heads=2, stages=[[('conv', 1)], [('attn', 1)]])),
}
MEMBERS = {
    'beit': lambda: ViT(dict(PLAIN, position='relative', mask_key_bias=True)),
    'dinov2': lambda: ViT(dict(DINOV2, interpolate_offset=0.1)),
    'dinov2_reg': lambda: ViT(dict(DINOV2, num_registers=2, interpolate_antialias=True)),
    'dinov3': lambda: ViT(dict(PLAIN, position='rope', num_registers=2)),
    'with_cp': lambda: ViT(PLAIN, with_cp=True),
}
MODELS = FAMILIES | MEMBERS
# Batch, height and width: to be padded to patches and windows, and not. A graph of their own have a
# batch of one (and on CPUs one of 16 and more), images no larger than one window or one pixel of
# the coarsest map, and on CPUs a single one of some 80x80 pixels.
SIZES = ((2, 75, 131), (3, 128, 192), (2, 217, 69))


def test_every_family_is_here():
    assert {type(build()) for build in FAMILIES.values()} == set(BACKBONES)


@pytest.fixture
def counter():
    torch._dynamo.reset()
    yield CompileCounterWithBackend('eager')
    torch._dynamo.reset()


# What the others do without gradients, these do too.
@pytest.mark.parametrize('name', ['vit', 'convstemvit', 'vitcomer', 'cmt', 'spach'])
def test_inference(name, counter):
    torch.manual_seed(0)
    model = draw_parameters(MODELS[name]()).eval()
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    for n, h, w in SIZES:
        image = torch.randn(n, 3, h, w)
        with torch.no_grad():
            torch.testing.assert_close(compiled(image), model(image), rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.parametrize('name', MODELS)
def test_training(name, counter):
    """Outputs, gradients and running statistics."""
    torch.manual_seed(0)
    models = [draw_parameters(MODELS[name]()).train()]
    models.append(copy.deepcopy(models[0]))
    compiled = torch.compile(models[0], backend=counter, fullgraph=True, dynamic=True)
    for n, h, w in SIZES:
        image = torch.randn(n, 3, h, w)
        results = []
        for model, forward in zip(models, (compiled, models[1]), strict=True):
            model.zero_grad()
            outs = forward(image)
            draw_loss(outs).backward()
            results.append([*outs, *(p.grad for p in model.parameters()), *model.buffers()])
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)
    assert counter.frame_count == 1
