"""The judge is right about perfect clips and does not accept wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_shapes.judge import judge
from tiny_shapes.prompts import MENU, Description, Shape, all_descriptions
from tiny_shapes.render import render_description

# Threads that wait for each other on a busy machine make this fifty times slower.
torch.set_num_threads(1)

RED = Description("red", "circle", "right", "black")
SQUARE = Shape(64, 64, 17)


@pytest.mark.parametrize("shape", MENU, ids=lambda shape: shape.key)
def test_every_rendered_prompt_is_named_right(shape: Shape) -> None:
    for seed, wanted in enumerate(all_descriptions()):
        verdict = judge(render_description(wanted, shape, seed))
        assert all(verdict.agrees(wanted).values()), (wanted, verdict)
        assert verdict.jump < 1.5


def test_a_prompt_survives_its_own_sentence() -> None:
    for wanted in all_descriptions():
        assert Description.parse(wanted.prompt) == wanted


def test_a_still_clip_has_no_direction() -> None:
    frames = render_description(RED, SQUARE, 1)
    verdict = judge(np.repeat(frames[:1], 17, axis=0))
    assert verdict.direction is None
    # Nothing tells a still object from a picture on the wall, but it must not pass as moving.
    assert not all(verdict.agrees(RED).values())


def test_a_reversed_clip_moves_the_other_way() -> None:
    verdict = judge(render_description(RED, SQUARE, 2)[::-1])
    assert verdict.direction == "left"


def test_shuffled_frames_have_no_direction() -> None:
    frames = render_description(RED, SQUARE, 3)
    order = np.random.default_rng(0).permutation(len(frames))
    assert judge(frames[order]).direction is None


def test_noise_is_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
    verdict = judge(noise)
    assert verdict.object is None
    assert verdict.direction is None


def test_an_empty_clip_is_only_background() -> None:
    verdict = judge(np.full((17, 64, 64, 3), 255, dtype=np.uint8))
    assert (verdict.colour, verdict.object, verdict.direction) == (None, None, None)
    assert verdict.background == "white"


def test_one_lost_object_is_a_jump() -> None:
    frames = render_description(RED, SQUARE, 4).copy()
    frames[9:] = np.roll(frames[9:], 16, axis=2)
    assert judge(frames).jump > 2


def test_a_half_drawn_object_is_not_named() -> None:
    frames = render_description(Description("cyan", "square", "up", "gray"), SQUARE, 5).copy()
    frames[:, :, ::2] = 128
    assert judge(frames).object is None
