"""Names of official weight files: address, hash, licence, and where a file must be asked for.

``OFFICIAL_FILES`` is one table: every row has its :class:`Publication`, which says where address
and hash were read, and when.
"""

import re
from dataclasses import dataclass

HUB = 'https://huggingface.co/'


@dataclass(frozen=True)
class Publication:
    """A group of files that its authors publish together.

    Attributes:
        source: where their addresses and hashes were read.
        read: the day of that.
        licence: what a user has to know of the terms before using them; '' where they bind no use.
    """

    source: str
    read: str
    licence: str = ''


@dataclass(frozen=True, kw_only=True)
class OfficialFile:
    """A weight file as its authors publish it.

    Attributes:
        file_name: its name in the cache folder.
        url: its address; None where the authors hand it out on request.
        sha256: the hash or its first digits; None where the authors publish none.
        publication: where all this was read, and under what licence the file is.
        request: the page on which to ask for it.
        other: name of the same weights where they can be had without asking.
        refusal: the reason why no backbone takes it; '' for all others.
    """

    file_name: str
    url: str | None
    sha256: str | None = None
    publication: Publication
    request: str | None = None
    other: str | None = None
    refusal: str = ''


DINOV3_LICENCE = (
    'the DINOv3 License, which binds what is made with them too: '
    'https://ai.meta.com/resources/models-and-libraries/dinov3-license/'
)
EUPE_LICENCE = (
    'the FAIR Noncommercial Research License: no commercial use, '
    'https://github.com/facebookresearch/EUPE/blob/main/LICENSE.md'
)
MAE_LICENCE = (
    'CC BY-NC 4.0: no commercial use, https://github.com/facebookresearch/mae/blob/main/LICENSE'
)
DEIMV2_LICENCE = (
    'Apache-2.0, and distilled from DINOv3, whose licence binds what is made with it: '
    'https://ai.meta.com/resources/models-and-libraries/dinov3-license/'
)

DEIT = Publication('https://github.com/facebookresearch/deit, hubconf.py', '2026-11-20')
MAE = Publication('https://github.com/facebookresearch/mae, README.md', '2026-11-20', MAE_LICENCE)
DINOV2 = Publication('https://github.com/facebookresearch/dinov2, README.md', '2026-11-20')
DINOV3 = Publication(
    'https://github.com/facebookresearch/dinov3, dinov3/hub/backbones.py', '2026-11-29',
    DINOV3_LICENCE,
)  # fmt: skip
TIMM_DINOV3 = Publication('timm 1.0.31, timm/models/eva.py', '2026-11-29', DINOV3_LICENCE)
TIMM_CONVNEXT = Publication('timm 1.0.31, timm/models/convnext.py', '2026-11-29', DINOV3_LICENCE)
DEIMV2 = Publication(
    'https://github.com/Intellindust-AI-Lab/DEIMv2, README.md', '2026-11-29', DEIMV2_LICENCE
)
EUPE = Publication(
    'https://github.com/facebookresearch/EUPE, README.md', '2026-11-29', EUPE_LICENCE
)
TIMM_EUPE = Publication('timm 1.0.31, timm/models/eva.py', '2026-11-29', EUPE_LICENCE)
AUGREG = Publication('timm 1.0.31, timm/models/vision_transformer.py', '2026-11-20')
BEIT = Publication('https://github.com/microsoft/unilm, beit and beit2, README.md', '2026-11-21')
SPACH = Publication('https://github.com/microsoft/SPACH, README.md', '2026-11-20')
CMT = Publication('https://github.com/ggjy/CMT.pytorch, README.md', '2026-11-20')

DINOV3_REQUEST = 'https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/'
CONVNEXT = 'it is a ConvNeXt, which no backbone here is; the hosts have it'


def _released(folder, publication, *names, suffix='.pth'):
    """Make the rows of files that lie in one folder, under their names."""
    return {
        name: OfficialFile(
            file_name=f'{name}{suffix}', url=f'{folder}{name}{suffix}', publication=publication
        )
        for name in names
    }


def _deit(name, sha256):
    file_name = f'{name}-{sha256}.pth'
    url = f'https://dl.fbaipublicfiles.com/deit/{file_name}'
    return OfficialFile(file_name=file_name, url=url, sha256=sha256, publication=DEIT)


def _timm(model, publication, **options):
    """Make the row of a model of timm, whose files are all called model.safetensors."""
    return OfficialFile(
        file_name=f'{model}.safetensors',
        url=f'{HUB}timm/{model}/resolve/main/model.safetensors',
        publication=publication,
        **options,
    )


