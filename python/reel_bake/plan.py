"""What a bundle consists of: its numbers, its parts and the keys of their code."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKLLTXVideo,
    LTXConditionPipeline,
    LTXVideoTransformer3DModel,
)
from torch import Tensor, nn

from reel_bake import RECIPE, components, environment, parallel
from reel_bake.compiler import OPTIONS
from reel_bake.events import BakeError
from reel_bake.model import SOURCES, Model, Shape

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CANARY_FPS = 24
SEED = 20_260_401
"""Of the inputs that packages are verified with, and of the canary."""


@dataclass(frozen=True)
class Part:
    """One package: how to build its module, and what goes in."""

    role: str
    weights: str
    build: Callable[[], nn.Module]
    samples: Callable[[int, torch.Generator], tuple[Tensor, ...]]
    rows_max: int
    key: str

    def inputs(self, rows: int, device: str) -> tuple[Tensor, ...]:
        """Seeded inputs of that many rows."""
        return tuple(tensor.to(device) for tensor in self.samples(rows, generator()))


@dataclass(frozen=True)
class Plan:
    """Everything that decides a bundle."""

    model: Model
    shape: Shape
    device: str
    dtype: str

    @functools.cached_property
    def vae(self) -> AutoencoderKLLTXVideo:
        with torch.device("meta"):
            return AutoencoderKLLTXVideo.from_config(self.model.config("vae"))

    @functools.cached_property
    def environment(self) -> dict:
        describe = functools.partial(environment.describe, self.device)
        # In a child: asking a GPU starts CUDA, and a process that did that must not be forked.
        return parallel.run([("environment", describe)], 1)["environment"]

    @property
    def temporal_ratio(self) -> int:
        return self.vae.temporal_compression_ratio

    @property
    def spatial_ratio(self) -> int:
        return self.vae.spatial_compression_ratio

    @property
    def latent_frames(self) -> int:
        return (self.shape.frames - 1) // self.temporal_ratio + 1

    @property
    def latent_height(self) -> int:
        return self.shape.height // self.spatial_ratio

    @property
    def latent_width(self) -> int:
        return self.shape.width // self.spatial_ratio

    @property
    def tokens(self) -> int:
        return self.latent_frames * self.latent_height * self.latent_width

    @property
    def channels(self) -> int:
        return self.model.config("transformer")["in_channels"]

    @property
    def text_width(self) -> int:
        return self.model.config("transformer")["caption_channels"]

    @property
    def conditioning(self) -> dict[str, int]:
        """Given frames by mode; `extend` takes two latent frames and the first one by default."""
        return {"i2v": 1, "extend": self.model.extend_frames or 2 * self.temporal_ratio + 1}

    def parts(self) -> list[Part]:
        """The packages, those that take longest first."""
        encoders = [self._encoder(mode) for mode in ("extend", "i2v") if mode in self.model.modes]
        return [self._transformer(), self._decoder(), *encoders, self._text_encoder()]

    def check(self) -> None:
        """Refuses what the native engine does not reproduce."""
        transformer, vae = self.model.config("transformer"), self.model.config("vae")
        scheduler = self.model.config("scheduler", "scheduler_config.json")
        _refuse("transformer.patch_size", transformer["patch_size"], 1)
        _refuse("transformer.patch_size_t", transformer["patch_size_t"], 1)
        _refuse("vae.timestep_conditioning", vae["timestep_conditioning"], False)
        _refuse("vae.decoder_inject_noise", any(vae["decoder_inject_noise"]), False)
        for field in SCHEDULER_FLAGS:
            _refuse(f"scheduler.{field}", scheduler.get(field, False), False)
        self._check_shape()

    def _check_shape(self) -> None:
        spatial = max(32, self.spatial_ratio)
        if self.shape.width % spatial or self.shape.height % spatial:
            fix = f"use a width and a height divisible by {spatial} in model.toml"
            raise BakeError(f"{self.shape} does not fit the pipeline", fix)
        if (self.shape.frames - 1) % self.temporal_ratio:
            fix = f"use 1 plus a multiple of {self.temporal_ratio} frames in model.toml"
            raise BakeError(f"{self.shape} does not fit the autoencoder", fix)
        given = self.conditioning["extend"]
        fits = given <= self.shape.frames and (given - 1) % self.temporal_ratio == 0
        if "extend" in self.model.modes and not fits:
            fix = "set extend_frames in model.toml, or leave extend out of its modes"
            raise BakeError(f"{self.shape} cannot continue from {given} frames", fix)

    def coordinates(self, rows: int) -> Tensor:
        """Where each token lies: seconds, pixel row, pixel column, as the pipeline has it."""
        grid = (self.latent_frames, self.latent_height, self.latent_width)
        ids = LTXConditionPipeline._prepare_video_ids(rows, *grid)
        scaled = LTXConditionPipeline._scale_video_ids(
            ids, self.spatial_ratio, self.temporal_ratio, 0
        )
        scaled = scaled.float()
        scaled[:, 0] = scaled[:, 0] * (1.0 / CANARY_FPS)
        return scaled

    def _text_encoder(self) -> Part:
        tokens = self.model.text_tokens
        vocabulary = self.model.config("text_encoder")["vocab_size"]

        def inputs(rows: int, generator: torch.Generator) -> tuple[Tensor, ...]:
            ids = torch.randint(vocabulary, (rows, tokens), generator=generator)
            return self._cast(ids, torch.arange(tokens)[None] < tokens - tokens // 3)

        return self._part("text_encoder", "text_encoder", self._build_text_encoder, inputs)

    def _transformer(self) -> Part:
        frames, tokens = self.latent_frames, self.model.text_tokens

        def inputs(rows: int, generator: torch.Generator) -> tuple[Tensor, ...]:
            latents = torch.randn(rows, self.tokens, self.channels, generator=generator)
            embeddings = torch.randn(rows, tokens, self.text_width, generator=generator)
            length = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
            timesteps = torch.rand(rows, frames, generator=generator) * 1000
            timesteps[:, 0] = 0
            mask = torch.arange(tokens)[None] < length
            return self._cast(latents, embeddings, mask, timesteps, self.coordinates(rows))

        # Guidance takes two rows for each video.
        rows_max = 2 * self.model.max_batch
        return self._part("transformer", "transformer", self._build_transformer, inputs, rows_max)

    def _decoder(self) -> Part:
        size = (self.channels, self.latent_frames, self.latent_height, self.latent_width)

        def inputs(rows: int, generator: torch.Generator) -> tuple[Tensor, ...]:
            return self._cast(torch.randn(rows, *size, generator=generator))

        return self._part("vae_decoder", "vae_decoder", self._build_decoder, inputs)

    def _encoder(self, mode: str) -> Part:
        size = (3, self.conditioning[mode], self.shape.height, self.shape.width)

        def inputs(rows: int, generator: torch.Generator) -> tuple[Tensor, ...]:
            return self._cast(torch.rand(rows, *size, generator=generator) * 2 - 1)

        return self._part(f"vae_encoder_{mode}", "vae_encoder", self._build_encoder, inputs)

    def _part(
        self,
        role: str,
        weights: str,
        build: Callable[[], nn.Module],
        inputs: Callable[[int, torch.Generator], tuple[Tensor, ...]],
        rows_max: int = 1,
    ) -> Part:
        sample = inputs(1, generator())
        code: dict[str, Any] = {
            "recipe": RECIPE,
            "role": role,
            "config": self.model.config(SOURCES[weights]),
            "inputs": [[list(tensor.shape[1:]), str(tensor.dtype)] for tensor in sample],
            "frames": self.latent_frames if role == "transformer" else None,
            "rows_max": rows_max,
            "dtype": self.dtype,
            "device": self.device,
            "options": OPTIONS[self.device],
            "environment": self.environment,
            "libraries": [diffusers.__version__, transformers.__version__],
        }
        key = hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()
        return Part(role, weights, build, inputs, rows_max, key)

    def _cast(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Gives numbers that the model computes with its type; timesteps stay in full precision."""
        dtype = DTYPES[self.dtype]
        cast = [
            tensor.to(dtype) if tensor.ndim > 2 and tensor.is_floating_point() else tensor
            for tensor in tensors
        ]
        if len(cast) == TRANSFORMER_INPUTS:
            # So do coordinates.
            cast[-1] = tensors[-1]
        return tuple(cast)

    def _load(self, base: type, component: str) -> nn.Module:
        module = base.from_pretrained(self.model.directory / component, dtype=DTYPES[self.dtype])
        return module.eval().requires_grad_(False)

    def _build_text_encoder(self) -> nn.Module:
        library, name = self.model.component_class("text_encoder")
        _refuse("model_index.text_encoder", library, "transformers")
        encoder = self._load(getattr(transformers, name), "text_encoder")
        return components.TextEncoder(encoder).to(self.device)

    def _build_transformer(self) -> nn.Module:
        model = self._load(LTXVideoTransformer3DModel, "transformer")
        return components.Transformer(model, self.tokens // self.latent_frames).to(self.device)

    def _build_decoder(self) -> nn.Module:
        return components.VaeDecoder(self._load(AutoencoderKLLTXVideo, "vae")).to(self.device)

    def _build_encoder(self) -> nn.Module:
        return components.VaeEncoder(self._load(AutoencoderKLLTXVideo, "vae")).to(self.device)


SCHEDULER_FLAGS = (
    "use_dynamic_shifting",
    "invert_sigmas",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "stochastic_sampling",
)
TRANSFORMER_INPUTS = 5


def generator() -> torch.Generator:
    """The generator of verification inputs, always in the same state."""
    return torch.Generator().manual_seed(SEED)


def _refuse(field: str, found: Any, supported: Any) -> None:
    if found != supported:
        fix = f"use a model with {field} = {supported}"
        raise BakeError(f"{field} = {found} cannot be served natively", fix)
