"""Checkpoints of training runs: safetensors for tensors, JSON for the rest, swapped atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def _flatten(tree: object, prefix: str, tensors: dict[str, torch.Tensor]) -> object:
    """Moves the tensors of a nested state into `tensors`, leaving their names in place."""
    if isinstance(tree, torch.Tensor):
        tensors[prefix] = tree.detach().clone().contiguous()
        return {"tensor": prefix}
    if isinstance(tree, dict):
        return {
            "dict": [
                [key, _flatten(value, f"{prefix}/{key}", tensors)] for key, value in tree.items()
            ]
        }
    if isinstance(tree, (list, tuple)):
        return {
            "list": [_flatten(value, f"{prefix}/{at}", tensors) for at, value in enumerate(tree)]
        }
    return {"plain": tree}


def _restore(tree: dict, tensors: dict[str, torch.Tensor]) -> object:
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _restore(inner, tensors) for key, inner in value}
    if kind == "list":
        return [_restore(inner, tensors) for inner in value]
    return value


def save(path: Path, state: dict) -> None:
    """Writes `path` whole or not at all, so that an interrupted run can always resume."""
    tensors: dict[str, torch.Tensor] = {}
    tree = _flatten(state, "state", tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"tree": json.dumps(tree)})
    os.replace(partial, path)


def load(path: Path) -> dict:
    """Reads what `save` wrote."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return _restore(json.loads(header["__metadata__"]["tree"]), load_file(path))
