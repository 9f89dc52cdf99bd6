"""Draw the diagrams of the site.

    python docs/draw.py

Writes docs/images/diagrams/*.svg. They are put into the pages, not linked: their text and lines
take the page's colours, for the light and for the dark. 400 units are a phone's width.
"""

import os
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / 'images' / 'diagrams'
WIDTH = 400
TINTS = {'vit': '#3b82f6', 'cnn': '#10a37f', 'mix': '#e08a00', 'io': '#8b8b8b'}


class Drawing:
    """Boxes, arrows and words on a sheet of 400 units' width.

    Args:
        height: of the sheet.
        title: what the picture shows, for those who do not see it.
    """

    def __init__(self, height: int, title: str):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="{escape(title)}" font-family="inherit" fill="none" stroke="currentColor" '
            'stroke-width="1.2">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0.5 L8 4 L0 7.5 z" fill="currentColor" '
            'stroke="none"/></marker></defs>',
        ]

    def box(self, x: float, y: float, w: float, h: float, *lines: str, kind: str = 'io') -> None:
        """A box around its first corner's (x, y), with lines of words; the first is bold."""
        tint = TINTS[kind]
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="5" fill="{tint}" '
            f'fill-opacity="0.16" stroke="{tint}"/>'
        )
        step = 14.5
        top = y + h / 2 - step * (len(lines) - 1) / 2 + 4.4
        for i, line in enumerate(lines):
            self.words(x + w / 2, top + step * i, line, size=12.5 if i == 0 else 11, bold=i == 0)

    def words(
        self, x: float, y: float, text: str, size: float = 11, anchor: str = 'middle', bold=False
    ) -> None:
        """A line of words."""
        weight = ' font-weight="600"' if bold else ''
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{weight} '
            f'fill="currentColor" stroke="none">{escape(text)}</text>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False, tip: bool = True) -> None:
        """A line through points, with a tip at its end."""
        path = ' '.join(f'{x},{y}' for x, y in points)
        dash = ' stroke-dasharray="4 3"' if dashed else ''
        end = ' marker-end="url(#tip)"' if tip else ''
        self.parts.append(f'<polyline points="{path}"{dash}{end}/>')

    def plus(self, x: float, y: float) -> None:
        """A sum."""
        self.parts.append(
            f'<circle cx="{x}" cy="{y}" r="7"/><path d="M{x - 4} {y}h8M{x} {y - 4}v8"/>'
        )

    def frame(self, x: float, y: float, w: float, h: float, label: str, at: str = 'end') -> None:
        """A dashed frame around what is repeated, its label at the right or in the middle."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" stroke-dasharray="3 4" '
            'opacity="0.7"/>'
        )
        left = x + w - 6 if at == 'end' else x + w / 2
        self.words(left, y + 15, label, size=11.5, anchor=at, bold=True)

    def text(self, name: str) -> str:
        """The SVG; its arrows' tip is called after it, since a page may hold several."""
        return (
            '\n'.join([*self.parts, '</svg>\n'])
            .replace('#tip', f'#tip-{name}')
            .replace('id="tip"', f'id="tip-{name}"')
        )


def chain(draw: Drawing, x: float, y: float, w: float, steps: list, gap: float = 16) -> float:
    """Boxes below each other with arrows between; returns where the last one ends.

    Args:
        steps: (height, lines, kind) of each.
    """
    for i, (h, lines, kind) in enumerate(steps):
        if i:
            draw.arrow((x + w / 2, y), (x + w / 2, y + gap))
            y += gap
        draw.box(x, y, w, h, *lines, kind=kind)
        y += h
    return y


