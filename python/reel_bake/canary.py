"""A seeded run through every package, reduced to one number that a worker reproduces.

The engine's `canary` module computes the same: embeddings of a prompt of padding, one step from
noise at timestep 500, its decoded video, and the moments of that video's first frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from reel_bake.plan import DTYPES, SEED, Plan, generator

TIMESTEP = 500.0
Packages = Mapping[str, Callable[..., Tensor]]


def compute(plan: Plan, packages: Packages, pad_id: int) -> dict:
    """The canary as a manifest names it."""
    embeddings, mask = _embeddings(plan, packages, pad_id)
    velocity = _step(plan, packages, embeddings, mask)
    grid = (plan.latent_frames, plan.latent_height, plan.latent_width)
    # Packages take contiguous tensors only, and do not look.
    latents = velocity.transpose(1, 2).contiguous().view(1, plan.channels, *grid)
    video = packages["vae_decoder"](latents)
    means = [
        _encoded_mean(plan, packages, mode, video)
        for mode in ("i2v", "extend")
        if mode in plan.model.modes
    ]
    value = sum(_size(tensor) for tensor in (velocity, video, *means))
    return {"seed": SEED, "value": float(torch.tensor(value, dtype=torch.float32))}


def _embeddings(plan: Plan, packages: Packages, pad_id: int) -> tuple[Tensor, Tensor]:
    ids = torch.full((1, plan.model.text_tokens), pad_id, device=plan.device)
    mask = torch.ones_like(ids, dtype=torch.bool)
    return packages["text_encoder"](ids, mask), mask


def _step(plan: Plan, packages: Packages, embeddings: Tensor, mask: Tensor) -> Tensor:
    noise = torch.randn(1, plan.tokens, plan.channels, generator=generator())
    latents = noise.to(plan.device, DTYPES[plan.dtype])
    timesteps = torch.full((1, plan.latent_frames), TIMESTEP, device=plan.device)
    coordinates = plan.coordinates(1).to(plan.device)
    return packages["transformer"](latents, embeddings, mask, timesteps, coordinates)


def _encoded_mean(plan: Plan, packages: Packages, mode: str, video: Tensor) -> Tensor:
    given = video[:, :, : plan.conditioning[mode]].contiguous()
    return packages[f"vae_encoder_{mode}"](given).chunk(2, dim=1)[0]


def _size(tensor: Tensor) -> float:
    return tensor.double().abs().mean().item()
