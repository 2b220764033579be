"""The renderer moves objects as the prompts say, and the tokenizer keeps every word."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny_shapes.architecture import TEXT_TOKENS, latent_size
from tiny_shapes.prompts import (
    DIRECTIONS,
    MENU,
    SPEED,
    Description,
    Shape,
    all_descriptions,
)
from tiny_shapes.render import (
    attributes_of,
    dense_scenes,
    description_of,
    random_attributes,
    render,
    render_description,
    target_scenes,
)
from tiny_shapes.text import build_tokenizer, vocabulary

torch.set_num_threads(1)


@pytest.mark.parametrize("shape", MENU, ids=lambda shape: shape.key)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_frame_is_the_one_before_rolled_by_the_speed(direction: str, shape: Shape) -> None:
    """Rolling wraps around, so this says both that motion is constant and that it wraps."""
    frames = render_description(Description("red", "triangle", direction, "white"), shape, 7)
    dx, dy = DIRECTIONS[direction]
    for before, after in itertools.pairwise(frames):
        np.testing.assert_array_equal(np.roll(before, (dy * SPEED, dx * SPEED), axis=(0, 1)), after)


def test_clips_have_the_layout_and_range_that_training_expects() -> None:
    shape = Shape.parse("96x64@17f")
    generator = torch.Generator().manual_seed(0)
    scenes = target_scenes(random_attributes(3, generator), shape, generator)
    clip, mask = render(scenes, shape)
    assert clip.shape == (3, 3, 17, 64, 96)
    assert mask.shape == (3, 1, 17, 64, 96)
    assert clip.min() >= -1
    assert clip.max() <= 1
    assert 0 < mask.float().mean() < 0.3


def test_rendering_is_a_function_of_the_seed() -> None:
    wanted = Description("cyan", "circle", "up", "gray")
    one, same, other = (render_description(wanted, MENU[0], seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_grid_keeps_objects_inside_across_their_motion() -> None:
    shape = Shape.parse("64x96@17f")
    generator = torch.Generator().manual_seed(0)
    attributes = random_attributes(200, generator)
    scenes = target_scenes(attributes, shape, generator, grid=8)
    assert torch.all(scenes.centre % 8 == 0)
    across = torch.where(scenes.velocity[:, 0] == 0, scenes.centre[:, 0], 32.0)
    assert torch.all(across >= 18)
    assert torch.all(across <= torch.tensor([64.0, 96.0]) - 18)


def test_dense_scenes_fill_small_canvases() -> None:
    shape = Shape(32, 32, 9)
    scenes = dense_scenes(8, 3, 0.5, shape, torch.Generator().manual_seed(0))
    _, mask = render(scenes, shape)
    assert mask.float().mean() > 0.4


def test_attribute_indices_name_the_same_description() -> None:
    for wanted in all_descriptions():
        assert description_of(torch.tensor(attributes_of(wanted))) == wanted


def test_shape_keys_are_width_by_height() -> None:
    assert Shape.parse("96x64@17f") == Shape(width=96, height=64, frames=17)
    assert latent_size(96, 64, 17) == (5, 4, 6)
    with pytest.raises(ValueError, match="64x64"):
        Shape.parse("64x64")


def test_tokenizer_round_trip() -> None:
    tokenizer = build_tokenizer()
    for wanted in all_descriptions():
        batch = tokenizer(wanted.prompt, padding="max_length", max_length=TEXT_TOKENS)
        assert len(batch.input_ids) == TEXT_TOKENS
        assert sum(batch.attention_mask) == len(wanted.prompt.split()) + 1
        assert tokenizer.decode(batch.input_ids, skip_special_tokens=True) == wanted.prompt


def test_tokenizer_lowers_case_and_admits_what_it_does_not_know() -> None:
    tokenizer = build_tokenizer()
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("A RED hexagon").input_ids)
    assert tokens == ["a", "red", "<unk>", "</s>"]
    assert tokenizer("").input_ids == [vocabulary().index("</s>")]


def test_a_prompt_outside_the_grammar_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="purple"):
        Description.parse("a purple circle moving left on a black background")
    with pytest.raises(ValueError, match="grammar"):
        Description.parse("a cat")