def vit_comer() -> Drawing:
    """ViT-CoMer: both branches, one stage, the outputs."""
    d = Drawing(560, 'ViT-CoMer: a pyramid and a ViT exchange features in four stages')
    d.box(140, 6, 120, 28, 'image', kind='io')
    d.arrow((170, 34), (100, 54))
    d.arrow((230, 34), (300, 54))
    d.box(12, 54, 176, 46, 'ConvPyramid', 'strides 4 8 16 32', kind='cnn')
    d.box(212, 54, 176, 46, 'ViT.embed', 'patches of 16, positions', kind='vit')
    d.frame(4, 116, 392, 262, 'stage, 4 times', at='middle')
    d.arrow((100, 100), (100, 138))
    d.words(106, 114, '8 16 32, as tokens', anchor='start')
    d.arrow((300, 100), (300, 206))
    d.box(12, 138, 156, 44, 'MRFP', '3x3 and 5x5 depth-wise', kind='cnn')
    d.arrow((100, 182), (100, 206))
    d.plus(100, 213)
    d.arrow((300, 194), (122, 194), (106, 206), dashed=True)
    d.words(236, 188, 'patches, to stride 16')
    d.arrow((107, 213), (140, 213), (140, 228))
    d.box(104, 228, 150, 34, 'CTIToViT', kind='mix')
    d.arrow((254, 245), (300, 245), (300, 220))
    d.plus(300, 213)
    d.words(262, 259, '× gamma', anchor='start')
    d.arrow((307, 213), (360, 213), (360, 274))
    d.box(280, 274, 108, 44, 'ViT blocks', 'a quarter', kind='vit')
    d.arrow((95, 218), (60, 232), (60, 326))
    d.arrow((334, 318), (334, 343), (190, 343))
    d.box(12, 326, 176, 40, 'CTIToCNN', 'add patches, attend', kind='mix')
    d.arrow((100, 366), (100, 396))
    d.box(12, 396, 176, 34, 'extra CTIToCNN, 4', kind='mix')
    d.arrow((100, 430), (100, 452))
    d.box(12, 452, 240, 46, 'add the ViT map, resized', 'stride 4: upsampled 8 + stem', kind='mix')
    d.arrow((366, 318), (366, 475), (254, 475), dashed=True)
    d.words(312, 468, 'last map')
    d.arrow((130, 498), (130, 518))
    d.box(12, 518, 240, 34, 'norms, maps 4 8 16 32', kind='io')
    return d


def vit_adapter() -> Drawing:
    """ViT-Adapter: both branches, one stage, the outputs."""
    d = Drawing(500, 'ViT-Adapter: injector before and extractor after each group of ViT blocks')
    d.box(140, 6, 120, 28, 'image', kind='io')
    d.arrow((170, 34), (100, 54))
    d.arrow((230, 34), (300, 54))
    d.box(12, 54, 176, 46, 'ConvPyramid', 'strides 4 8 16 32', kind='cnn')
    d.box(212, 54, 176, 46, 'ViT.embed', 'patches of 16, positions', kind='vit')
    d.frame(4, 116, 392, 204, 'stage, 4 times', at='middle')
    d.words(106, 114, '8 16 32, as tokens', anchor='start')
    d.arrow((100, 100), (100, 254))
    d.arrow((300, 100), (300, 146))
    d.box(212, 146, 176, 44, 'Injector', 'patches attend to pyramid', kind='mix')
    d.arrow((100, 168), (210, 168), dashed=True)
    d.words(156, 162, 'values')
    d.arrow((300, 190), (300, 210))
    d.box(212, 210, 176, 34, 'ViT blocks, a quarter', kind='vit')
    d.arrow((300, 244), (300, 276), (190, 276), dashed=True)
    d.words(246, 290, 'values')
    d.box(12, 254, 176, 46, 'Extractor', 'pyramid attends to patches', kind='mix')
    d.arrow((100, 300), (100, 338))
    d.box(12, 338, 176, 34, 'extra Extractors, 2', kind='mix')
    d.arrow((350, 244), (350, 418), (254, 418), dashed=True)
    d.words(312, 411, 'last map')
    d.arrow((100, 372), (100, 392))
    d.box(12, 392, 240, 46, 'add the ViT map, resized', 'stride 4: upsampled 8 + stem', kind='mix')
    d.arrow((130, 438), (130, 458))
    d.box(12, 458, 240, 34, 'norms, maps 4 8 16 32', kind='io')
    return d


