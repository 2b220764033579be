"""A model's directory: its menu, its configurations and the digest of what it computes with."""

from __future__ import annotations

import functools
import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from reel_bake.cache import sha256
from reel_bake.events import BakeError

PIPELINES = ("LTXConditionPipeline",)
SOURCES = {
    "text_encoder": "text_encoder",
    "transformer": "transformer",
    "vae_decoder": "vae",
    "vae_encoder": "vae",
}
"""The directory of the model that each weights file comes from."""
EXTENSIONS = (".json", ".safetensors", ".model", ".txt")


@dataclass(frozen=True)
class Shape:
    """Width x height @ frames."""

    width: int
    height: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        try:
            width, rest = text.split("x")
            height, rest = rest.split("@")
            return cls(int(width), int(height), int(rest.removesuffix("f")))
        except ValueError:
            fix = "name it like 64x64@17f"
            raise BakeError(f"`{text}` is not a shape", fix) from None

    def __str__(self) -> str:
        return f"{self.width}x{self.height}@{self.frames}f"


@dataclass(frozen=True)
class Model:
    """A model in diffusers' directory format, with its `model.toml`."""

    directory: Path
    name: str
    pipeline: str
    shapes: tuple[str, ...]
    modes: tuple[str, ...]
    max_batch: int
    text_tokens: int
    extend_frames: int | None

    @classmethod
    def load(cls, directory: Path) -> Model:
        menu = _read_menu(directory / "model.toml")
        if menu["pipeline"] not in PIPELINES:
            fix = f"use one of {', '.join(PIPELINES)}"
            raise BakeError(f"pipeline {menu['pipeline']} cannot be baked", fix)
        return cls(
            directory=directory,
            name=menu["name"],
            pipeline=menu["pipeline"],
            shapes=tuple(menu["shapes"]),
            modes=tuple(menu["modes"]),
            max_batch=menu["max_batch"],
            text_tokens=menu["text_tokens"],
            extend_frames=menu.get("extend_frames"),
        )

    @functools.cached_property
    def digest(self) -> str:
        """As `reel_bundle::Model` has it: `model_index.json` and the files of the components."""
        return tree_digest(self.directory, _files(self.directory))

    def component_digest(self, component: str) -> str:
        """The digest of one component's directory."""
        directory = self.directory / component
        return tree_digest(directory, [path for path in directory.iterdir() if _counts(path)])

    def config(self, component: str, file: str = "config.json") -> dict:
        """A component's configuration, without what only says who wrote it."""
        path = self.directory / component / file
        try:
            config = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            fix = "the model must be a directory that diffusers' save_pretrained wrote"
            raise BakeError(f"cannot read {path}: {error}", fix) from error
        return {key: value for key, value in config.items() if not key.endswith("_version")}

    def component_class(self, component: str) -> tuple[str, str]:
        """The library and the class of a component."""
        index = json.loads((self.directory / "model_index.json").read_text())
        library, name = index[component]
        return library, name


def tree_digest(directory: Path, files: list[Path]) -> str:
    """A digest over names, sizes and contents."""
    named = sorted((path.relative_to(directory).as_posix(), path) for path in files)
    lines = (f"{name}\0{path.stat().st_size}\0{sha256(path)}\n" for name, path in named)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(directory: Path) -> list[Path]:
    folders = [path for path in directory.iterdir() if path.is_dir() and path.name[0] != "."]
    inner = [path for folder in folders for path in folder.iterdir() if _counts(path)]
    return [directory / "model_index.json", *inner]


def _counts(path: Path) -> bool:
    return path.suffix in EXTENSIONS and path.name[0] != "." and path.is_file()


def _read_menu(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BakeError(
            f"cannot read {path}: {error}", "see docs/bundles.md for model.toml"
        ) from error