def _dinov2(size, registers):
    folder = f'dinov2_vit{size}14'
    file_name = f'{folder}{registers}_pretrain.pth'
    url = f'https://dl.fbaipublicfiles.com/dinov2/{folder}/{file_name}'
    return OfficialFile(file_name=file_name, url=url, publication=DINOV2)


def _dinov3(arch, sha256, data='lvd1689m', **options):
    return OfficialFile(
        file_name=f'dinov3_{arch}_pretrain_{data}-{sha256}.pth',
        url=None,
        sha256=sha256,
        publication=DINOV3,
        request=DINOV3_REQUEST,
        **options,
    )


def _eupe(size, other):
    name = f'EUPE-ViT-{size}'
    return OfficialFile(
        file_name=f'{name}.pt',
        url=None,
        publication=EUPE,
        request=f'{HUB}facebook/{name}',
        other=other,
    )


OFFICIAL_FILES = {
    name: _deit(name, sha256)
    for name, sha256 in (
        ('deit_tiny_patch16_224', 'a1311bcf'),
        ('deit_small_patch16_224', 'cd65a155'),
        ('deit_base_patch16_224', 'b5f2ef4d'),
        ('deit_tiny_distilled_patch16_224', 'b40b3cf7'),
        ('deit_small_distilled_patch16_224', '649709d9'),
        ('deit_base_distilled_patch16_224', 'df68dfff'),
        ('deit_base_patch16_384', '8de9b5d1'),
    )
}
OFFICIAL_FILES |= _released(
    'https://dl.fbaipublicfiles.com/mae/pretrain/', MAE,
    'mae_pretrain_vit_base', 'mae_pretrain_vit_large', 'mae_pretrain_vit_huge',
)  # fmt: skip
OFFICIAL_FILES |= {
    f'dinov2_vit{size}14{registers}': _dinov2(size, registers)
    for size in 'sblg'
    for registers in ('', '_reg4')
}

# Meta's DINOv3, and the same weights as timm publishes them; those without a bias of queries, keys
# and values, which training left at zero, are other files of timm, of models with qkv_bias=False.
OFFICIAL_FILES |= {
    'dinov3_vits16': _dinov3('vits16', '08c60483', other='vit_small_patch16_dinov3_qkvb.lvd1689m'),
    'dinov3_vits16plus': _dinov3(
        'vits16plus', '4057cbaa', other='vit_small_plus_patch16_dinov3_qkvb.lvd1689m'
    ),
    'dinov3_vitb16': _dinov3('vitb16', '73cec8be', other='vit_base_patch16_dinov3_qkvb.lvd1689m'),
    'dinov3_vitl16': _dinov3('vitl16', '8aa4cbdd', other='vit_large_patch16_dinov3_qkvb.lvd1689m'),
    'dinov3_vitl16plus': _dinov3('vitl16plus', '46503df0'),
    'dinov3_vith16plus': _dinov3(
        'vith16plus', '7c1da9a5', other='vit_huge_plus_patch16_dinov3_qkvb.lvd1689m'
    ),
    'dinov3_vit7b16': _dinov3('vit7b16', 'a955f4ea', other='vit_7b_patch16_dinov3.lvd1689m'),
    'dinov3_vitl16_sat493m': _dinov3(
        'vitl16', 'eadcf0ff', 'sat493m', other='vit_large_patch16_dinov3_qkvb.sat493m'
    ),
    'dinov3_vit7b16_sat493m': _dinov3(
        'vit7b16', 'a6675841', 'sat493m', other='vit_7b_patch16_dinov3.sat493m'
    ),
    'dinov3_convnext_tiny': _dinov3('convnext_tiny', '21b726bb', refusal=CONVNEXT),
    'dinov3_convnext_small': _dinov3('convnext_small', '296db49d', refusal=CONVNEXT),
    'dinov3_convnext_base': _dinov3('convnext_base', '801f2ba9', refusal=CONVNEXT),
    'dinov3_convnext_large': _dinov3('convnext_large', '61fa432d', refusal=CONVNEXT),
}
OFFICIAL_FILES |= {
    model: _timm(model, TIMM_DINOV3)
    for model in (
        'vit_small_patch16_dinov3.lvd1689m',
        'vit_small_patch16_dinov3_qkvb.lvd1689m',
        'vit_small_plus_patch16_dinov3.lvd1689m',
        'vit_small_plus_patch16_dinov3_qkvb.lvd1689m',
        'vit_base_patch16_dinov3.lvd1689m',
        'vit_base_patch16_dinov3_qkvb.lvd1689m',
        'vit_large_patch16_dinov3.lvd1689m',
        'vit_large_patch16_dinov3_qkvb.lvd1689m',
        'vit_large_patch16_dinov3.sat493m',
        'vit_large_patch16_dinov3_qkvb.sat493m',
        'vit_huge_plus_patch16_dinov3.lvd1689m',
        'vit_huge_plus_patch16_dinov3_qkvb.lvd1689m',
        'vit_7b_patch16_dinov3.lvd1689m',
        'vit_7b_patch16_dinov3.sat493m',
    )
}
OFFICIAL_FILES |= {
    model: _timm(model, TIMM_CONVNEXT, refusal=CONVNEXT)
    for model in (f'convnext_{size}.dinov3_lvd1689m' for size in ('tiny', 'small', 'base', 'large'))
}
OFFICIAL_FILES |= {
    name: OfficialFile(
        file_name=f'{name}.pt',
        url=None,
        publication=DEIMV2,
        request='https://github.com/Intellindust-AI-Lab/DEIMv2#backbone-checkpoints',
    )
    for name in ('vitt_distill', 'vittplus_distill')  # ViT-Tiny and ViT-Tiny+ of STA
}
OFFICIAL_FILES |= {
    'eupe_vitt16': _eupe('T', 'vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m'),
    'eupe_vits16': _eupe('S', 'vit_small_patch16_dinov3_qkvb.eupe_lvd1689m'),
    'eupe_vitb16': _eupe('B', 'vit_base_patch16_dinov3_qkvb.eupe_lvd1689m'),
}
OFFICIAL_FILES |= {
    model: _timm(model, TIMM_EUPE)
    for model in (
        f'vit_{size}_patch16_dinov3_qkvb.eupe_lvd1689m' for size in ('tiny', 'small', 'base')
    )
}

