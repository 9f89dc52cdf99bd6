"""Tiny state dicts in the forms their authors publish, and a model each fits."""

import torch

from mmhybrid.models.backbones import ViT

WIDTH, DEPTH, HEADS, PATCH, GRID = 32, 3, 2, 8, 4
ARCH = dict(embed_dims=WIDTH, depth=DEPTH, num_heads=HEADS)


def tensors(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def timm_shapes(width=WIDTH, depth=DEPTH, patch=PATCH, grid=GRID, tokens=1, hidden=4):
    """Plain ViT without a head; MAE's encoder is the same."""
    shapes = {
        'cls_token': (1, 1, width),
        'pos_embed': (1, tokens + grid * grid, width),
        'patch_embed.proj.weight': (width, 3, patch, patch),
        'patch_embed.proj.bias': (width,),
    }
    for i in range(depth):
        block = {
            'norm1.weight': (width,),
            'norm1.bias': (width,),
            'attn.qkv.weight': (3 * width, width),
            'attn.qkv.bias': (3 * width,),
            'attn.proj.weight': (width, width),
            'attn.proj.bias': (width,),
            'norm2.weight': (width,),
            'norm2.bias': (width,),
            'mlp.fc1.weight': (hidden * width, width),
            'mlp.fc1.bias': (hidden * width,),
            'mlp.fc2.weight': (width, hidden * width),
            'mlp.fc2.bias': (width,),
        }
        shapes |= {f'blocks.{i}.{name}': shape for name, shape in block.items()}
    return shapes | {'norm.weight': (width,), 'norm.bias': (width,)}


def per_block(names, depth=DEPTH):
    return {f'blocks.{i}.{name}': shape for i in range(depth) for name, shape in names.items()}


def deit(**size):
    width = size.get('width', WIDTH)
    return tensors(
        timm_shapes(**size) | {'head.weight': (5, width), 'head.bias': (5,)},
    )


def deit_distilled(**size):
    width = size.get('width', WIDTH)
    shapes = timm_shapes(**size, tokens=2) | {'dist_token': (1, 1, width)}
    heads = {'head.weight': (5, width), 'head_dist.weight': (5, width)}
    return tensors(shapes | heads)


def deit3(**size):
    """Positions of patches alone."""
    width, depth = size.get('width', WIDTH), size.get('depth', DEPTH)
    shapes = timm_shapes(**size, tokens=0)
    shapes |= per_block({'gamma_1': (width,), 'gamma_2': (width,)}, depth)
    return tensors(shapes | {'head.weight': (5, width), 'head.bias': (5,)})


def augreg(width=WIDTH, depth=DEPTH, patch=PATCH, grid=GRID):
    """What Google's .npz files hold, in Flax's names."""
    layers = {
        'LayerNorm_0': dict(scale=(width,), bias=(width,)),
        'LayerNorm_2': dict(scale=(width,), bias=(width,)),
        'MlpBlock_3/Dense_0': dict(kernel=(width, 4 * width), bias=(4 * width,)),
        'MlpBlock_3/Dense_1': dict(kernel=(4 * width, width), bias=(width,)),
    }
    attention = 'MultiHeadDotProductAttention_1'
    for part in ('query', 'key', 'value'):
        shape = (HEADS, width // HEADS)
        layers[f'{attention}/{part}'] = dict(kernel=(width, *shape), bias=shape)
    layers[f'{attention}/out'] = dict(kernel=(HEADS, width // HEADS, width), bias=(width,))
    shapes = {
        'cls': (1, 1, width),
        'embedding/kernel': (patch, patch, 3, width),
        'embedding/bias': (width,),
        'Transformer/posembed_input/pos_embedding': (1, 1 + grid * grid, width),
        'Transformer/encoder_norm/scale': (width,),
        'Transformer/encoder_norm/bias': (width,),
        'head/kernel': (width, 5),
        'head/bias': (5,),
    }
    for i in range(depth):
        for layer, leaves in layers.items():
            for leaf, shape in leaves.items():
                shapes[f'Transformer/encoderblock_{i}/{layer}/{leaf}'] = shape
    return tensors(shapes)


def mae(**size):
    decoder = {'decoder_embed.weight': (8, WIDTH), 'decoder_blocks.0.norm1.weight': (8,)}
    return tensors(timm_shapes(**size) | {'mask_token': (1, 1, 8)} | decoder)


def dinov2(*, num_registers=0, **size):
    width, depth = size.get('width', WIDTH), size.get('depth', DEPTH)
    shapes = timm_shapes(**size) | {'mask_token': (1, width)}
    shapes |= per_block({'ls1.gamma': (width,), 'ls2.gamma': (width,)}, depth)
    if num_registers:
        shapes['register_tokens'] = (1, num_registers, width)
    return tensors(shapes)


def dinov2_registers(**size):
    return dinov2(num_registers=4, **size)


def dinov2_giant(**size):
    """With SwiGLU, as in size g."""
    width, depth = size.get('width', WIDTH), size.get('depth', DEPTH)
    hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
    state_dict = {k: v for k, v in dinov2(**size).items() if '.mlp.' not in k}
    names = {
        'mlp.w12.weight': (2 * hidden, width),
        'mlp.w12.bias': (2 * hidden,),
        'mlp.w3.weight': (width, hidden),
        'mlp.w3.bias': (width,),
    }
    return state_dict | tensors(per_block(names, depth), seed=1)


def dinov3(*, swiglu=False, **size):
    width, depth = size.get('width', WIDTH), size.get('depth', DEPTH)
    state_dict = dinov2_giant(**size) if swiglu else dinov2(**size)
    del state_dict['pos_embed']
    for i in range(depth if swiglu else 0):
        for kind in ('weight', 'bias'):
            both = state_dict.pop(f'blocks.{i}.mlp.w12.{kind}')
            names = (f'blocks.{i}.mlp.w1.{kind}', f'blocks.{i}.mlp.w2.{kind}')
            state_dict |= zip(names, both.chunk(2), strict=True)
    state_dict |= tensors({'storage_tokens': (1, 4, width)}, seed=2)
    count = width // HEADS // 4
    state_dict['rope_embed.periods'] = 100.0 ** (torch.arange(count) / count)
    mask = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(width)
    return state_dict | {f'blocks.{i}.attn.qkv.bias_mask': mask.clone() for i in range(depth)}


def dinov3_swiglu(**size):
    return dinov3(swiglu=True, **size)


def dinov3_timm(*, swiglu=False, **size):
    """As timm has them: rotary positions are no part of the file."""
    width, depth = size.get('width', WIDTH), size.get('depth', DEPTH)
    shapes = timm_shapes(**size)
    del shapes['pos_embed']
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith('qkv.bias')}
    vectors = ('gamma_1', 'gamma_2', 'attn.q_bias', 'attn.v_bias')
    shapes |= per_block(dict.fromkeys(vectors, (width,)), depth)
    if swiglu:
        hidden = shapes['blocks.0.mlp.fc1.bias'][0]
        shapes = {name: shape for name, shape in shapes.items() if '.mlp.fc1.' not in name}
        for part in ('fc1_g', 'fc1_x'):
            layer = {f'mlp.{part}.weight': (hidden, width), f'mlp.{part}.bias': (hidden,)}
            shapes |= per_block(layer, depth)
    return tensors(shapes | {'reg_token': (1, 4, width)})


def dinov3_timm_swiglu(**size):
    return dinov3_timm(swiglu=True, **size)


def beit(**size):
    width, depth, grid = size.get('width', WIDTH), size.get('depth', DEPTH), size.get('grid', GRID)
    shapes = timm_shapes(**size)
    for name in ('pos_embed', 'norm.weight', 'norm.bias'):
        del shapes[name]
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith('qkv.bias')}
    block = {
        'gamma_1': (width,),
        'gamma_2': (width,),
        'attn.q_bias': (width,),
        'attn.v_bias': (width,),
        'attn.relative_position_bias_table': ((2 * grid - 1) ** 2 + 3, HEADS),
    }
    shapes |= per_block(block, depth) | {'fc_norm.weight': (width,), 'head.weight': (5, width)}
    index = torch.zeros(grid * grid + 1, grid * grid + 1, dtype=torch.long)
    buffers = {f'blocks.{i}.attn.relative_position_index': index for i in range(depth)}
    return tensors(shapes) | buffers


def beit_pretraining(**size):
    """One table for all blocks, the heads of masked image modelling, BEiTv2's for class tokens."""
    state_dict = beit(**size)
    tables = [name for name in state_dict if name.endswith('relative_position_bias_table')]
    shared = [state_dict.pop(name) for name in tables][0]
    state_dict['rel_pos_bias.relative_position_bias_table'] = shared
    heads = {'lm_head.weight': (9, WIDTH), 'cls_pt_lm_head.weight': (9, WIDTH)}
    layers = {'cls_pt_layers.0.norm1.weight': (WIDTH,), 'cls_pt_norm.weight': (WIDTH,)}
    return state_dict | tensors({'mask_token': (1, 1, WIDTH)} | heads | layers)


LAYER_SCALE = dict(layer_scale=1.0)
DINOV3 = LAYER_SCALE | dict(position='rope', num_registers=4, mask_key_bias=True)
BEIT = LAYER_SCALE | dict(position='relative', mask_key_bias=True)
# form -> (state dict, the source it is recognised as, arguments of the ViT it fits)
FORMS = {
    'deit': (deit, 'timm', {}),
    'deit_distilled': (deit_distilled, 'timm', dict(dist_token=True)),
    'deit3': (deit3, 'DeiT III', LAYER_SCALE | dict(class_token=False)),
    'mae': (mae, 'MAE', {}),
    'dinov2': (dinov2, 'DINOv2', LAYER_SCALE),
    'dinov2_registers': (dinov2_registers, 'DINOv2', LAYER_SCALE | dict(num_registers=4)),
    'dinov2_giant': (dinov2_giant, 'DINOv2', LAYER_SCALE | dict(ffn='swiglu')),
    'dinov3': (dinov3, 'DINOv3', DINOV3),
    'dinov3_swiglu': (dinov3_swiglu, 'DINOv3', DINOV3 | dict(ffn='swiglu')),
    'dinov3_timm': (dinov3_timm, 'DINOv3 (timm)', DINOV3),
    'dinov3_timm_swiglu': (
        dinov3_timm_swiglu,
        'DINOv3 (timm)',
        DINOV3 | dict(arch=ARCH | dict(mlp_ratio=6), ffn='swiglu'),
    ),
    'beit': (beit, 'BEiT', BEIT),
    'beit_pretraining': (beit_pretraining, 'BEiT', BEIT),
}


def build_vit(form='deit', **overrides):
    options = dict(patch_size=PATCH, pretrain_size=PATCH * GRID) | FORMS[form][2] | overrides
    return ViT(options.pop('arch', ARCH), **options)


def copy_state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_state(model, state_dict):
    return all(torch.equal(tensor, state_dict[name]) for name, tensor in copy_state(model).items())
