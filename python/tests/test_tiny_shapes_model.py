"""The committed weights load in the stock pipeline and generate in all three modes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LTXConditionPipeline
from tiny_shapes import checkpoint
from tiny_shapes.architecture import LATENT_CHANNELS, LOG_VARIANCE, SPATIAL, TEMPORAL
from tiny_shapes.evaluate import EXTEND_FRAMES, generate
from tiny_shapes.muon import Muon
from tiny_shapes.prompts import MENU, Description, Shape
from tiny_shapes.render import render_description

MODEL = Path(__file__).parents[2] / "models" / "tiny-shapes"
WANTED = Description("red", "circle", "right", "black")
BUDGET = 24e6
"""Bytes of the whole directory."""

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pipeline() -> LTXConditionPipeline:
    loaded = LTXConditionPipeline.from_pretrained(MODEL)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_the_directory_is_small_and_declares_its_menu() -> None:
    size = sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file())
    assert size <= BUDGET
    card = tomllib.loads((MODEL / "model.toml").read_text())
    assert [Shape.parse(key) for key in card["shapes"]] == list(MENU)
    assert card["pipeline"] == "LTXConditionPipeline"


def test_components_compress_as_the_documentation_says(pipeline: LTXConditionPipeline) -> None:
    assert pipeline.vae.spatial_compression_ratio == SPATIAL
    assert pipeline.vae.temporal_compression_ratio == TEMPORAL
    assert pipeline.transformer.config.in_channels == LATENT_CHANNELS


@torch.no_grad()
def test_the_encoder_is_deterministic(pipeline: LTXConditionPipeline) -> None:
    posterior = pipeline.vae.encode(torch.rand(1, 3, 9, 64, 64)).latent_dist
    assert torch.all(posterior.logvar == LOG_VARIANCE)


@torch.no_grad()
def test_a_first_frame_encodes_alike_alone_and_in_its_clip(pipeline: LTXConditionPipeline) -> None:
    """Image conditioning relies on the encoder being causal."""
    frames = render_description(WANTED, MENU[0], 1)
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    whole = pipeline.vae.encode(clip).latent_dist.mode()[:, :, :1]
    alone = pipeline.vae.encode(clip[:, :, :1]).latent_dist.mode()
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", [0, 1, EXTEND_FRAMES], ids=["t2v", "i2v", "extend"])
@pytest.mark.parametrize("shape", MENU, ids=lambda shape: shape.key)
def test_it_generates_in_every_mode(
    pipeline: LTXConditionPipeline, shape: Shape, given: int
) -> None:
    condition = render_description(WANTED, shape, 1)[:given] if given else None
    (frames,) = generate(pipeline, [WANTED], shape, [0], steps=2, guidance=3.0, condition=condition)
    assert frames.shape == (shape.frames, shape.height, shape.width, 3)
    assert frames.dtype == np.uint8


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 3))
    weight.grad = torch.randn(4, 3)
    optimizer = Muon([weight], lr=0.1)
    optimizer.step()
    state = {"step": 3, "optimizer": optimizer.state_dict(), "weights": {"w": weight.detach()}}
    checkpoint.save(tmp_path / "run.safetensors", state)
    loaded = checkpoint.load(tmp_path / "run.safetensors")
    assert loaded["step"] == 3
    assert torch.equal(loaded["weights"]["w"], weight)
    again = Muon([weight], lr=0.1)
    again.load_state_dict(loaded["optimizer"])
    momentum = again.state[weight]["momentum"]
    assert torch.equal(momentum, optimizer.state[weight]["momentum"])
