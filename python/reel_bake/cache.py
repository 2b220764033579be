"""The cache on disk: one writer at a time, published by rename, never modified afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

STAGING = ".staging-"
ID_DIGITS = 16


def sha256(path: Path) -> str:
    """The digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry(path: Path) -> dict:
    """A file as a manifest names it."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the directory's lock, waiting for whoever holds it. The kernel drops it if we die."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sweep(directory: Path) -> int:
    """Removes what dead bakes left behind; only the holder of the lock may call it."""
    leftovers = list(directory.glob(f"{STAGING}*"))
    for path in leftovers:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return len(leftovers)


@contextlib.contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A directory beside the published ones, gone at the end if nobody published it."""
    path = Path(tempfile.mkdtemp(prefix=STAGING, dir=directory))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def publish_bundle(staged: Path, shape_dir: Path) -> Path:
    """Names the staged bundle by the digest of its manifest and makes it the current one."""
    bundle = shape_dir / sha256(staged / "manifest.json")[:ID_DIGITS]
    _seal(staged)
    if not bundle.exists():
        os.rename(staged, bundle)
    _sync(shape_dir)
    point(shape_dir / "current", bundle.name)
    return bundle


def point(link: Path, target: str) -> None:
    """Swaps a symbolic link in one step."""
    fresh = link.with_name(f"{STAGING}link-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    os.replace(fresh, link)
    _sync(link.parent)


def publish_file(staged: Path, path: Path) -> None:
    """Gives a staged file its name."""
    staged.chmod(0o444)
    _sync(staged)
    os.replace(staged, path)
    _sync(path.parent)


def _seal(directory: Path) -> None:
    """Makes every file read-only and durable."""
    directory.chmod(0o755)
    for path in directory.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
        _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
