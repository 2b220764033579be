"""The parts of a pipeline as modules that can be exported: plain tensors in, one plain tensor out.

Layouts (b rows, s tokens of f latent frames, t text tokens):

- `text_encoder`: ids i64 `[1, t]`, mask bool `[1, t]` -> embeddings `[1, t, width]`
- `transformer`: latents `[b, s, c]`, embeddings `[b, t, width]`, mask bool `[b, t]`,
  timesteps f32 `[b, f]`, coordinates f32 `[b, 3, s]` (seconds, pixel row, pixel column)
  -> velocity `[b, s, c]`
- `vae_decoder`: latents `[1, c, f, h, w]` -> video `[1, 3, frames, height, width]` in -1..1
- `vae_encoder_*`: video `[1, 3, n, height, width]` in -1..1
  -> mean and log variance `[1, 2c, f', h, w]`
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from diffusers.models.transformers.transformer_ltx import LTXVideoRotaryPosEmbed
from torch import Tensor, nn
from torch.nn import functional


class TextEncoder(nn.Module):
    """The text encoder's last hidden state."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(ids, attention_mask=mask)[0]


class PerFrameTime(nn.Module):
    """A time embedding that is computed once per latent frame and handed to each of its tokens.

    All tokens of a latent frame share their timestep, so embedding each token for itself, as the
    stock model does, repeats the same products.
    """

    def __init__(self, embed: nn.Module, tokens_per_frame: int) -> None:
        super().__init__()
        self.embed = embed
        self.tokens_per_frame = tokens_per_frame

    def forward(
        self, timestep: Tensor, batch_size: int, hidden_dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        both = self.embed(timestep, batch_size=batch_size, hidden_dtype=hidden_dtype)
        modulation, embedded = (self._spread(part) for part in both)
        return modulation, embedded

    def _spread(self, part: Tensor) -> Tensor:
        return part.unsqueeze(1).expand(-1, self.tokens_per_frame, -1).flatten(0, 1)


class FixedRope(nn.Module):
    """Rotary embeddings whose frequencies are numbers, not a computation.

    The highest frequency is 15,708: if compiled code rounds the power that it comes from
    differently than eager execution does, the angle is off by a thousandth.
    """

    frequencies: Tensor

    def __init__(self, rope: LTXVideoRotaryPosEmbed) -> None:
        super().__init__()
        self.bases = (rope.base_num_frames, rope.base_height, rope.base_width)
        self.padding = rope.dim % (2 * len(self.bases))
        exponents = torch.linspace(0.0, 1.0, rope.dim // 6, dtype=torch.float32)
        frequencies = rope.theta**exponents * math.pi / 2.0
        self.register_buffer("frequencies", frequencies)

    def forward(
        self,
        hidden_states: Tensor,
        num_frames: None,
        height: None,
        width: None,
        rope_interpolation_scale: None,
        video_coords: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[b, s, dim]`; all but the coordinates is for other callers."""
        positions = [video_coords[:, axis] / base for axis, base in enumerate(self.bases)]
        grid = torch.stack(positions, dim=-1).unsqueeze(-1)
        angles = (self.frequencies * (grid * 2 - 1)).transpose(-1, -2).flatten(2)
        cosines = angles.cos().repeat_interleave(2, dim=-1)
        sines = angles.sin().repeat_interleave(2, dim=-1)
        # What does not divide by the axes is not rotated; it comes first.
        left = (self.padding, 0)
        return functional.pad(cosines, left, value=1.0), functional.pad(sines, left, value=0.0)


class Transformer(nn.Module):
    """The denoiser, with one timestep per latent frame."""

    def __init__(self, transformer: LTXVideoTransformer3DModel, tokens_per_frame: int) -> None:
        super().__init__()
        transformer.rope = FixedRope(transformer.rope)
        transformer.time_embed = PerFrameTime(transformer.time_embed, tokens_per_frame)
        self.transformer = transformer

    def forward(
        self,
        latents: Tensor,
        embeddings: Tensor,
        mask: Tensor,
        timesteps: Tensor,
        coordinates: Tensor,
    ) -> Tensor:
        return self.transformer(
            hidden_states=latents,
            encoder_hidden_states=embeddings,
            timestep=timesteps,
            encoder_attention_mask=mask,
            video_coords=coordinates,
            return_dict=False,
        )[0]


class VaeDecoder(nn.Module):
    """Latents, already denormalised, to video."""

    def __init__(self, vae: AutoencoderKLLTXVideo) -> None:
        super().__init__()
        self.decoder = vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoder(latents, None)


class VaeEncoder(nn.Module):
    """Video to the moments of its latents' distribution."""

    def __init__(self, vae: AutoencoderKLLTXVideo) -> None:
        super().__init__()
        self.encoder = vae.encoder

    def forward(self, video: Tensor) -> Tensor:
        return self.encoder(video)