def sta() -> Drawing:
    """STA: the ViT as it is, the stem, and what joins them at each level."""
    d = Drawing(356, 'STA: three maps of a ViT, each joined to the map of a convolutional stem')
    d.box(140, 6, 120, 28, 'image', kind='io')
    d.arrow((170, 34), (100, 54))
    d.arrow((230, 34), (300, 54))
    d.box(12, 54, 176, 46, 'ConvBranch', 'strides (4) 8 16 32', kind='cnn')
    d.box(212, 54, 176, 46, 'ViT', 'patches of 16, all blocks', kind='vit')
    d.words(294, 119, 'maps after three blocks', anchor='end')
    d.arrow((300, 100), (300, 130))
    d.box(212, 130, 176, 46, 'resize_map', 'to strides 8, 16 and 32', kind='vit')
    d.arrow((100, 100), (100, 210))
    d.arrow((300, 176), (300, 210))
    d.box(12, 210, 376, 34, 'joined: channels of both, one after the other', kind='mix')
    d.arrow((200, 244), (200, 264))
    d.box(112, 264, 176, 34, 'fusions: 1x1, norm', kind='mix')
    d.arrow((200, 298), (200, 318))
    d.box(112, 318, 176, 28, 'maps (4) 8 16 32', kind='io')
    return d


def vit() -> Drawing:
    """Plain ViT and the simple pyramid."""
    d = Drawing(420, 'Plain ViT: tokens pass blocks; the simple pyramid makes four maps')
    x, w = 100, 200
    y = chain(
        d,
        x,
        6,
        w,
        [
            (28, ['image'], 'io'),
            (44, ['patch_embed', '16x16 convolution, stride 16'], 'vit'),
            (44, ['+ positions', 'class token and registers before'], 'vit'),
        ],
    )
    d.arrow((200, y), (200, y + 34))
    d.frame(70, y + 14, 260, 116, 'depth times')
    y = chain(
        d,
        x,
        y + 34,
        w,
        [
            (34, ['x + ls1 · attn(norm1 x)'], 'vit'),
            (34, ['x + ls2 · mlp(norm2 x)'], 'vit'),
        ],
    )
    d.arrow((200, y), (200, y + 40))
    d.words(208, y + 32, 'map of stride 16', anchor='start')
    top = y + 40
    d.box(
        20,
        top,
        360,
        42,
        'SimplePyramid',
        'transposed convolutions, identity, max pooling',
        kind='cnn',
    )
    for i, name in enumerate(('4', '8', '16', '32')):
        cx = 65 + 90 * i
        d.arrow((cx, top + 42), (cx, top + 62))
        d.box(cx - 34, top + 62, 68, 28, name, kind='io')
    return d


def cmt() -> Drawing:
    """CMT: stem, four stages, one block."""
    d = Drawing(452, 'CMT: a convolutional stem and four stages of blocks')
    x, w = 20, 130
    steps = [(28, ['image'], 'io'), (40, ['stem', 'three 3x3, stride 2'], 'cnn')]
    for i, (stride, k) in enumerate(zip((4, 8, 16, 32), (8, 4, 2, 1), strict=True)):
        steps.append(
            (52, [f'stage {i + 1}', '2x2 stride 2, blocks', f'stride {stride}, k = {k}'], 'mix')
        )
    chain(d, x, 6, w, steps, gap=18)
    for i in range(4):
        y = 6 + 28 + 18 + 40 + 18 + i * 70 + 26
        d.arrow((150, y), (176, y))
        d.words(180, y + 4, f'map {i}', anchor='start')
    d.frame(226, 60, 168, 330, 'block')
    chain(
        d,
        238,
        88,
        144,
        [
            (44, ['LPU', 'x + 3x3 depth-wise'], 'cnn'),
            (60, ['LMHSA', 'k x k depth-wise', 'before keys, values'], 'vit'),
            (
                118,
                ['IRFFN', 'expand, GELU, BN', 'x + 3x3 depth-wise', 'GELU, BN', 'project, BN'],
                'cnn',
            ),
        ],
        gap=30,
    )
    for y in (154, 244):
        d.words(316, y, 'LN, residual', anchor='start', size=10.5)
    return d


