"""A picture of many videos: one row a video, every few frames, its prompt beside it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

MARGIN = 4
LINE = 14
"""Height of a line of text in pixels."""


def draw_sheet(rows: list[tuple[str, np.ndarray]], columns: int = 9, zoom: int = 1) -> Image.Image:
    """Rows of (caption, frames [F, H, W, 3]) as one picture; frames are evenly spaced in time."""
    height = max(frames.shape[1] for _, frames in rows) * zoom
    width = max(frames.shape[2] for _, frames in rows) * zoom
    row_height = height + LINE + MARGIN
    sheet = Image.new(
        "RGB", (columns * (width + MARGIN) + MARGIN, len(rows) * row_height + MARGIN), (70, 70, 80)
    )
    pen = ImageDraw.Draw(sheet)
    for row, (caption, frames) in enumerate(rows):
        top = MARGIN + row * row_height
        pen.text((MARGIN, top), caption, fill=(255, 255, 255))
        for column, at in enumerate(np.linspace(0, len(frames) - 1, columns).round().astype(int)):
            picture = Image.fromarray(frames[at])
            if zoom != 1:
                picture = picture.resize(
                    (picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST
                )
            sheet.paste(picture, (MARGIN + column * (width + MARGIN), top + LINE))
    return sheet
