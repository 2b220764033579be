"""Publishing: nothing half-made is ever visible, and what dead bakes left is removed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from reel_bake import cache

ROOT = Path(__file__).parents[1]


def stage(directory: Path, manifest: str = "{}") -> Path:
    staged = directory / f"{cache.STAGING}one"
    (staged / "aot").mkdir(parents=True)
    (staged / "manifest.json").write_text(manifest)
    (staged / "aot" / "transformer.pt2").write_text("code")
    return staged


def test_a_bundle_is_named_by_its_manifest_and_becomes_current(tmp_path: Path) -> None:
    bundle = cache.publish_bundle(stage(tmp_path), tmp_path)
    assert bundle.name == cache.sha256(bundle / "manifest.json")[:16]
    assert (tmp_path / "current").resolve() == bundle
    assert not os.access(bundle / "manifest.json", os.W_OK) or os.geteuid() == 0
    assert (bundle / "manifest.json").stat().st_mode & 0o222 == 0


def test_current_moves_to_the_latest_bundle_and_the_old_one_stays(tmp_path: Path) -> None:
    first = cache.publish_bundle(stage(tmp_path), tmp_path)
    second = cache.publish_bundle(stage(tmp_path, '{"other": 1}'), tmp_path)
    assert (tmp_path / "current").resolve() == second
    assert (first / "manifest.json").is_file()


def test_publishing_the_same_bundle_twice_keeps_the_first(tmp_path: Path) -> None:
    first = cache.publish_bundle(stage(tmp_path), tmp_path)
    inode = (first / "manifest.json").stat().st_ino
    assert cache.publish_bundle(stage(tmp_path), tmp_path) == first
    assert (first / "manifest.json").stat().st_ino == inode


def test_a_bake_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), cache.staging(tmp_path) as staged:
        (staged / "half").write_text("done")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_dead_bakes_left_is_swept_and_bundles_are_not(tmp_path: Path) -> None:
    bundle = cache.publish_bundle(stage(tmp_path), tmp_path)
    stage(tmp_path)
    (tmp_path / f"{cache.STAGING}link-1").symlink_to("nowhere")
    assert cache.sweep(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == {bundle.name, "current"}


def test_the_lock_of_a_killed_bake_is_free(tmp_path: Path) -> None:
    hold = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from reel_bake import cache
        with cache.locked(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
        """
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    with cache.locked(tmp_path):
        pass
