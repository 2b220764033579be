"""The bake's processes: children that fail end the others, and nobody outlives the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reel_bake import parallel
from reel_bake.events import BakeError

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_results_come_back_by_name() -> None:
    assert parallel.run([("one", lambda: 1), ("two", lambda: 2)], jobs=2) == {"one": 1, "two": 2}


def test_a_failure_names_its_part_and_ends_the_others(tmp_path: Path) -> None:
    def slow() -> None:
        time.sleep(60)
        (tmp_path / "survived").touch()

    def refuse() -> None:
        raise BakeError("no", "do it")

    started = time.monotonic()
    with pytest.raises(BakeError, match="no") as caught:
        parallel.run([("slow", slow), ("refused", refuse)], jobs=2)
    assert caught.value.component == "refused" and caught.value.fix == "do it"
    assert time.monotonic() - started < 30


def test_a_child_that_is_killed_is_reported() -> None:
    with pytest.raises(BakeError, match="status -9"):
        parallel.run([("killed", lambda: os.kill(os.getpid(), 9))], jobs=1)


def test_a_bake_whose_parent_is_gone_does_not_start(tmp_path: Path) -> None:
    bake = ["-m", "reel_bake", "--model", tmp_path, "--cache", tmp_path, "--shape", "8x8@1f"]
    # Process 1 is not our parent.
    done = subprocess.run(
        [sys.executable, *bake, "--die-with", "1"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 1 and "is gone" in done.stderr


def test_errors_are_events(tmp_path: Path) -> None:
    bake = ["-m", "reel_bake", "--model", tmp_path, "--cache", tmp_path, "--shape", "8x8@1f"]
    done = subprocess.run([sys.executable, *bake], env=ENVIRONMENT, capture_output=True, text=True)
    event = json.loads(done.stdout)
    assert done.returncode == 1 and event["event"] == "error" and "model.toml" in event["message"]