def cvt() -> Drawing:
    """CvT: three stages, one attention."""
    d = Drawing(410, 'CvT: three stages of strides 4, 8 and 16; convolutions project to q, k, v')
    steps = [(28, ['image'], 'io')]
    for i, (stride, kernel) in enumerate(((4, '7x7'), (8, '3x3'), (16, '3x3'))):
        steps.append(
            (52, [f'stage {i + 1}', f'ConvEmbed {kernel}, LN', f'blocks, stride {stride}'], 'mix')
        )
    y = chain(d, 14, 6, 146, steps, gap=24)
    for i in range(3):
        middle = 6 + 28 + 24 + i * 76 + 26
        d.arrow((160, middle), (182, middle))
        d.words(186, middle + 4, f'map {i}', anchor='start')
    d.words(14, y + 20, 'stage 3 also has', anchor='start')
    d.words(14, y + 35, 'the class token', anchor='start')
    d.frame(228, 20, 168, 372, 'attention')
    d.box(246, 46, 132, 28, 'norm1, as a map', kind='io')
    for i, name in enumerate('qkv'):
        cx = 262 + 50 * i
        d.arrow((cx, 74), (cx, 96))
        d.box(cx - 22, 96, 44, 60, '3x3', 'dw, BN', 's 1' if name == 'q' else 's 2', kind='cnn')
        d.arrow((cx, 156), (cx, 176))
        d.box(cx - 22, 176, 44, 30, name, kind='vit')
        d.arrow((cx, 206), (cx, 230))
    d.box(246, 230, 132, 46, 'softmax(q kᵀ s) v', 's = dim ** -0.5', kind='vit')
    d.arrow((312, 276), (312, 300))
    d.box(246, 300, 132, 28, 'proj', kind='vit')
    d.arrow((312, 328), (312, 352))
    d.words(312, 370, '+ x, then x + MLP(LN x)')
    return d


def vit_c() -> Drawing:
    """ViT_C beside ViT_P."""
    d = Drawing(300, 'ViT_P embeds patches in one convolution, ViT_C in a stem of several')
    d.words(100, 16, 'ViT_P', size=13, bold=True)
    d.words(300, 16, 'ViT_C', size=13, bold=True)
    chain(
        d,
        20,
        26,
        160,
        [(28, ['image'], 'io'), (144, ['16x16, stride 16'], 'vit'), (40, ['n blocks'], 'vit')],
        gap=20,
    )
    chain(
        d,
        220,
        26,
        160,
        [
            (28, ['image'], 'io'),
            (24, ['3x3, stride 2'], 'cnn'),
            (24, ['3x3, stride 2'], 'cnn'),
            (24, ['3x3, stride 2'], 'cnn'),
            (24, ['3x3, stride 2'], 'cnn'),
            (24, ['1x1 to embed_dims'], 'cnn'),
            (40, ['n - 1 blocks'], 'vit'),
        ],
        gap=10,
    )
    d.words(300, 290, 'each 3x3 with BN and ReLU')
    return d


