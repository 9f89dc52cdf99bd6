"""Boxes of DINO and masks of Mask2Former, as plain tensors.

The hosts hold the sizes of maps as tensors, which no program for images of any size can split by.
The modules here call the hosts' layers with sizes as numbers.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.kernels import Shapes, deformable_attention, join_levels, reference_points
from ..models.kernels.pyramid import level_sizes
from .dense import Padding, cut
from .errors import ExportError
from .nms import rows_at

if TYPE_CHECKING:
    from mmengine.model import BaseModel


class DinoResults(nn.Module):
    """Image to boxes, scores and labels of DINO, and the tokens that it chooses queries from.

    Raises:
        ExportError: the detector is another one with queries.
    """

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        from mmdet.models.dense_heads import DINOHead
        from mmdet.models.detectors import DINO

        if type(model) is not DINO or type(model.bbox_head) is not DINOHead:
            raise ExportError(
                f'the results of a {type(model).__name__} are not among those that a file can '
                'hold: of detectors with queries expected DINO or Mask2Former; export the '
                'backbone by name'
            )
        self.model = with_plain_sampling(model)
        if Padding(model).divisor != 1:
            raise ExportError(
                'the boxes of a DINO whose images are padded are not among those that a file can '
                'hold: give --cfg-options model.data_preprocessor.pad_size_divisor=1'
            )
        cfg = model.bbox_head.test_cfg
        self.limit = cfg.get('max_per_img', model.num_queries)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        head = self.model.bbox_head
        memory, hidden, references = self._decode(self.model.extract_feat(image))
        logits, boxes = (levels[-1] for levels in head(hidden, references))
        scores, order = logits.sigmoid().flatten(1).topk(self.limit)
        x, y, w, h = rows_at(boxes, order // head.num_classes).unbind(2)
        height, width = image.shape[2:]
        corners = ((x - w / 2) * width, (y - h / 2) * height)
        ends = ((x + w / 2) * width, (y + h / 2) * height)
        found = cut(torch.stack((*corners, *ends), dim=2), (height, width), None)
        return found, scores, order % head.num_classes, memory

    def _decode(self, maps):
        """Return the encoder's tokens, hidden states and references of all decoder layers."""
        model = self.model
        shapes = [tuple(one.shape[2:]) for one in maps]
        memory = encode(
            model.encoder,
            join_levels(maps),
            join_levels(
                [
                    model.positional_encoding(None, input=one) + embed.view(1, -1, 1, 1)
                    for one, embed in zip(maps, model.level_embed, strict=True)
                ]
            ),
            shapes,
        )
        best = self._proposals(memory, shapes)
        count = memory.shape[0]
        hidden, references = model.decoder(
            query=model.query_embedding.weight.expand(count, -1, -1),
            value=memory,
            key_padding_mask=None,
            self_attn_mask=None,
            reference_points=best,
            spatial_shapes=shapes,
            level_start_index=None,
            valid_ratios=memory.new_ones(count, len(shapes), 2),
            reg_branches=model.bbox_head.reg_branches,
        )
        return memory, hidden, list(references)

    def _proposals(self, memory, shapes):
        """Return the best boxes ``(N, queries, 4)`` of the encoder's tokens ``(N, S, C)``."""
        model = self.model
        centres = reference_points(shapes, memory.device)  # (S, 2)
        sides = [
            torch.full_like(centres[: h * w], 0.05 * 2.0**level)
            for level, (h, w) in enumerate(shapes)
        ]
        boxes = torch.cat((centres, torch.cat(sides)), dim=1)  # (S, 4)
        inside = ((boxes > 0.01) & (boxes < 0.99)).all(1, keepdim=True)
        unsure = torch.log(boxes / (1 - boxes)).masked_fill(~inside, torch.inf)
        tokens = model.memory_trans_norm(model.memory_trans_fc(memory * inside))
        last = model.decoder.num_layers
        scores = model.bbox_head.cls_branches[last](tokens).amax(2)
        places = model.bbox_head.reg_branches[last](tokens) + unsure
        best = scores.topk(model.num_queries, dim=1).indices
        return rows_at(places, best).sigmoid()


