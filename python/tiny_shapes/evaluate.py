"""Generates videos with the diffusers pipeline in this process and judges them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from diffusers import LTXConditionPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image

from tiny_shapes.architecture import TEMPORAL, TEXT_TOKENS
from tiny_shapes.contact_sheet import draw_sheet
from tiny_shapes.judge import Verdict, judge
from tiny_shapes.prompts import FPS, MENU, Description, Shape, all_descriptions
from tiny_shapes.render import render_description

ATTRIBUTES = ("colour", "object", "direction", "background")
STEPS, GUIDANCE = 20, 2.0
"""The defaults of `model.toml`."""
EXTEND_FRAMES = 2 * TEMPORAL + 1
"""Frames of the earlier clip that `extend` is given: three latent frames."""


def generate(
    pipeline: LTXConditionPipeline,
    wanted: list[Description],
    shape: Shape,
    seeds: list[int],
    *,
    steps: int,
    guidance: float,
    condition: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Frames [F, H, W, 3] (uint8) for each description; `condition` [N, H, W, 3] leads all."""
    conditions = None
    if condition is not None:
        images = [Image.fromarray(frame) for frame in condition]
        single = len(images) == 1
        conditions = LTXVideoCondition(
            image=images[0] if single else None, video=None if single else images, frame_index=0
        )
    result = pipeline(
        conditions=conditions,
        prompt=[one.prompt for one in wanted],
        negative_prompt="",
        width=shape.width,
        height=shape.height,
        num_frames=shape.frames,
        frame_rate=FPS,
        num_inference_steps=steps,
        guidance_scale=guidance,
        image_cond_noise_scale=0.0,
        max_sequence_length=TEXT_TOKENS,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
    )
    return [(video * 255).round().astype(np.uint8) for video in result.frames]


def tally(results: list[dict]) -> dict[str, float]:
    """The share of videos in which each attribute is right, and all four."""
    table = {
        name: float(np.mean([result["agrees"][name] for result in results])) for name in ATTRIBUTES
    }
    table["all"] = float(np.mean([all(result["agrees"].values()) for result in results]))
    return table


def format_row(label: str, table: dict[str, float]) -> str:
    """One line of the table, in per cent."""
    return f"{label:24s}" + "".join(f" {name} {100 * table[name]:5.1f}" for name in table)


def result_of(wanted: Description, verdict: Verdict, seed: int) -> dict:
    """One video's line in the report."""
    return {
        "prompt": wanted.prompt,
        "seed": seed,
        "verdict": asdict(verdict),
        "agrees": verdict.agrees(wanted),
    }


def _batches(items: list, size: int) -> Iterator[list]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def evaluate_t2v(
    pipeline: LTXConditionPipeline,
    wanted: list[Description],
    shape: Shape,
    *,
    steps: int,
    guidance: float,
    seed: int,
    batch: int = 36,
) -> tuple[list[dict], list[np.ndarray]]:
    """Judged results and frames for every description, from text alone."""
    results, videos = [], []
    numbered = list(enumerate(wanted, start=seed))
    for part in _batches(numbered, batch):
        seeds = [at for at, _ in part]
        made = generate(
            pipeline, [one for _, one in part], shape, seeds, steps=steps, guidance=guidance
        )
        for (at, one), frames in zip(part, made, strict=True):
            results.append(result_of(one, judge(frames), at))
            videos.append(frames)
    return results, videos


def evaluate_conditioned(
    pipeline: LTXConditionPipeline,
    wanted: list[Description],
    shape: Shape,
    *,
    given: int,
    steps: int,
    guidance: float,
    seed: int,
) -> tuple[list[dict], list[np.ndarray]]:
    """The same with the first `given` frames of a perfect clip: 1 is i2v, more is extend.

    `first_frame_error` is the mean absolute difference from the given first frame (0..255), and
    `continues` says that no step is longer than twice the usual one.
    """
    results, videos = [], []
    for at, one in enumerate(wanted, start=seed):
        truth = render_description(one, shape, at)
        (frames,) = generate(
            pipeline, [one], shape, [at], steps=steps, guidance=guidance, condition=truth[:given]
        )
        verdict = judge(frames)
        result = result_of(one, verdict, at)
        difference = np.abs(frames[0].astype(float) - truth[0].astype(float))
        result["first_frame_error"] = float(difference.mean())
        result["continues"] = 0 < verdict.jump <= 2
        results.append(result)
        videos.append(frames)
    return results, videos


def main() -> None:
    """Prints the table, writes a report and contact sheets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/tiny-shapes"))
    parser.add_argument("--out", type=Path, required=True, help="folder of report and pictures")
    parser.add_argument("--shapes", nargs="+", default=[shape.key for shape in MENU])
    parser.add_argument("--modes", nargs="+", default=["t2v", "i2v", "extend"])
    parser.add_argument("--every", type=int, default=1, help="take each n-th of the 216 prompts")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pipeline = LTXConditionPipeline.from_pretrained(args.model)
    pipeline.set_progress_bar_config(disable=True)
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = all_descriptions()[:: args.every]
    settings = {"steps": args.steps, "guidance": args.guidance, "seed": args.seed}
    modes: dict[str, Callable] = {
        "t2v": lambda shape: evaluate_t2v(pipeline, wanted, shape, **settings),
        "i2v": lambda shape: evaluate_conditioned(pipeline, wanted, shape, given=1, **settings),
        "extend": lambda shape: evaluate_conditioned(
            pipeline, wanted, shape, given=EXTEND_FRAMES, **settings
        ),
    }
    report = {}
    for key in args.shapes:
        for mode in args.modes:
            began = time.monotonic()
            results, videos = modes[mode](Shape.parse(key))
            table = tally(results)
            if mode != "t2v":
                table["continues"] = float(np.mean([one["continues"] for one in results]))
            report[f"{mode} {key}"] = {"table": table, "videos": results}
            print(
                format_row(f"{mode} {key}", table)
                + f"  ({len(results)} videos, {time.monotonic() - began:.0f} s)",
                flush=True,
            )
            rows = [(one["prompt"], video) for one, video in zip(results, videos, strict=True)]
            draw_sheet(rows[:: max(1, len(rows) // 12)]).save(args.out / f"{mode}-{key}.png")
    (args.out / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
