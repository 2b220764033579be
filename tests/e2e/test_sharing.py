"""Jobs share a worker, and no video changes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Server

SHARING = """
[scheduler]
batching = "fixed"
"""
# What each member of the batch asks for: another prompt, seed and number of steps.
MEMBERS = [
    {"prompt": "a red circle moving right on a black background", "num_inference_steps": 60},
    {"prompt": "a green square moving up on a white background", "num_inference_steps": 8},
    {"prompt": "a blue triangle moving left on a gray background", "num_inference_steps": 20},
]
# Levels of brightness, of 255: what encoding makes of a difference of one.
APART = 6
CLOSE = 0.999


@pytest.fixture
def sharing(baked: Path, tmp_path: Path) -> Iterator[Server]:
    """A server whose workers carry several jobs whenever they can."""
    config = tmp_path / "reel.toml"
    config.write_text(SHARING)
    server = Server(tmp_path / "data", baked, tmp_path / "log", ("--config", str(config)))
    server.start()
    server.until_ready()
    yield server
    server.process.kill()
    server.process.wait()


def pixels(server: Server, video: str, folder: Path) -> bytes:
    """The decoded frames."""
    path = folder / f"{video}.mp4"
    path.write_bytes(server.call("GET", f"/v1/videos/{video}/content").body)
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def merges(server: Server) -> int:
    """Attempts that joined a worker with work."""
    lines = server.call("GET", "/metrics").body.decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("reel_pool_merge_total"))


def test_members_of_a_batch_get_the_videos_that_they_get_alone(
    sharing: Server, tmp_path: Path
) -> None:
    alone = [sharing.create(seed=9, batch="never", **member)["id"] for member in MEMBERS]
    expected = []
    for video in alone:
        assert sharing.finish(video)["status"] == "completed"
        expected.append(pixels(sharing, video, tmp_path))
    assert merges(sharing) == 0, "who wants to be alone is alone"

    # The others join while the first is on its way, one of them leaves again, and each ends when it
    # is through.
    first = sharing.create(seed=9, **MEMBERS[0])["id"]
    sharing.until_video(first, lambda video: video["step"] >= 2)
    joined = [sharing.create(seed=9, **member)["id"] for member in MEMBERS[1:]]
    leaver = sharing.create(seed=1, num_inference_steps=200)["id"]
    assert sharing.call("DELETE", f"/v1/videos/{leaver}").status == 200
    for video, frames in zip([first, *joined], expected, strict=True):
        assert sharing.finish(video)["status"] == "completed"
        got = pixels(sharing, video, tmp_path)
        assert len(got) == len(frames)
        near = sum(abs(a - b) <= APART for a, b in zip(got, frames, strict=True))
        assert near / len(frames) >= CLOSE, f"{near / len(frames):.4%} of the pixels are near"
    assert merges(sharing) >= 2
