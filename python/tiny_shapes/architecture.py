"""The configurations of the model's parts: stock diffusers and transformers classes only."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXVideoTransformer3DModel,
)
from transformers import UMT5Config, UMT5EncoderModel

LATENT_CHANNELS = 32
SPATIAL = 16
"""Pixels per latent cell, in both directions."""
TEMPORAL = 4
"""Frames per latent frame; the first latent frame holds one frame alone."""
TEXT_TOKENS = 32
"""Every prompt is padded or cut to this many tokens."""
LOG_VARIANCE = -30.0
"""The encoder's constant log variance: sampling from its posterior then equals taking the mean."""


def build_vae() -> AutoencoderKLLTXVideo:
    """An autoencoder of about 3.3 M parameters: 16x smaller in space, 4x in time, causal start."""
    vae = AutoencoderKLLTXVideo(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 128),
        down_block_types=("LTXVideo095DownBlock3D", "LTXVideo095DownBlock3D"),
        downsample_type=("spatiotemporal", "spatiotemporal"),
        spatio_temporal_scaling=(True, True),
        layers_per_block=(0, 1, 1),
        decoder_block_out_channels=(40, 80),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_layers_per_block=(1, 2, 1),
        decoder_inject_noise=(False, False, False),
        upsample_residual=(True, True),
        upsample_factor=(1, 2),
        patch_size=4,
        patch_size_t=1,
        timestep_conditioning=False,
        encoder_causal=True,
        decoder_causal=False,
    )
    freeze_log_variance(vae)
    return vae


def freeze_log_variance(vae: AutoencoderKLLTXVideo) -> None:
    """Makes the posterior's variance vanish whatever the input: latents are deterministic."""
    conv = vae.encoder.conv_out.conv
    with torch.no_grad():
        conv.weight[-1].zero_()
        conv.bias[-1] = LOG_VARIANCE


def latent_size(width: int, height: int, frames: int) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a clip."""
    return (frames - 1) // TEMPORAL + 1, height // SPATIAL, width // SPATIAL


def build_transformer() -> LTXVideoTransformer3DModel:
    """A denoiser of about 2.2 M parameters; one token is one latent cell."""
    return LTXVideoTransformer3DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=36,
        cross_attention_dim=144,
        num_layers=6,
        caption_channels=128,
    )


def build_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """A two-layer encoder over the words of the grammar."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary,
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            relative_attention_num_buckets=32,
            relative_attention_max_distance=128,
        )
    )


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Flow matching with Euler steps and the pipeline's own sigmas, unshifted."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
