"""A Python worker as the field writes them: diffusers and torch.compile, one shape for its life.

Prints one line of JSON: seconds from process start to READY, seconds of ten videos, milliseconds
of a step.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

PROMPT = "a red circle moving right on a black background"


def process_age_s() -> float:
    """Seconds since this process was started, imports included (proc_pid_stat(5), field 22)."""
    started = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - started / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Loads, generates ten videos, reports."""
    args = arguments()
    import torch
    from diffusers import LTXConditionPipeline

    torch.set_num_threads(args.threads)
    pipeline = LTXConditionPipeline.from_pretrained(args.model, local_files_only=True)
    pipeline.to(args.device)
    pipeline.set_progress_bar_config(disable=True)
    if args.mode == "compile":
        pipeline.transformer = torch.compile(pipeline.transformer)
        pipeline.vae.decode = torch.compile(pipeline.vae.decode)
    ready_s = process_age_s()
    clock = StepClock()
    videos_s = [generate(pipeline, args, seed, clock) for seed in range(10)]
    json.dump({"ready_s": ready_s, "videos_s": videos_s, "step_ms": clock.median_ms()}, sys.stdout)
    print()


class StepClock:
    """Times between the ends of steps; the first video, which compiles, does not count."""

    def __init__(self) -> None:
        self.last = 0.0
        self.times: list[float] = []
        self.counting = False

    def tick(self, _pipeline: object, step: int, _timestep: object, kwargs: dict) -> dict:
        """The pipeline's callback at the end of each step."""
        now = time.perf_counter()
        if self.counting and step > 0:
            self.times.append(now - self.last)
        self.last = now
        return kwargs

    def median_ms(self) -> float:
        """The median step."""
        return sorted(self.times)[len(self.times) // 2] * 1e3


def generate(pipeline, args: argparse.Namespace, seed: int, clock: StepClock) -> float:
    """One video; its wall time in seconds."""
    import torch

    clock.counting = seed > 0
    begun = time.perf_counter()
    pipeline(
        prompt=PROMPT,
        width=args.width,
        height=args.height,
        num_frames=args.frames,
        frame_rate=args.fps,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        image_cond_noise_scale=0.0,
        max_sequence_length=args.text_tokens,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",  # on the CPU: the device has finished when it is there
        callback_on_step_end=clock.tick,
    )
    return time.perf_counter() - begun


def arguments() -> argparse.Namespace:
    """The command line, with the model's own defaults."""
    import tomllib

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=("compile", "eager"), required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--shape", required=True, help="like 64x64@17f")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    card = tomllib.loads((args.model / "model.toml").read_text())
    size, frames = args.shape.removesuffix("f").split("@")
    args.width, args.height = (int(side) for side in size.split("x"))
    args.frames = int(frames)
    args.fps = card["defaults"]["fps"]
    args.steps = card["defaults"]["num_inference_steps"]
    args.guidance = card["defaults"]["guidance_scale"]
    args.text_tokens = card["text_tokens"]
    return args


if __name__ == "__main__":
    main()
