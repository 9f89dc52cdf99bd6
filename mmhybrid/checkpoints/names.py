"""Names of official weight files: address, hash, and where a file must be asked for."""

from dataclasses import dataclass

DEIT = 'https://dl.fbaipublicfiles.com/deit/'
MAE = 'https://dl.fbaipublicfiles.com/mae/pretrain/'
CMT = 'https://github.com/ggjy/CMT.pytorch/releases/download/release-v1/'
DINOV2 = 'https://dl.fbaipublicfiles.com/dinov2/'
TIMM = 'https://huggingface.co/timm/'
BEIT = 'https://github.com/addf400/files/releases/download/v1.0/'  # of BEiT's authors
BEITV2 = 'https://github.com/addf400/files/releases/download/BEiT-v2/'
SPACH = 'https://github.com/microsoft/SPACH/releases/download/v1.0/'
DINOV3_REQUEST = 'https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/'


@dataclass(frozen=True)
class OfficialFile:
    """A weight file as its authors publish it.

    Attributes:
        file_name: its name in the cache folder.
        url: its address; None where the authors hand it out on request.
        sha256: the hash or its first digits; None where the authors publish none.
        request: the page on which to ask for it.
    """

    file_name: str
    url: str | None
    sha256: str | None = None
    request: str | None = None


def _deit(name, sha256):
    file_name = f'{name}-{sha256}.pth'
    return OfficialFile(file_name, DEIT + file_name, sha256)


def _augreg(model):
    return OfficialFile(f'{model}.safetensors', f'{TIMM}{model}/resolve/main/model.safetensors')


def _dinov2(size, registers):
    folder = f'dinov2_vit{size}14'
    file_name = f'{folder}{registers}_pretrain.pth'
    return OfficialFile(file_name, f'{DINOV2}{folder}/{file_name}')


def _dinov3(arch, sha256, data='lvd1689m'):
    file_name = f'dinov3_{arch}_pretrain_{data}-{sha256}.pth'
    return OfficialFile(file_name, None, sha256, DINOV3_REQUEST)


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
OFFICIAL_FILES |= {
    f'mae_pretrain_vit_{size}': OfficialFile(
        f'mae_pretrain_vit_{size}.pth', f'{MAE}mae_pretrain_vit_{size}.pth'
    )
    for size in ('base', 'large', 'huge')
}
OFFICIAL_FILES |= {
    f'dinov2_vit{size}14{registers}': _dinov2(size, registers)
    for size in 'sblg'
    for registers in ('', '_reg4')
}
OFFICIAL_FILES |= {
    f'dinov3_{arch}': _dinov3(arch, sha256)
    for arch, sha256 in (
        ('vits16', '08c60483'),
        ('vits16plus', '4057cbaa'),
        ('vitb16', '73cec8be'),
        ('vitl16', '8aa4cbdd'),
        ('vitl16plus', '46503df0'),
        ('vith16plus', '7c1da9a5'),
        ('vit7b16', 'a955f4ea'),
    )
}
OFFICIAL_FILES['dinov3_vitl16_sat493m'] = _dinov3('vitl16', 'eadcf0ff', 'sat493m')
OFFICIAL_FILES['dinov3_vit7b16_sat493m'] = _dinov3('vit7b16', 'a6675841', 'sat493m')
OFFICIAL_FILES |= {
    f'augreg_vit_{size}_patch16_{side}': _augreg(f'vit_{size}_patch16_{side}.augreg_in21k_ft_in1k')
    for size in ('tiny', 'small', 'base', 'large')
    for side in (224, 384)
}
OFFICIAL_FILES |= {
    f'beitv2_{size}_patch16_224_{stage}': OfficialFile(
        f'beitv2_{size}_patch16_224_{stage}.pth', f'{BEITV2}beitv2_{size}_patch16_224_{stage}.pth'
    )
    for size in ('base', 'large')
    for stage in ('pt1k', 'pt1k_ft21k')
}
OFFICIAL_FILES |= {
    f'beit_{size}_patch16_224_pt22k_ft22k': OfficialFile(
        f'beit_{size}_patch16_224_pt22k_ft22k.pth',
        f'{BEIT}beit_{size}_patch16_224_pt22k_ft22k.pth',
    )
    for size in ('base', 'large')
}
OFFICIAL_FILES |= {
    f'spach_ms_{model}': OfficialFile(f'spach_ms_{model}.pth', f'{SPACH}spach_ms_{model}.pth')
    for model in (
        *('conv_xxs', 'trans_xxs', 'mlp_xxs'),
        *('conv_s', 'trans_s', 'mlp_s', 'hybrid_s', 'hybrid_s+'),
    )
}
OFFICIAL_FILES |= {
    f'cmt_{model}': OfficialFile(f'cmt_{model}.pth', f'{CMT}cmt_{model}.pth')
    for model in ('tiny', 'xs', 'small', 'base')
}
