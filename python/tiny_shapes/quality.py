"""Judges the videos that a running server makes: every prompt at every shape of the menu."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tiny_shapes.contact_sheet import draw_sheet
from tiny_shapes.evaluate import format_row, result_of, tally
from tiny_shapes.judge import judge, read_frames
from tiny_shapes.prompts import MENU, Description, Shape, all_descriptions
from tiny_shapes.render import render_description
from tiny_shapes.video_client import VideoClient, VideoError

IN_FLIGHT = 8
"""Videos asked for before the first is waited for, so that the server can batch them."""
BAR = 0.95


def choose_prompts(limit: int | None) -> list[Description]:
    """All 216 descriptions, or `limit` of them spread evenly."""
    everything = all_descriptions()
    if limit is None or limit >= len(everything):
        return everything
    return [everything[at * len(everything) // limit] for at in range(limit)]


def _first_frame(wanted: Description, shape: Shape, seed: int, path: Path) -> np.ndarray:
    frame = render_description(wanted, shape, seed)[0]
    Image.fromarray(frame).save(path)
    return frame


def run_shape(
    client: VideoClient,
    model: str,
    mode: str,
    shape: Shape,
    wanted: list[Description],
    seed: int,
    folder: Path,
) -> tuple[list[dict], list[tuple[str, np.ndarray]]]:
    """Judged results and captioned frames; a video that fails counts as wrong in everything."""
    results, rows = [], []
    numbered = list(enumerate(wanted, start=seed))
    for at in range(0, len(numbered), IN_FLIGHT):
        asked = []
        for number, one in numbered[at : at + IN_FLIGHT]:
            name = folder / f"{mode}-{shape.key}-{number}"
            fields = {
                "model": model,
                "prompt": one.prompt,
                "size": f"{shape.width}x{shape.height}",
                "num_frames": shape.frames,
                "seed": number,
            }
            given = None
            if mode == "i2v":
                given = _first_frame(one, shape, number, name.with_suffix(".png"))
            video = client.create(fields, name.with_suffix(".png") if mode == "i2v" else None)
            asked.append((number, one, name.with_suffix(".mp4"), video, given))
        for number, one, path, video, given in asked:
            try:
                client.wait(video)
                client.download(video, path)
                frames = read_frames(path)
            except VideoError as error:
                print(f"  {one.prompt}: {error}", file=sys.stderr)
                frames = np.zeros((shape.frames, shape.height, shape.width, 3), dtype=np.uint8)
            result = result_of(one, judge(frames), number)
            result["file"] = path.name
            if given is not None:
                difference = np.abs(frames[0].astype(float) - given.astype(float))
                result["first_frame_error"] = round(float(difference.mean()), 3)
            results.append(result)
            rows.append((one.prompt, frames))
    return results, rows


def main() -> int:
    """Prints the table, writes `quality.json` and `contact-sheet.png`; 1 when below the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000")
    parser.add_argument("--videos", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--model", default="tiny-shapes")
    parser.add_argument("--shapes", nargs="+", default=[shape.key for shape in MENU])
    parser.add_argument("--modes", nargs="+", choices=("t2v", "i2v"), default=["t2v", "i2v"])
    parser.add_argument("--limit", type=int, default=None, help="prompts a shape (216)")
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()
    args.videos.mkdir(parents=True, exist_ok=True)
    client = VideoClient(args.base_url)
    wanted = choose_prompts(args.limit)
    report: dict[str, dict] = {}
    sheet: list[tuple[str, np.ndarray]] = []
    enough = True
    for key in args.shapes:
        for mode in args.modes:
            began = time.monotonic()
            results, rows = run_shape(
                client, args.model, mode, Shape.parse(key), wanted, args.seed, args.videos
            )
            table = tally(results)
            if mode == "t2v":
                enough = enough and table["all"] >= BAR
                sheet += rows[:: max(1, len(rows) // 4)][:4]
            report[f"{mode} {key}"] = {"table": table, "videos": results}
            seconds = time.monotonic() - began
            print(
                format_row(f"{mode} {key}", table) + f"  ({len(rows)} videos, {seconds:.0f} s)",
                flush=True,
            )
    (args.videos / "quality.json").write_text(json.dumps(report, indent=1))
    draw_sheet(sheet).save(args.videos / "contact-sheet.png")
    print(f"report {args.videos / 'quality.json'}, pictures {args.videos / 'contact-sheet.png'}")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
