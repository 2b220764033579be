"""The engine's frames are those of diffusers' pipeline: 99.9 % of values at most 1/255 apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import LTXConditionPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "tiny-shapes"
CACHE = Path(os.environ.get("REEL_CACHE_DIR", Path.home() / ".cache" / "reel"))
SHAPES = ("64x64@17f", "96x64@17f")
PROMPT = "a red circle moving right on a white background"
GIVEN_FRAMES = {"t2v": 0, "i2v": 1, "extend": 9}
CLOSE = 0.999


@pytest.fixture(scope="module")
def generate() -> Path:
    """The engine's example program."""
    build = ["cargo", "build", "--quiet", "-p", "reel-engine", "--example", "generate"]
    subprocess.run(build, cwd=ROOT, check=True)
    return ROOT / "target" / "debug" / "examples" / "generate"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model: training may replace its weights at any time."""
    return Path(shutil.copytree(MODEL, tmp_path_factory.mktemp("model") / MODEL.name))


@pytest.fixture(scope="module")
def pipeline(model: Path) -> LTXConditionPipeline:
    return LTXConditionPipeline.from_pretrained(model)


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest, model: Path) -> str:
    """A shape with its bundle baked."""
    bake = ["-m", "reel_bake", "--model", model, "--cache", CACHE, "--shape", request.param]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    subprocess.run([sys.executable, *bake], env=environment, check=True, stdout=subprocess.DEVNULL)
    return request.param


@pytest.mark.parametrize("mode", GIVEN_FRAMES)
def test_frames_are_those_of_the_pipeline(
    mode: str, shape: str, generate: Path, pipeline: LTXConditionPipeline, tmp_path: Path
) -> None:
    given = moving_square(shape)[: GIVEN_FRAMES[mode]]
    options = {"steps": 8, "guidance": 3.0, "negative_prompt": "a blue square", "fps": 8, "seed": 7}
    native = run_native(generate, shape, given, tmp_path, **options)
    assert_close(native, run_pipeline(pipeline, shape, given, **options))


def test_frames_without_guidance_are_those_of_the_pipeline(
    shape: str, generate: Path, pipeline: LTXConditionPipeline, tmp_path: Path
) -> None:
    given = moving_square(shape)[:0]
    options = {"steps": 5, "guidance": 1.0, "negative_prompt": "", "fps": 25, "seed": 2**40 + 1}
    native = run_native(generate, shape, given, tmp_path, **options)
    assert_close(native, run_pipeline(pipeline, shape, given, **options))


def test_a_batch_changes_no_video(shape: str, generate: Path, tmp_path: Path) -> None:
    given = moving_square(shape)[:0]
    options = {"steps": 4, "guidance": 3.0, "negative_prompt": "", "fps": 8, "seed": 3}
    alone = run_native(generate, shape, given, tmp_path, **options)
    assert_close(run_native(generate, shape, given, tmp_path, **options, batch=3), alone)


def size(shape: str) -> tuple[int, int, int]:
    """Width, height and frames."""
    width, rest = shape.split("x")
    height, frames = rest.removesuffix("f").split("@")
    return int(width), int(height), int(frames)


def moving_square(shape: str) -> np.ndarray:
    """Frames of a red square that moves right: `[frames, height, width, 3]`."""
    width, height, frames = size(shape)
    video = np.full((frames, height, width, 3), 255, dtype=np.uint8)
    for at, frame in enumerate(video):
        frame[20:36, 10 + 2 * at : 26 + 2 * at] = (220, 30, 40)
    return video


def run_native(
    generate: Path, shape: str, given: np.ndarray, folder: Path, **options: object
) -> np.ndarray:
    """The engine's frames."""
    width, height, frames = size(shape)
    bundle = CACHE / "per-shape" / "tiny-shapes" / shape / "current"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    if len(given):
        (folder / "given.rgb").write_bytes(given.tobytes())
        flags.append(f"--given={folder / 'given.rgb'}")
    out = folder / "frames.rgb"
    command = [
        generate,
        f"--cache={CACHE}",
        f"--bundle={bundle}",
        f"--prompt={PROMPT}",
        f"--out={out}",
    ]
    # Threads that wait give way, so that a busy machine does not slow the test down.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    subprocess.run([*command, *flags], check=True, env=environment)
    return np.fromfile(out, dtype=np.uint8).reshape(frames, height, width, 3)


def run_pipeline(
    pipeline: LTXConditionPipeline,
    shape: str,
    given: np.ndarray,
    *,
    steps: int,
    guidance: float,
    negative_prompt: str,
    fps: int,
    seed: int,
) -> np.ndarray:
    """The reference's frames."""
    width, height, frames = size(shape)
    video = pipeline(
        conditions=condition(given),
        prompt=PROMPT,
        negative_prompt=negative_prompt,
        width=width,
        height=height,
        num_frames=frames,
        frame_rate=fps,
        num_inference_steps=steps,
        guidance_scale=guidance,
        image_cond_noise_scale=0.0,
        generator=torch.Generator().manual_seed(seed),
        max_sequence_length=32,
        output_type="np",
    ).frames[0]
    return (video * 255).round().astype(np.uint8)


def condition(given: np.ndarray) -> LTXVideoCondition | None:
    images = [PIL.Image.fromarray(frame) for frame in given]
    if not images:
        return None
    return (
        LTXVideoCondition(image=images[0]) if len(images) == 1 else LTXVideoCondition(video=images)
    )


def assert_close(native: np.ndarray, reference: np.ndarray) -> None:
    apart = np.abs(native.astype(np.int16) - reference.astype(np.int16))
    share = (apart <= 1).mean()
    assert share >= CLOSE, f"{share:.4%} of values within 1/255, largest difference {apart.max()}"
