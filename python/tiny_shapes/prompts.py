"""The words of the model: prompt grammar, colours and the shapes of the default menu."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
}
OBJECTS: tuple[str, ...] = ("circle", "square", "triangle")
DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
}
FPS = 8
SPEED = 4
"""Pixels per frame: one latent cell (16 pixels) per latent frame (4 frames)."""

_PATTERN = re.compile(
    r"^an? (?P<colour>\w+) (?P<object>\w+) moving (?P<direction>\w+)"
    r" on an? (?P<background>\w+) background$"
)


@dataclass(frozen=True)
class Shape:
    """Width and height in pixels and a number of frames; the key reads `64x96@17f`."""

    width: int
    height: int
    frames: int

    @property
    def key(self) -> str:
        """The name of this shape in menus and file names."""
        return f"{self.width}x{self.height}@{self.frames}f"

    @classmethod
    def parse(cls, key: str) -> Shape:
        """Reads a shape key; raises `ValueError` naming the text that is not one."""
        match = re.fullmatch(r"(\d+)x(\d+)@(\d+)f", key)
        if match is None:
            raise ValueError(f"not a shape key: {key!r}")
        return cls(*(int(group) for group in match.groups()))


MENU: tuple[Shape, ...] = tuple(
    Shape.parse(key) for key in ("64x64@17f", "96x64@17f", "64x96@17f", "64x64@33f")
)


@dataclass(frozen=True)
class Description:
    """The four attributes that a prompt asks for, by name."""

    colour: str
    object: str
    direction: str
    background: str

    @property
    def prompt(self) -> str:
        """The sentence that the model was trained on."""
        what = f"a {self.colour} {self.object} moving {self.direction}"
        return f"{what} on a {self.background} background"

    @classmethod
    def parse(cls, prompt: str) -> Description:
        """Reads a sentence of the grammar; raises `ValueError` naming what is not understood."""
        match = _PATTERN.match(" ".join(prompt.lower().split()).rstrip("."))
        if match is None:
            raise ValueError(f"not a sentence of the grammar: {prompt!r}")
        found = cls(**match.groupdict())
        tables = (COLOURS, OBJECTS, DIRECTIONS, BACKGROUNDS)
        for word, known in zip(match.groups(), tables, strict=True):
            if word not in known:
                raise ValueError(f"unknown word {word!r}, expected one of {', '.join(known)}")
        return found

    @classmethod
    def random(cls, rng: random.Random) -> Description:
        """Draws one of the 216 descriptions."""
        return cls(
            rng.choice(tuple(COLOURS)),
            rng.choice(OBJECTS),
            rng.choice(tuple(DIRECTIONS)),
            rng.choice(tuple(BACKGROUNDS)),
        )


def all_descriptions() -> list[Description]:
    """All 216 descriptions in a fixed order."""
    return [
        Description(*words)
        for words in itertools.product(COLOURS, OBJECTS, DIRECTIONS, BACKGROUNDS)
    ]
