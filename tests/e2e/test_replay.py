"""A mixed load of three tenants on two devices is recorded, and decides the same when replayed.

With `REEL_TEST_FULL=1` the menu is whole (and baked), on two slots for each device.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import BAKE_DEADLINE_S, PATIENCE_S, PROGRAMS, PROMPT, ROOT, SHAPES, Server

FULL = os.environ.get("REEL_TEST_FULL") == "1"
LOAD_SHAPES = ("64x64@17f", "96x64@17f", "64x96@17f", "64x64@33f") if FULL else SHAPES
JOBS = 60
TENANTS = ("studio", "agency", "school")
CONFIG = """
[pool]
cpu_devices = 2
slots_per_device = %d

[scheduler]
eviction = "priced"
weights = { studio = 2 }

[recording]
enabled = true
"""
# A load that takes part of every path: classes, batches, jobs by themselves, guidance on and off.
KINDS = (
    {},
    {"priority": "batch"},
    {"batch": "never"},
    {"guidance_scale": 1.0},
    {"begin_within_s": 3600, "num_inference_steps": 4},
)


@pytest.fixture
def recorded(baked: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of two devices, neither of which has a slot for every shape."""
    config = tmp_path / "reel.toml"
    config.write_text(CONFIG % (2 if FULL else 1))
    model = ROOT / "models/tiny-shapes" if FULL else baked
    server = Server(tmp_path / "data", model, tmp_path / "log", ("--config", str(config)))
    server.start()
    server.until_ready(len(LOAD_SHAPES), deadline_s=BAKE_DEADLINE_S)
    yield server
    if server.process and server.process.poll() is None:
        server.process.kill()
        server.process.wait()


def create(server: Server, number: int) -> str:
    """One job of the load."""
    shape = LOAD_SHAPES[number % 7 % len(LOAD_SHAPES)]
    size, frames = re.fullmatch(r"(\d+x\d+)@(\d+)f", shape).groups()
    body = {
        "prompt": PROMPT, "size": size, "num_frames": int(frames), "num_inference_steps": 6,
        "seed": number, **KINDS[number % len(KINDS)],
    }  # fmt: skip
    request = urllib.request.Request(
        f"{server.base}/v1/videos",
        json.dumps(body).encode(),
        {"content-type": "application/json", "openai-project": TENANTS[number % len(TENANTS)]},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)["id"]


def replay(file: Path, *arguments: str) -> str:
    """What `reel replay` prints."""
    command = [PROGRAMS / "reel", "replay", file, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_a_recorded_load_of_three_tenants_replays_to_the_same_decisions(recorded: Server) -> None:
    with ThreadPoolExecutor(8) as clients:
        videos = list(clients.map(lambda number: create(recorded, number), range(JOBS)))
    ends = [recorded.finish(video)["status"] for video in videos]
    assert ends == ["completed"] * JOBS
    metrics = recorded.call("GET", "/metrics").body.decode()
    for reason in ("incompatible", "no_gain", "fenced", "too_costly", "alone"):
        assert f'reel_pool_not_merged_total{{reason="{reason}"}}' in metrics
    assert recorded.stop() == 0
    (file,) = (recorded.data / "recordings").iterdir()
    same = replay(file)
    assert "the same as recorded" in same
    assert int(re.match(r"(\d+) inputs", same).group(1)) > JOBS * 6
    assert same == replay(file), "every time"
    otherwise = replay(file, "--k", "2", "--eviction", "lru", "--batching", "off")
    for row in ("what happened", "simulated alike", "simulated otherwise"):
        assert row in otherwise
