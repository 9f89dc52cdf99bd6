"""Hypothesis strategies: a small member of every family, and images for it."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from mmhybrid.models.backbones import (
    CMT,
    SPACH,
    STA,
    Backbone,
    ConvStemViT,
    CvT,
    ViT,
    ViTAdapter,
    ViTCoMer,
)
from tests.models.backbones.contract import BackboneContract
from tests.models.drawn import draw_parameters
from tests.models.families import contracts

ODDS = st.booleans()
BATCH = st.integers(1, 3)
SIDES = st.integers(32, 200)


@dataclass(frozen=True)
class Drawn:
    """A backbone that was drawn: its class and arguments, and how many levels it has."""

    backbone: type[Backbone]
    arguments: dict
    levels: int

    def build(self, **overrides) -> Backbone:
        torch.manual_seed(0)
        return draw_parameters(self.backbone(**{**self.arguments, **overrides}))


@st.composite
def vit_archs(draw, max_depth=4):
    heads = draw(st.integers(1, 3))
    return dict(
        embed_dims=16 * heads,
        depth=draw(st.integers(2, max_depth)),
        num_heads=heads,
        pretrain_size=draw(st.sampled_from([32, 64, 96])),
    )


@st.composite
def vits(draw):
    arch = draw(vit_archs())
    arch['position'] = draw(st.sampled_from(['absolute', 'relative', 'rope']))
    arch['mask_key_bias'] = draw(ODDS)
    arch['patch_size'] = draw(st.sampled_from([8, 14, 16]))
    arch['pretrain_size'] = 4 * arch['patch_size']
    arguments = dict(arch=arch)
    if draw(ODDS):  # windows take no prefix tokens
        arguments |= dict(class_token=False, windows=draw(st.integers(1, 5)))
    elif arch['position'] != 'relative':  # which knows patches and a class token alone
        arch['num_registers'] = draw(st.integers(0, 3))
    return Drawn(ViT, arguments, arch['depth'])


@st.composite
def conv_stem_vits(draw):
    arch = draw(vit_archs())
    if draw(ODDS):
        arch |= dict(stem_channels=(4, 8, 8, 16), stem_strides=(2, 2, 2, 2))
    return Drawn(ConvStemViT, dict(arch=arch), arch['depth'])


def adapters(backbone):
    @st.composite
    def strategy(draw):
        arch = dict(
            embed_dims=32,
            depth=4,
            num_heads=2,
            deform_heads=draw(st.sampled_from([1, 2, 4])),
            num_points=draw(st.integers(1, 4)),
            stem_channels=8,
            windows=draw(st.sampled_from([0, 2, (3, 0, 3, 0)])),
        )
        features = draw(st.sampled_from(['last', 'stages', 'none']))
        vit = dict(pretrain_size=draw(st.sampled_from([32, 64])))
        return Drawn(backbone, dict(arch=arch, vit=vit, vit_features=features), 4)

    return strategy()


@st.composite
def stas(draw):
    vit = draw(vit_archs())
    vit['position'] = draw(st.sampled_from(['absolute', 'relative', 'rope']))
    vit['num_registers'] = 0 if vit['position'] == 'relative' else draw(st.integers(0, 2))
    block = st.integers(0, vit['depth'] - 1)
    arch = dict(
        vit=vit,
        stem_channels=draw(st.integers(1, 6)),
        out_dims=draw(st.sampled_from([None, 8])),
        final_norm=draw(ODDS),
        # All blocks are run.
        interaction_indexes=draw(st.permutations([draw(block), draw(block), vit['depth'] - 1])),
    )
    return Drawn(STA, dict(arch=arch), 4)


@st.composite
def cmts(draw):
    heads = draw(st.sampled_from([(1, 1, 2, 2), (1, 2, 4, 8)]))
    width = draw(st.integers(1, 6))
    arch = dict(
        embed_dims=tuple(2 * width * count for count in heads),
        depths=draw(st.tuples(*4 * [st.integers(1, 2)])),
        num_heads=heads,
        sr_ratios=draw(st.sampled_from([(8, 4, 2, 1), (4, 2, 2, 1), (1, 1, 1, 1)])),
        stem_channels=4,
        stem=draw(st.sampled_from(['conv', 'patch'])),
        pretrain_size=draw(st.sampled_from([64, 96])),
        lpu=draw(ODDS),
        ffn_shortcut=draw(ODDS),
    )
    return Drawn(CMT, dict(arch=arch), 4)


@st.composite
def cvts(draw):
    arch = dict(
        embed_dims=(8, 16, 32),
        depths=draw(st.tuples(*3 * [st.integers(1, 2)])),
        num_heads=(1, 2, 4),
    )
    projection = draw(st.sampled_from(['dw_bn', 'avg', 'linear']))
    return Drawn(CvT, dict(arch=arch, projection=projection), 3)


@st.composite
def spachs(draw):
    mixers = st.sampled_from(['conv', 'attn'])  # 'mlp' is tied to one size
    stages = [[(draw(mixers), draw(st.integers(1, 2)))] for _ in range(4)]
    arch = dict(embed_dims=8, num_heads=2, stages=stages)
    return Drawn(SPACH, dict(arch=arch, stem=draw(st.sampled_from(['patch', 'conv']))), 4)


def tiny(contract: type[BackboneContract]):
    """The model of a contract, of which nothing is drawn."""
    arguments = dict(contract.arguments)
    given = arguments.pop('out_indices', range(len(contract.channels)))
    return st.just(Drawn(contract.backbone, arguments, max(given) + 1))


FAMILIES = {name: tiny(contract) for name, contract in contracts().items()} | {
    'vit': vits(),
    'convstemvit': conv_stem_vits(),
    'vitcomer': adapters(ViTCoMer),
    'vitadapter': adapters(ViTAdapter),
    'sta': stas(),
    'cmt': cmts(),
    'cvt': cvts(),
    'spach': spachs(),
}


@st.composite
def images(draw, batch=BATCH, channels=3, sides=SIDES):
    """``(N, channels, H, W)`` noise of a drawn shape."""
    shape = (draw(batch), channels, draw(sides), draw(sides))
    return torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 9))))
