"""Weights files: one per component and type of number, shared by all shapes and workers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reel_bake import RECIPE
from reel_bake.cache import STAGING, locked, publish_file, sweep
from reel_bake.model import SOURCES, Model


def path_of(cache: Path, model: Model, component: str, dtype: str) -> Path:
    """Where a component's weights lie; the name holds a digest of what they come from."""
    source = f"{RECIPE}\n{component}\n{dtype}\n{model.component_digest(SOURCES[component])}\n"
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    return cache / "weights" / model.name / f"{component}-{dtype}-{digest}.safetensors"


def ensure(path: Path, module: nn.Module) -> Path:
    """Writes the weights of a module unless they are there already."""
    with locked(path.parent):
        sweep(path.parent)
        if not path.exists():
            staged = path.with_name(f"{STAGING}{path.name}")
            save_file(distinct(module), staged)
            publish_file(staged, path)
    return path


def distinct(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a tied one appears once, under the last of its names."""
    by_memory = {
        (tensor.data_ptr(), tensor.shape): (name, tensor)
        for name, tensor in module.state_dict().items()
    }
    return {name: tensor.detach().cpu().contiguous() for name, tensor in by_memory.values()}


def load(path: Path, names: list[str], device: str) -> Mapping[str, Tensor]:
    """The named weights, mapped from the file."""
    tensors = load_file(path, device=device)
    return {name: tensors[name] for name in names}