def spach() -> Drawing:
    """SPACH: one block with its three mixings."""
    d = Drawing(400, 'SPACH: one block; the mixing is convolution alone, attention, or an MLP')
    chain(
        d,
        14,
        6,
        130,
        [
            (28, ['image'], 'io'),
            (40, ['Stem', 'patches of 4, LN'], 'mix'),
            (40, ['stage 1', 'stride 4'], 'mix'),
            (40, ['stage 2', 'Downsample 2x2'], 'mix'),
            (40, ['stage 3', 'Downsample 2x2'], 'mix'),
            (40, ['stage 4', 'Downsample 2x2'], 'mix'),
        ],
        gap=22,
    )
    d.frame(166, 20, 230, 360, 'MixingBlock')
    d.box(236, 44, 90, 26, 'x', kind='io')
    d.arrow((258, 70), (228, 96))
    d.arrow((304, 70), (340, 128))
    d.box(176, 96, 110, 26, 'norm1', kind='vit')
    d.arrow((231, 122), (231, 144))
    d.box(176, 144, 110, 56, 'mixing', 'attn | mlp |', 'none (conv)', kind='vit')
    d.arrow((231, 200), (231, 220))
    d.box(176, 220, 110, 26, 'layer_scale', kind='vit')
    d.box(298, 128, 92, 44, 'conv', '3x3 depth-wise', kind='cnn')
    d.arrow((231, 246), (231, 279), (272, 279))
    d.arrow((342, 172), (342, 279), (290, 279))
    d.plus(281, 279)
    d.words(281, 266, '+ x')
    d.arrow((281, 286), (281, 312))
    d.box(196, 312, 170, 40, 'x + mlp(norm2 x)', kind='vit')
    return d


def package() -> Drawing:
    """What imports what."""
    d = Drawing(456, 'The parts of the package, and which of them imports which')
    d.box(10, 10, 186, 44, 'tools/', 'train test infer benchmark', kind='io')
    d.box(204, 10, 186, 44, 'configs/', 'recipes over _base_ files', kind='io')
    d.box(10, 92, 120, 58, 'engine', 'hooks, optimizers,', 'checkpoint files', kind='mix')
    d.box(140, 92, 120, 58, 'data', 'own data, checks,', 'the demo', kind='mix')
    d.box(270, 92, 120, 58, 'testing', 'reference runs,', 'tiny folders', kind='mix')
    d.box(
        10,
        186,
        380,
        44,
        'models.backbones   models.necks',
        'one family a file, base.py holds the contract',
        kind='vit',
    )
    d.box(10, 266, 230, 44, 'models.layers', 'modules, called whole', kind='cnn')
    d.box(10, 338, 230, 44, 'models.kernels', 'functions of tensors', kind='cnn')
    d.box(250, 266, 140, 116, 'checkpoints', 'one function', 'a source', kind='cnn')
    d.box(10, 410, 380, 36, 'registry   ·   torch, mmengine', kind='io')
    for x in (70, 200, 330):
        d.arrow((x, 54), (x, 92))
        d.arrow((x, 150), (x, 186))
    for x in (120, 320):
        d.arrow((x, 230), (x, 266))
        d.arrow((x, 382), (x, 410))
    d.arrow((120, 310), (120, 338))
    return d


def image_way() -> Drawing:
    """The way of an image through a training step."""
    d = Drawing(436, 'The way of an image through a training step of a detector')
    chain(
        d,
        40,
        6,
        320,
        [
            (40, ['data set and pipeline', 'host library; paths from data_root'], 'io'),
            (40, ['data_preprocessor', 'host: normalise, stack, pad to a batch'], 'io'),
            (40, ['Backbone.forward', 'check_image, pad_image'], 'vit'),
            (40, ['stages', 'run(): with_cp recomputes'], 'vit'),
            (40, ['maps', 'crop_map: ceil(size / stride)'], 'vit'),
            (40, ['neck and heads', 'host; FPN or mmhybrid.SimplePyramid'], 'io'),
            (40, ['loss, optim_wrapper', 'get_layer_depth sets learning rates'], 'mix'),
        ],
        gap=23,
    )
    return d


DIAGRAMS = (vit_comer, vit_adapter, sta, vit, cmt, cvt, vit_c, spach, package, image_way)


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for function in DIAGRAMS:
        path = FOLDER / f'{function.__name__}.svg'
        part = path.with_suffix('.part')
        part.write_text(function().text(function.__name__), encoding='utf-8')
        os.replace(part, path)
        print(path.relative_to(FOLDER.parents[2]))


if __name__ == '__main__':
    main()
