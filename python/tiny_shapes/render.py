"""Draws clips of moving shapes, many at once, anti-aliased and wrapping around the edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from tiny_shapes.prompts import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    OBJECTS,
    SPEED,
    Description,
    Shape,
)

RADIUS = 14.0
"""Half of the extent of the drawn objects in pixels."""
HALO = 2.0
"""Pixels around an object that count as foreground when losses are weighted."""


@dataclass
class Scenes:
    """A batch of scenes. Positions are pixels, velocities pixels per frame, colours -1..1.

    `kind`, `radius`, `present`: [B, N]; `centre`, `velocity`: [B, N, 2] as (x, y);
    `colour`: [B, N, 3]; `background`: [B, 3]. Later objects are drawn over earlier ones.
    """

    kind: torch.Tensor
    radius: torch.Tensor
    present: torch.Tensor
    centre: torch.Tensor
    velocity: torch.Tensor
    colour: torch.Tensor
    background: torch.Tensor


def _signed_distance(
    kind: torch.Tensor, radius: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor
) -> torch.Tensor:
    """Distance in pixels to the outline (negative inside) of circle 0, square 1 or triangle 2."""
    circle = (dx * dx + dy * dy).sqrt() - radius
    half = radius * (13 / 14)
    square = torch.maximum(dx.abs(), dy.abs()) - half
    # An upright triangle: its base is 0.9 radii below the centre, its apex 1.1 radii above.
    slope_x, slope_y = 0.857, 0.515
    sides = dx.abs() * slope_x - (dy + radius * 1.1) * slope_y
    triangle = torch.maximum(sides, dy - radius * 0.9)
    return torch.where(kind == 0, circle, torch.where(kind == 1, square, triangle))


def render(scenes: Scenes, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws scenes: clips [B, 3, F, H, W] in -1..1 and foreground masks [B, 1, F, H, W] (bool)."""
    frames = torch.arange(shape.frames, dtype=torch.float32)
    xs = torch.arange(shape.width, dtype=torch.float32) + 0.5
    ys = torch.arange(shape.height, dtype=torch.float32) + 0.5
    batch, count = scenes.kind.shape
    clip = scenes.background[:, :, None, None, None].expand(
        batch, 3, shape.frames, shape.height, shape.width
    )
    mask = torch.zeros(batch, 1, shape.frames, shape.height, shape.width, dtype=torch.bool)
    for index in range(count):
        where = scenes.centre[:, index, None] + scenes.velocity[:, index, None] * frames[:, None]
        # Offsets go to the nearest copy of the object on the torus: that is the wrap-around.
        dx = torch.remainder(xs - where[..., 0:1] + shape.width / 2, shape.width) - shape.width / 2
        dy = (
            torch.remainder(ys - where[..., 1:2] + shape.height / 2, shape.height)
            - shape.height / 2
        )
        kind = scenes.kind[:, index, None, None, None]
        radius = scenes.radius[:, index, None, None, None]
        distance = _signed_distance(kind, radius, dx[:, :, None, :], dy[:, :, :, None])
        present = scenes.present[:, index, None, None, None]
        coverage = ((0.5 - distance).clamp(0, 1) * present)[:, None]
        clip = clip + coverage * (scenes.colour[:, index, :, None, None, None] - clip)
        mask |= ((distance < HALO) & present)[:, None]
    return clip.contiguous(), mask


