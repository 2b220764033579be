"""One bake: what is there is reused, the rest compiled, all of it verified, then published."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import cpu_vec_isa
from transformers import AutoTokenizer

from reel_bake import canary, compiler, manifest, parallel, weights
from reel_bake.cache import entry, publish_bundle, sha256
from reel_bake.events import BakeError, Events
from reel_bake.model import Model, Shape
from reel_bake.plan import Part, Plan

VERIFIED_ROWS = (1, 2, 5)


class Bake:
    """One bake of a model at a shape into a staging directory."""

    def __init__(self, plan: Plan, cache: Path, staging: Path, jobs: int, events: Events) -> None:
        self.plan = plan
        self.cache = cache
        self.staging = staging
        self.jobs = jobs
        self.events = events
        # Named before any child starts, so that all of them mean the same files.
        self.weights = {
            part.weights: weights.path_of(cache, plan.model, part.weights, plan.dtype)
            for part in plan.parts()
        }
        (staging / "aot").mkdir()

    def run(self) -> dict[str, Any]:
        """Bakes every part and writes the manifest; returns the components by role."""
        parts = self.plan.parts()
        tasks = [(part.role, functools.partial(self._part, part)) for part in parts]
        components = parallel.run(tasks, self.jobs)
        finish = functools.partial(self._finish, parts, components)
        parallel.run([("manifest", finish)], 1)
        self._check_unchanged()
        return components

    def _check_unchanged(self) -> None:
        """Parts of two versions of a model do not make a bundle."""
        if Model.load(self.plan.model.directory).digest != self.plan.model.digest:
            raise BakeError(f"{self.plan.model.directory} changed during the bake", "bake again")

    def _part(self, part: Part) -> dict[str, Any]:
        """Bakes one part, in a child of its own."""
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // self.jobs))
        torch.backends.cudnn.allow_tf32 = False
        self.events.component(part.role, "loading", 0.0)
        module = part.build()
        stored = weights.ensure(self.weights[part.weights], module)
        package = self._package(part)
        reused = self._reuse(part, package)
        if not reused:
            self._compile(part, module, package)
        self.events.component(part.role, "verifying", 0.9)
        error = self._verify(part, module, package)
        self.events.component(part.role, "reused" if reused else "compiled", 1.0)
        return {
            "package": entry(package),
            "weights": entry(stored),
            "key": part.key,
            "max_abs_error": error,
        }

    def _compile(self, part: Part, module: nn.Module, package: Path) -> None:
        self.events.component(part.role, "compiling", 0.1)
        inputs = part.inputs(min(part.rows_max, 4), self.plan.device)
        compiler.compile_package(module, inputs, part.rows_max, self.plan.device, package)

    def _verify(self, part: Part, module: nn.Module, package: Path) -> float:
        rows = [count for count in VERIFIED_ROWS if count <= part.rows_max]
        batches = [part.inputs(count, self.plan.device) for count in rows]
        error = compiler.difference(self._open(part, package), module, batches)
        compiler.check(part.role, error, self.plan.dtype)
        return error

    def _open(self, part: Part, package: Path) -> Callable[..., Tensor]:
        opened = compiler.load_package(package)
        path = self.weights[part.weights]
        compiler.bind(opened, lambda names: weights.load(path, names, self.plan.device))
        return opened

    def _reuse(self, part: Part, package: Path) -> bool:
        """Links the package of an earlier bundle whose code has the same key."""
        for bundle in (self.cache / "per-shape" / self.plan.model.name).glob("*/*"):
            found = (manifest.read(bundle) or {}).get("components", {}).get(part.role)
            if found and found["key"] == part.key and _intact(bundle, found["package"]):
                _link(bundle / "aot" / found["package"]["file"], package)
                return True
        return False

    def _finish(self, parts: list[Part], components: dict[str, Any]) -> None:
        """Computes the canary and writes the manifest and the tokenizer."""
        tokenizer = AutoTokenizer.from_pretrained(self.plan.model.directory / "tokenizer")
        tokenizer_file = self.staging / "tokenizer.json"
        shutil.copyfile(self.plan.model.directory / "tokenizer" / "tokenizer.json", tokenizer_file)
        packages = {part.role: self._open(part, self._package(part)) for part in parts}
        pad = tokenizer.pad_token_id
        mean, std = _normalisation(self.plan.model)
        document = {
            **manifest.identity(self.plan),
            "components": components,
            "latent": manifest.latent(self.plan, mean, std),
            "text": manifest.text(self.plan, pad, tokenizer.pad_token, entry(tokenizer_file)),
            "scheduler": manifest.scheduler(self.plan),
            "canary": canary.compute(self.plan, packages, pad),
        }
        (self.staging / "manifest.json").write_text(json.dumps(document, indent=1) + "\n")

    def _package(self, part: Part) -> Path:
        return self.staging / "aot" / f"{part.role}.pt2"


def run(
    model: Model,
    shape: Shape,
    cache: Path,
    staging: Path,
    device: str,
    dtype: str,
    jobs: int,
    events: Events,
) -> None:
    """Bakes one shape unless its current bundle is already what would come out."""
    # Children are forked: a pool of threads must not exist before that.
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    started = time.monotonic()
    plan = Plan(model, shape, device, dtype)
    plan.check()
    # Read now: it says which version of the model all that follows is about.
    events.emit("model", digest=model.digest)
    current = staging.parent / "current"
    if manifest.is_current(plan, current, cache):
        bundle = current.resolve()
        events.emit("done", bundle_id=bundle.name, path=str(bundle), unchanged=True, seconds=0.0)
        return
    _warm_up()
    events.emit("start", components=[part.role for part in plan.parts()])
    Bake(plan, cache, staging, jobs, events).run()
    _drop_caches(staging)
    bundle = publish_bundle(staging, staging.parent)
    seconds = round(time.monotonic() - started, 1)
    events.emit("done", bundle_id=bundle.name, path=str(bundle), unchanged=False, seconds=seconds)


def _warm_up() -> None:
    """What every part would do for itself, done once before children are forked."""
    importlib.import_module("torch._inductor.compile_fx")
    cpu_vec_isa.pick_vec_isa()


def _intact(bundle: Path, package: dict[str, Any]) -> bool:
    path = bundle / "aot" / package["file"]
    return path.is_file() and sha256(path) == package["sha256"]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Some file systems have no hard links.
        shutil.copyfile(source, target)


def _normalisation(model: Model) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the latent channels: buffers of the autoencoder."""
    from safetensors import safe_open

    for path in sorted((model.directory / "vae").glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if "latents_mean" in set(file.keys()):
                return tuple(
                    file.get_tensor(name).float().tolist()
                    for name in ("latents_mean", "latents_std")
                )
    raise BakeError(
        "the autoencoder has no latents_mean", "add latents_mean and latents_std to its weights"
    )


def _drop_caches(staging: Path) -> None:
    """Packages hold everything that they need; the compiler's caches served this bake alone."""
    for name in ("torchinductor", "triton"):
        shutil.rmtree(staging / name, ignore_errors=True)