class MaskResults(nn.Module):
    """Image to boxes, scores, labels and masks of a Mask2Former detector, and its raw outputs.

    Raises:
        ExportError: the config asks for panoptic results, or the head is another one.
    """

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        from mmdet.models.detectors import Mask2Former

        cfg = model.panoptic_fusion_head.test_cfg
        if type(model) is not Mask2Former or cfg.get('panoptic_on', True):
            raise ExportError(
                'of Mask2Former one file holds instances or classes of pixels, not panoptic '
                'results: set model.test_cfg.panoptic_on=False and instance_on=True by '
                '--cfg-options, or export the backbone by name'
            )
        self.backbone, self.neck = model.backbone, getattr(model, 'neck', None)
        self.pad = Padding(model)
        self.head = with_plain_sampling(model.panoptic_head)
        self.limit = cfg.get('max_per_image', 100)
        self.things = model.panoptic_fusion_head.num_things_classes

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        padded = self.pad(image)
        maps = self.backbone(padded)
        logits, masks = queries_of(self.head, maps if self.neck is None else self.neck(maps))
        scores = logits.softmax(-1)[..., :-1]
        classes = scores.shape[2]
        scores, order = scores.flatten(1).topk(self.limit)
        labels = order % classes
        # (N, queries, h, w) -> (N, limit, h, w)
        rows = (order // classes)[..., None, None].expand(-1, -1, *masks.shape[2:])
        chosen = masks.gather(1, rows)
        chosen = F.interpolate(chosen, tuple(padded.shape[2:]), mode='bilinear')
        chosen = chosen[:, :, : image.shape[2], : image.shape[3]]
        inside = chosen > 0
        area = inside.sum((2, 3))
        sure = (chosen.sigmoid() * inside).sum((2, 3)) / (area + 1e-6)
        scores, real = scores * sure, labels < self.things
        boxes = boxes_around(inside) * real.unsqueeze(2)
        labels = torch.where(real, labels, -1)
        return boxes, scores * real, labels, inside, logits, masks


class QuerySegmentor(nn.Module):
    """Image to class logits ``(N, classes, H, W)`` of a Mask2Former segmentor."""

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        self.backbone, self.neck = model.backbone, getattr(model, 'neck', None)
        self.head = with_plain_sampling(model.decode_head)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(image)
        logits, masks = queries_of(self.head, maps if self.neck is None else self.neck(maps))
        masks = F.interpolate(masks, tuple(image.shape[2:]), mode='bilinear').sigmoid()
        # (N, Q, classes), (N, Q, H, W) -> (N, classes, H, W)
        return (torch.einsum('bqc,bqhw->bchw', logits.softmax(-1)[..., :-1], masks),)


def queries_of(head: nn.Module, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the last layer's class logits ``(N, Q, C)`` and masks ``(N, Q, h, w)``."""
    logits, masks = head(maps, [])
    return logits[-1], masks[-1]


def boxes_around(masks: Tensor) -> Tensor:
    """Return the boxes ``(N, M, 4)`` around masks ``(N, M, H, W)``; of an empty one zeros."""
    sides = []
    for along in (2, 3):  # over rows, which leaves columns: x; then y
        any_here = masks.any(along)  # (N, M, length)
        length = any_here.shape[2]
        places = torch.arange(length, device=masks.device)
        first = torch.where(any_here, places, length).amin(2)
        last = torch.where(any_here, places, -1).amax(2) + 1
        sides.append((torch.where(last > 0, first, 0), last))
    (x1, x2), (y1, y2) = sides
    return torch.stack((x1, y1, x2, y2), dim=2).float()


# The hosts' layers with sizes as numbers


def with_plain_sampling(module: nn.Module) -> Any:
    """Copy a module with its deformable attention and pixel decoders as those below."""
    from mmcv.ops import MultiScaleDeformableAttention
    from mmdet.models.layers import MSDeformAttnPixelDecoder

    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is MultiScaleDeformableAttention:
                setattr(parent, name, PlainSampling(child))
            elif type(child) is MSDeformAttnPixelDecoder:
                setattr(parent, name, PlainPixelDecoder(child))
    return module


class PlainSampling(nn.Module):
    """mmcv's ``MultiScaleDeformableAttention``, told its levels' sizes as numbers."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention: Any = attention
        self.backend = 'auto'

    def forward(
        self,
        query: Tensor,
        *,
        reference_points: Tensor,
        spatial_shapes: Shapes,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        a = self.attention
        value = query if value is None else value
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        if not a.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        # (N, S, C) -> (N, S, heads, D); (N, Q, ...) -> (N, Q, heads, levels, points, 2)
        value = a.value_proj(value).unflatten(2, (a.num_heads, -1))
        samples = (a.num_heads, a.num_levels, a.num_points)
        offsets = a.sampling_offsets(query).unflatten(2, (*samples, 2))
        weights = a.attention_weights(query).unflatten(2, (a.num_heads, -1)).softmax(-1)
        weights = weights.unflatten(3, samples[1:])  # (N, Q, heads, levels, points)
        points = reference_points[:, :, None, :, None]  # (N or 1, Q, 1, levels, 1, 2 or 4)
        if points.shape[-1] == 2:
            sizes = level_sizes(spatial_shapes, offsets.device).to(offsets)  # (levels, 2)
            locations = points + offsets / sizes.unsqueeze(1)
        else:
            locations = points[..., :2] + offsets / a.num_points * points[..., 2:] * 0.5
        out = deformable_attention(value, spatial_shapes, locations, weights, self.backend)
        out = a.output_proj(out)
        return identity + (out if a.batch_first else out.transpose(0, 1))


class PlainPixelDecoder(nn.Module):
    """mmdet's ``MSDeformAttnPixelDecoder``, which splits its tokens by numbers."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder: Any = decoder

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        d = self.decoder
        coarse = list(reversed(feats))[: d.num_encoder_levels]  # coarse to fine
        maps = [conv(one) for conv, one in zip(d.input_convs, coarse, strict=True)]
        shapes = [tuple(one.shape[2:]) for one in maps]
        encoding = getattr(d, 'postional_encoding', None) or d.positional_encoding
        places = []
        for one, embed in zip(maps, d.level_encoding.weight, strict=True):
            nothing = one.new_zeros(one[:, 0].shape, dtype=torch.bool)
            places.append(encoding(nothing) + embed.view(1, -1, 1, 1))
        memory = encode(d.encoder, join_levels(maps), join_levels(places), shapes)
        outs = []
        for part, shape in zip(memory.split([h * w for h, w in shapes], 1), shapes, strict=True):
            outs.append(part.unflatten(1, shape).permute(0, 3, 1, 2))  # (N, h w, C) -> (N, C, h, w)
        left = d.num_input_levels - d.num_encoder_levels
        for i in reversed(range(left)):
            x = d.lateral_convs[i](feats[i])
            x = x + F.interpolate(outs[-1], size=tuple(x.shape[2:]), mode='bilinear')
            outs.append(d.output_convs[i](x))
        return d.mask_feature(outs[-1]), outs[: d.num_outs]


def encode(encoder: Any, tokens: Tensor, places: Tensor, shapes: Shapes) -> Tensor:
    """Run mmdet's deformable encoder on tokens ``(N, S, C)`` of levels, with their embeddings."""
    centres = reference_points(shapes, tokens.device)[None, :, None]  # (1, S, 1, 2)
    for layer in encoder.layers:
        tokens = layer(
            query=tokens,
            query_pos=places,
            key_padding_mask=None,
            spatial_shapes=shapes,
            level_start_index=None,
            valid_ratios=None,
            reference_points=centres.expand(-1, -1, len(shapes), -1),
        )
    return tokens