def _to_unit(rgb: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(rgb, dtype=torch.float32) / 127.5 - 1


COLOUR_TABLE = torch.stack([_to_unit(rgb) for rgb in COLOURS.values()])
BACKGROUND_TABLE = torch.stack([_to_unit(rgb) for rgb in BACKGROUNDS.values()])
DIRECTION_TABLE = torch.tensor(list(DIRECTIONS.values()), dtype=torch.float32)


def start_positions(
    directions: torch.Tensor, shape: Shape, generator: torch.Generator, grid: int = 1
) -> torch.Tensor:
    """Random centres [B, 2] for direction indices [B], in multiples of `grid` pixels.

    Along the motion any place will do; across it the object stays fully inside the picture.
    """
    size = torch.tensor([shape.width, shape.height], dtype=torch.float32)
    anywhere = (torch.rand(len(directions), 2, generator=generator) * size / grid).floor()
    margin = RADIUS * 1.2 + 1
    first = math.ceil(margin / grid)
    count = ((size - margin) / grid).floor() - first + 1
    inside = first + (torch.rand(len(directions), 2, generator=generator) * count).floor()
    moving = DIRECTION_TABLE[directions] != 0
    return torch.where(moving, anywhere, inside) * grid


def target_scenes(
    attributes: torch.Tensor, shape: Shape, generator: torch.Generator, grid: int = 1
) -> Scenes:
    """Scenes of one object for attribute indices [B, 4]: colour, object, direction, background.

    Objects start at multiples of `grid` pixels.
    """
    colour, kind, direction, background = attributes.unbind(1)
    ones = torch.ones(len(attributes), 1)
    return Scenes(
        kind=kind[:, None],
        radius=ones * RADIUS,
        present=ones.bool(),
        centre=start_positions(direction, shape, generator, grid)[:, None],
        velocity=(DIRECTION_TABLE[direction] * SPEED)[:, None],
        colour=COLOUR_TABLE[colour][:, None],
        background=BACKGROUND_TABLE[background],
    )


def random_attributes(count: int, generator: torch.Generator) -> torch.Tensor:
    """Uniform attribute indices [count, 4] in the order of `target_scenes`."""
    sizes = (len(COLOURS), len(OBJECTS), len(DIRECTIONS), len(BACKGROUNDS))
    columns = [torch.randint(size, (count,), generator=generator) for size in sizes]
    return torch.stack(columns, dim=1)


def attributes_of(description: Description) -> list[int]:
    """The indices of a description in the order of `target_scenes`."""
    return [
        list(COLOURS).index(description.colour),
        OBJECTS.index(description.object),
        list(DIRECTIONS).index(description.direction),
        list(BACKGROUNDS).index(description.background),
    ]


def description_of(attributes: torch.Tensor) -> Description:
    """The description of attribute indices [4]."""
    colour, kind, direction, background = attributes.tolist()
    return Description(
        list(COLOURS)[colour],
        OBJECTS[kind],
        list(DIRECTIONS)[direction],
        list(BACKGROUNDS)[background],
    )


def dense_scenes(
    batch: int, count: int, strangeness: float, shape: Shape, generator: torch.Generator
) -> Scenes:
    """Scenes of `count` objects, for teaching an autoencoder that foreground exists.

    With probability `strangeness` (each on its own) an object's colour, size and velocity and a
    scene's background are arbitrary; otherwise they are those of the target clips.
    """

    def rand(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator)

    def index(table: torch.Tensor, *size: int) -> torch.Tensor:
        return table[torch.randint(len(table), size, generator=generator)]

    def mixed(strange: torch.Tensor, usual: torch.Tensor, *size: int) -> torch.Tensor:
        return torch.where(rand(*size) < strangeness, strange, usual)

    canvas = torch.tensor([shape.width, shape.height], dtype=torch.float32)
    return Scenes(
        kind=torch.randint(len(OBJECTS), (batch, count), generator=generator),
        radius=mixed(7 + 10 * rand(batch, count), torch.full((batch, count), RADIUS), batch, count),
        present=torch.cat([torch.ones(batch, 1), rand(batch, count - 1).round()], 1).bool(),
        centre=(rand(batch, count, 2) * canvas).floor(),
        velocity=mixed(
            rand(batch, count, 2) * 10 - 5,
            index(DIRECTION_TABLE, batch, count) * SPEED,
            batch,
            count,
            1,
        ),
        colour=mixed(
            rand(batch, count, 3) * 2 - 1, index(COLOUR_TABLE, batch, count), batch, count, 1
        ),
        background=mixed(rand(batch, 3) * 2 - 1, index(BACKGROUND_TABLE, batch), batch, 1),
    )


def to_frames(clip: torch.Tensor) -> np.ndarray:
    """Turns a clip [3, F, H, W] in -1..1 into frames [F, H, W, 3] of uint8."""
    frames = ((clip.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return frames.permute(1, 2, 3, 0).contiguous().numpy()


def render_description(description: Description, shape: Shape, seed: int) -> np.ndarray:
    """A perfect clip of a description as frames [F, H, W, 3] of uint8."""
    generator = torch.Generator().manual_seed(seed)
    attributes = torch.tensor([attributes_of(description)])
    clip, _ = render(target_scenes(attributes, shape, generator), shape)
    return to_frames(clip[0])
