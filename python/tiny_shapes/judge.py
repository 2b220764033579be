"""Looks at the frames of a video and names colour, object, direction and background.

Rules, not learning: the background is the colour of most border pixels, the object is what differs
from it, its motion is the shift (on the torus, because objects wrap around) that best carries
each frame to the next, and its outline is compared with the three known outlines at any sub-pixel
place. Every answer may be None: a judge that always answers would accept noise.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np

from tiny_shapes.prompts import BACKGROUNDS, COLOURS, DIRECTIONS, OBJECTS, Description, Shape

FOREGROUND = 96.0
"""Distance in RGB from the background above which a pixel belongs to an object."""
MINIMUM_AREA = 80
"""Objects of fewer pixels are not objects."""
MINIMUM_OVERLAP = 0.75
"""Least intersection over union with a known outline, and of a frame with its shifted neighbour."""
MINIMUM_STEP = 1.0
"""Pixels per frame below which an object stands still."""


@dataclass(frozen=True)
class Verdict:
    """What a video shows. `step`: pixels per frame; `jump`: the largest step over the median."""

    colour: str | None
    object: str | None
    direction: str | None
    background: str | None
    step: float
    jump: float
    outline: float

    def agrees(self, wanted: Description) -> dict[str, bool]:
        """Attribute by attribute, whether this is what was asked for."""
        return {name: getattr(self, name) == value for name, value in asdict(wanted).items()}


def read_frames(path: Path) -> np.ndarray:
    """Decodes a video into frames [F, H, W, 3] of uint8."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if not frames:
        raise ValueError(f"no video frames in {path}")
    return np.stack(frames)


def _nearest(rgb: np.ndarray, table: dict[str, tuple[int, int, int]], reach: float) -> str | None:
    """The name of the closest colour, or None beyond `reach`."""
    names = list(table)
    distances = np.linalg.norm(np.array(list(table.values()), dtype=float) - rgb, axis=1)
    best = int(distances.argmin())
    return names[best] if distances[best] <= reach else None


def _background_colour(frames: np.ndarray) -> np.ndarray:
    """Median over time at each pixel, then over space: the object never covers half of either."""
    still = np.median(frames, axis=0)
    return np.median(still.reshape(-1, 3), axis=0)


def _shift_between(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, float]:
    """The shift (dx, dy) on the torus that best carries one mask [H, W] to the next.

    Returns it with sub-pixel precision, and the overlap (intersection over union) at the best
    whole-pixel shift.
    """
    spectrum = np.fft.rfft2(after) * np.conj(np.fft.rfft2(before))
    match = np.fft.irfft2(spectrum, s=before.shape)
    row, column = np.unravel_index(int(match.argmax()), match.shape)
    height, width = match.shape
    common = match[row, column]
    overlap = common / max(before.sum() + after.sum() - common, 1e-6)

    def refine(low: float, middle: float, high: float) -> float:
        curve = low - 2 * middle + high
        return 0.0 if curve >= 0 else float(0.5 * (low - high) / curve)

    dx = column + refine(match[row, (column - 1) % width], common, match[row, (column + 1) % width])
    dy = row + refine(match[(row - 1) % height, column], common, match[(row + 1) % height, column])
    dx = (dx + width / 2) % width - width / 2
    dy = (dy + height / 2) % height - height / 2
    return np.array([dx, dy]), float(overlap)


@functools.cache
def _outlines(width: int, height: int) -> dict[str, np.ndarray]:
    """The three outlines [H, W] in the middle of an empty picture."""
    import torch

    from tiny_shapes.render import RADIUS, Scenes, render

    drawn = {}
    for kind, name in enumerate(OBJECTS):
        scenes = Scenes(
            kind=torch.tensor([[kind]]),
            radius=torch.tensor([[RADIUS]]),
            present=torch.tensor([[True]]),
            centre=torch.tensor([[[width // 2, height // 2]]], dtype=torch.float32),
            velocity=torch.zeros(1, 1, 2),
            colour=torch.ones(1, 1, 3),
            background=-torch.ones(1, 3),
        )
        clip, _ = render(scenes, Shape(width, height, 1))
        drawn[name] = ((clip[0, 0, 0] + 1) / 2).numpy()
    return drawn


def _name_object(masks: np.ndarray) -> tuple[str | None, float]:
    """The outline that overlaps best, averaged over frames, and how well it does."""
    scores = {}
    for name, outline in _outlines(masks.shape[2], masks.shape[1]).items():
        scores[name] = float(np.mean([_shift_between(outline, mask)[1] for mask in masks]))
    best = max(scores, key=scores.__getitem__)
    return (best if scores[best] >= MINIMUM_OVERLAP else None), scores[best]


def _name_direction(shifts: np.ndarray, overlaps: np.ndarray) -> str | None:
    """The direction of most steps; None when the object stands still, tears or wanders."""
    if np.median(overlaps) < MINIMUM_OVERLAP:
        return None
    votes = []
    for shift in shifts:
        along, across = np.abs(shift).max(), np.abs(shift).min()
        if along < MINIMUM_STEP or across > 0.5 * along:
            votes.append(None)
            continue
        scores = {name: float(np.dot(shift, unit)) for name, unit in DIRECTIONS.items()}
        votes.append(max(scores, key=scores.__getitem__))
    best = max(set(votes), key=votes.count)
    return best if votes.count(best) >= 0.75 * len(votes) else None


def judge(frames: np.ndarray) -> Verdict:
    """Names what frames [F, H, W, 3] of uint8 show."""
    pixels = frames.astype(np.float32)
    background = _background_colour(pixels)
    distance = np.linalg.norm(pixels - background, axis=3)
    masks = (distance > FOREGROUND).astype(np.float32)
    areas = masks.sum(axis=(1, 2))
    background_name = _nearest(background, BACKGROUNDS, 60.0)
    if np.median(areas) < MINIMUM_AREA or len(frames) < 2:
        return Verdict(None, None, None, background_name, 0.0, 0.0, 0.0)
    # Edges are blends with the background: the object's colour is that of its inner half.
    inner = distance >= np.median(distance[masks > 0])
    colour = _nearest(np.median(pixels[inner], axis=0), COLOURS, 110.0)
    name, outline = _name_object(masks)
    pairs = [_shift_between(*pair) for pair in itertools.pairwise(masks)]
    shifts = np.array([shift for shift, _ in pairs])
    overlaps = np.array([overlap for _, overlap in pairs])
    steps = np.linalg.norm(shifts, axis=1)
    usual = float(np.median(steps))
    return Verdict(
        colour=colour,
        object=name,
        direction=_name_direction(shifts, overlaps),
        background=background_name,
        step=round(usual, 3),
        jump=round(float(steps.max()) / max(usual, 1e-6), 3) if usual > 0.1 else 0.0,
        outline=round(outline, 3),
    )


def main() -> int:
    """Prints the verdict as JSON; exit status 1 when a prompt is given and the video disagrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--prompt", default=None)
    args = parser.parse_args()
    verdict = judge(read_frames(args.video))
    report: dict = asdict(verdict)
    agreed = True
    if args.prompt is not None:
        matches = verdict.agrees(Description.parse(args.prompt))
        agreed = all(matches.values())
        report |= {"prompt": args.prompt, "agrees": matches, "all": agreed}
    print(json.dumps(report, indent=2))
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
