"""What torch's compiler schedules, for a GPU that is not there."""

import torch
from torch import nn

from mmhybrid.inspect import CARDS, count_inference, count_step, imagined_gpu, to_imagined_gpu
from mmhybrid.inspect.compiled import count_compiled
from mmhybrid.models.backbones import ViTCoMer

ARCH = dict(embed_dims=24, depth=1, num_heads=2, deform_heads=2, stem_channels=8, extra_cti=0)


class Net(nn.Module):
    """A product between operators that are one kernel each time."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 64, bias=False)

    def forward(self, x):
        return (self.linear(x.sin().cos() + 1).relu() * 2,)


def test_what_is_fused():
    with imagined_gpu(CARDS['a100'], compiling=True) as _, torch.no_grad():
        net = to_imagined_gpu(Net().eval())
        image = torch.randn(128, 64, device='cuda')
        before, product, after = count_compiled(net, image, CARDS['a100'])
    assert (before.name, product.name, after.name) == ('triton', 'aten::mm', 'triton')
    assert before.read + before.written == after.read + after.written == 2 * 128 * 64 * 4
    assert product.macs == 128 * 64 * 64 and before.macs == 0
    assert product.dtype == torch.float32


def test_a_backbone_with_its_backward_pass():
    """It does the products of eager mode, in fewer launches and with fewer bytes."""
    card = CARDS['h200']
    with imagined_gpu(card):
        model = to_imagined_gpu(ViTCoMer(ARCH, windows=0, out_indices=(0, 3)))
        image = torch.randn(1, 3, 64, 64, device='cuda')
        forward = count_inference(model, lambda: model(image))
        step = count_step(model, lambda: sum(out.sum() for out in model(image)))
    with imagined_gpu(card, compiling=True):
        model, image = to_imagined_gpu(model), torch.randn(1, 3, 64, 64, device='cuda')
        both = count_compiled(model.train(), image, card)
        with torch.no_grad():
            alone = count_compiled(model.eval(), image, card)
    for eager, compiled in ((forward, alone), (step, both)):
        assert 0.2 * len(eager.launches) < len(compiled) < len(eager.launches)
        assert sum(one.macs for one in compiled) == eager.macs
        assert sum(one.read + one.written for one in compiled) < eager.moved
    names = [one.name for one in both]
    for name in ('deformable_sample', 'deformable_sample_gradients', 'deformable_value_gradient'):
        assert names.count(f'mmhybrid::{name}') == step.counts[f'mmhybrid::{name}'] > 0
