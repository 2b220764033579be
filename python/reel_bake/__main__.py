"""`python -m reel_bake`: bakes one shape and reports events on standard output."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from reel_bake import cache, lifeline
from reel_bake.events import BakeError, Events
from reel_bake.model import Model, Shape


def main() -> int:
    """Bakes, and says what went wrong if it did."""
    args = _arguments()
    if args.die_with:
        lifeline.die_with(args.die_with)
    os.nice(args.nice)
    events = Events.on_stdout()
    try:
        _bake(args, events)
    except BakeError as error:
        events.error(error)
        return 1
    return 0


def _bake(args: argparse.Namespace, events: Events) -> None:
    model, shape = Model.load(args.model), Shape.parse(args.shape)
    if str(shape) not in model.shapes:
        fix = f"use one of {', '.join(model.shapes)}, or add it to {args.model / 'model.toml'}"
        raise BakeError(f"{shape} is not on the menu of {model.name}", fix)
    shape_dir = args.cache.absolute() / "per-shape" / model.name / str(shape)
    with cache.locked(shape_dir):
        cache.sweep(shape_dir)
        with cache.staging(shape_dir) as staging:
            _set_environment(staging)
            # Only now: libraries read the environment when they are loaded.
            from reel_bake import bake

            bake.run(
                model,
                shape,
                args.cache.absolute(),
                staging,
                args.device,
                args.dtype,
                args.jobs,
                events,
            )


def _set_environment(staging: Path) -> None:
    """What torch, triton and OpenMP take from the environment."""
    # Cache keys of the compiler depend on what was compiled before, so no two bakes share a cache.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(staging / "torchinductor")
    os.environ["TRITON_CACHE_DIR"] = str(staging / "triton")
    # The kernel says what the CPU can do; to try it out costs seconds for every part.
    os.environ["TORCHINDUCTOR_VEC_ISA_OK"] = "1"
    # Looking for GPUs must not start CUDA: children that are forked could not use it any more.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    # Threads that wait for each other by spinning take the cores from those that they wait for.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ["HF_HUB_OFFLINE"] = "1"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="reel_bake", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's directory")
    parser.add_argument("--cache", type=Path, required=True, help="the cache's directory")
    parser.add_argument("--shape", required=True, help="one of the menu's shapes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="parts at a time"
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="how much to yield to others, see nice(2)"
    )
    parser.add_argument("--die-with", type=int, default=0, help="end when this parent process ends")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
