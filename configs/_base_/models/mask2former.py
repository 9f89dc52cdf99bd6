# Mask2Former for semantic segmentation, as in MMSegmentation: 256 channels, 8 heads and 100 queries.
# For what a config adds see mask2former_wide.py.
_base_ = './mask2former_wide.py'

attention = dict(embed_dims=256, num_heads=8)
model = dict(
    decode_head=dict(
        feat_channels=256,
        out_channels=256,
        num_queries=100,
        pixel_decoder=dict(
            encoder=dict(
                layer_cfg=dict(
                    self_attn_cfg=attention,
                    ffn_cfg=dict(embed_dims=256, feedforward_channels=1024),
                )
            ),
            positional_encoding=dict(num_feats=128),
        ),
        positional_encoding=dict(num_feats=128),
        transformer_decoder=dict(
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=256, feedforward_channels=2048),
            )
        ),
    )
)
