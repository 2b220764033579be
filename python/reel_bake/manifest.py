"""The manifest of a bundle, and whether a published one is what a plan would bake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reel_bake import RECIPE, SCHEMA
from reel_bake.plan import Plan

PER_BAKE = ("components", "canary", "text", "latent", "scheduler")
"""Fields that follow from the others and from the model's digest."""


def identity(plan: Plan) -> dict[str, Any]:
    """The fields that decide what a bundle is."""
    return {
        "schema": SCHEMA,
        "recipe": RECIPE,
        "model": plan.model.name,
        "model_digest": plan.model.digest,
        "pipeline": plan.model.pipeline,
        "shape": str(plan.shape),
        "modes": list(plan.model.modes),
        "max_batch": plan.model.max_batch,
        "dtype": plan.dtype,
        "device": plan.device,
        "conditioning": plan.conditioning,
        "environment": plan.environment,
    }


def text(plan: Plan, pad_id: int, pad_token: str, tokenizer: dict) -> dict[str, Any]:
    """The text part."""
    return {
        "tokens": plan.model.text_tokens,
        "width": plan.text_width,
        "pad_id": pad_id,
        "pad_token": pad_token,
        "tokenizer": tokenizer,
    }


def latent(plan: Plan, mean: list[float], std: list[float]) -> dict[str, Any]:
    """The latent space."""
    return {
        "channels": plan.channels,
        "frames": plan.latent_frames,
        "height": plan.latent_height,
        "width": plan.latent_width,
        "temporal_ratio": plan.temporal_ratio,
        "spatial_ratio": plan.spatial_ratio,
        "mean": mean,
        "std": std,
        "scaling_factor": plan.model.config("vae")["scaling_factor"],
    }


def scheduler(plan: Plan) -> dict[str, Any]:
    """The values of the scheduler that decide its steps."""
    config = plan.model.config("scheduler", "scheduler_config.json")
    return {
        "num_train_timesteps": config["num_train_timesteps"],
        "shift": config["shift"],
        "shift_terminal": config["shift_terminal"],
    }


def read(bundle: Path) -> dict[str, Any] | None:
    """A published manifest, or nothing when there is none that can be read."""
    try:
        return json.loads((bundle / "manifest.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None


def is_current(plan: Plan, bundle: Path, cache: Path) -> bool:
    """Whether a published bundle is what this plan would bake, with all its files."""
    found = read(bundle)
    if found is None or any(found.get(field) != value for field, value in identity(plan).items()):
        return False
    keys = {part.role: part.key for part in plan.parts()}
    components = found["components"]
    if {role: component["key"] for role, component in components.items()} != keys:
        return False
    if found["text"]["tokens"] != plan.model.text_tokens:
        return False
    return all(
        _complete(component, bundle, cache / "weights" / plan.model.name)
        for component in components.values()
    )


def _complete(component: dict, bundle: Path, weights: Path) -> bool:
    files = ((bundle / "aot", component["package"]), (weights, component["weights"]))
    return all(
        path.is_file() and path.stat().st_size == entry["bytes"]
        for path, entry in ((directory / entry["file"], entry) for directory, entry in files)
    )