OFFICIAL_FILES |= {
    f'augreg_vit_{size}_patch16_{side}': _timm(
        f'vit_{size}_patch16_{side}.augreg_in21k_ft_in1k', AUGREG
    )
    for size in ('tiny', 'small', 'base', 'large')
    for side in (224, 384)
}
OFFICIAL_FILES |= _released(
    'https://github.com/addf400/files/releases/download/BEiT-v2/', BEIT,
    *(
        f'beitv2_{size}_patch16_224_{stage}'
        for size in ('base', 'large')
        for stage in ('pt1k', 'pt1k_ft21k')
    ),
)  # fmt: skip
OFFICIAL_FILES |= _released(
    'https://github.com/addf400/files/releases/download/v1.0/', BEIT,
    'beit_base_patch16_224_pt22k_ft22k', 'beit_large_patch16_224_pt22k_ft22k',
)  # fmt: skip
OFFICIAL_FILES |= _released(
    'https://github.com/microsoft/SPACH/releases/download/v1.0/', SPACH,
    'spach_ms_conv_xxs', 'spach_ms_trans_xxs', 'spach_ms_mlp_xxs',
    'spach_ms_conv_s', 'spach_ms_trans_s', 'spach_ms_mlp_s',
    'spach_ms_hybrid_s', 'spach_ms_hybrid_s+',
)  # fmt: skip
OFFICIAL_FILES |= _released(
    'https://github.com/ggjy/CMT.pytorch/releases/download/release-v1/', CMT,
    'cmt_tiny', 'cmt_xs', 'cmt_small', 'cmt_base',
)  # fmt: skip

# Parts of the names of repositories of the Hub; the first that is in one counts.
HUB_LICENCES = (
    ('eupe', EUPE_LICENCE),
    ('dinov3', DINOV3_LICENCE),
    ('vit-mae', MAE_LICENCE),
)
# The name of a repository in both kinds of addresses, of mirrors too.
HUB_NAME = re.compile(r'hf://[^/]+/([^/@]+)|https?://[^/]+/[^/]+/([^/]+)/resolve/')


def find_licence(checkpoint: str) -> str:
    """Return what a user has to know of the licence of a name, an address or an official file."""
    if '://' in checkpoint:
        checkpoint = checkpoint.split('?')[0]  # files on request have signed addresses
    file_name = re.split(r'[/\\]', checkpoint)[-1]
    for name, official in OFFICIAL_FILES.items():
        if checkpoint in (name, official.url) or file_name == official.file_name:
            return official.publication.licence
    match = HUB_NAME.match(checkpoint)
    repository = (match[1] or match[2]).lower() if match else ''
    return next((licence for part, licence in HUB_LICENCES if part in repository), '')
