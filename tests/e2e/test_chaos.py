"""The server is killed, its disk fills up, its clock jumps: every accepted job ends once."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Server, alive, report, until

KILLS = int(os.environ.get("REEL_CHAOS_KILLS", "4"))
SEED = os.environ.get("REEL_CHAOS_SEED", "reel")
FINISHED = ("completed", "failed")
MEBIBYTE = 1 << 20


class Load:
    """Short jobs, from a few clients at once, until the server is gone."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.accepted: list[str] = []
        self.stopped = threading.Event()
        self.clients = [threading.Thread(target=self.run, args=(n,)) for n in range(2)]
        for client in self.clients:
            client.start()

    def run(self, number: int) -> None:
        chance = random.Random(f"{SEED} {number}")
        while not self.stopped.is_set():
            body = {"prompt": "a red circle", "num_inference_steps": chance.randrange(1, 6)}
            body["size"] = chance.choice(["64x64", "96x64"])
            try:
                answer = self.server.call("POST", "/v1/videos", body)
            except OSError:
                return
            if answer.status == 200:
                self.accepted.append(answer.json()["id"])
            self.stopped.wait(chance.uniform(0, 0.05))

    def stop(self) -> list[str]:
        self.stopped.set()
        for client in self.clients:
            client.join()
        return self.accepted


def rows(server: Server) -> dict[str, tuple]:
    """Every job's row, by id, as the journal has it."""
    with sqlite3.connect(f"file:{server.data}/journal.sqlite?mode=ro", uri=True) as journal:
        found = journal.execute(
            "SELECT id, status, finished_at_ms, attempts, video_sha256 FROM jobs"
        )
        return {"video_" + row[0].hex(): row[1:] for row in found}


def test_whatever_moment_the_server_is_killed_at_every_accepted_job_ends_once(
    own_server: Server,
) -> None:
    chance = random.Random(SEED)
    accepted: list[str] = []
    terminal: dict[str, tuple] = {}
    gone_after: list[float] = []
    begun = time.monotonic()
    for _ in range(KILLS):
        load = Load(own_server)
        time.sleep(chance.uniform(0.0, 0.9))
        workers = own_server.workers()
        own_server.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        until(lambda pids=workers: not any(alive(pid) for pid in pids), "the end of the workers")
        gone_after.append(1e3 * (time.monotonic() - killed_at))
        accepted += load.stop()
        own_server.process.wait()
        now = rows(own_server)
        lost = [job for job in accepted if job not in now]
        assert not lost, f"accepted, and not in the journal: {lost}"
        for job, row in terminal.items():
            assert now[job] == row, f"{job} ended twice: {row}, then {now[job]}"
        terminal = {job: row for job, row in now.items() if row[1] is not None}
        own_server.start()
    ended = {job: own_server.finish(job) for job in accepted}
    took = time.monotonic() - begun
    gone_after.sort()
    wrong = {job: video for job, video in ended.items() if video["status"] != "completed"}
    assert not wrong, wrong
    final = rows(own_server)
    for job in accepted:
        file = own_server.data / "artifacts" / job / "video.mp4"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == final[job][3], f"{job} is torn"
    # What was being written when it was killed goes at the next start at the latest.
    own_server.stop()
    own_server.start()
    staged = list((own_server.data / "artifacts" / ".staging").iterdir())
    assert staged == []
    report(
        f"kill -9 of `reel` {KILLS} times under load ({took:.0f} s)",
        "each job ends once; workers gone <= 200 ms; nothing torn",
        f"{len(accepted)} accepted, all completed once; 0 torn; "
        f"workers gone after {gone_after[len(gone_after) // 2]:.0f} ms in the middle, "
        f"{gone_after[len(gone_after) * 95 // 100]:.0f} ms p95, {gone_after[-1]:.0f} ms at most",
    )


def mount(arguments: list[str]) -> bool:
    """Whether this user may mount file systems here."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount(["-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]):
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, leave: int) -> None:
    """Takes all space but so many bytes; the server may take some meanwhile."""
    with (disk / "filler").open("ab", buffering=0) as filler:
        while (surplus := shutil.disk_usage(disk).free - leave) > 0:
            try:
                filler.write(b"x" * surplus)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def serve(
    baked: Path, tmp_path: Path, data: Path, settings: str, env: dict | None = None
) -> Server:
    config = tmp_path / "reel.toml"
    config.write_text(settings)
    server = Server(data, baked, tmp_path / "log", ("--config", str(config)), env or {})
    server.start()
    server.until_ready()
    return server


def test_a_full_disk_takes_no_work_serves_what_is_finished_and_recovers(
    baked: Path, tmp_path: Path, small_disk: Path
) -> None:
    settings = "[storage]\nsoft_free_mib = 0\nhard_free_mib = 4\n"
    server = serve(baked, tmp_path, small_disk / "data", settings)
    try:
        first = server.create(num_inference_steps=4)["id"]
        assert server.finish(first)["status"] == "completed"
        content = server.content(first)
        fill(small_disk, 3 * MEBIBYTE)
        refused = server.call("POST", "/v1/videos", {"prompt": "x"})
        assert (refused.status, refused.json()["error"]["code"]) == (507, "storage_full")
        assert server.content(first) == content
        # Not a byte is left, below what any watermark would leave: with the watermark switched off.
        (tmp_path / "reel.toml").write_text("[storage]\nsoft_free_mib = 0\nhard_free_mib = 0\n")
        server.signal(signal.SIGHUP)
        until(lambda: "was read again" in server.log.read_text(), "the new watermarks")
        running = server.create(num_inference_steps=100)["id"]
        fill(small_disk, 0)
        # Nobody is told of an end that is not written down; it is tried until there is space.
        until(lambda: "trying again" in server.log.read_text(), "an end that cannot be stored")
        assert server.get(running)["status"] == "in_progress"
        refused = server.call("POST", "/v1/videos", {"prompt": "x"})
        assert (refused.status, refused.json()["error"]["code"]) == (507, "storage_full")
        assert server.content(first) == content
        assert server.call("GET", "/livez").status == 200
        (small_disk / "filler").unlink()
        assert server.finish(running)["error"]["code"] == "storage_full"
        again = server.create(num_inference_steps=4)["id"]
        assert server.finish(again)["status"] == "completed"
        assert server.stop() == 0
    finally:
        server.process.kill()
    report("a full disk", "507, finished videos served, recovery without a restart", "yes")


def test_when_space_is_short_videos_go_in_the_order_in_which_they_would_expire(
    baked: Path, tmp_path: Path, small_disk: Path
) -> None:
    settings = "[storage]\nsoft_free_mib = 8\nhard_free_mib = 1\nkept_at_least_s = 0\n"
    server = serve(baked, tmp_path, small_disk / "data", settings)
    try:
        videos = []
        for _ in range(3):
            videos.append(server.create(num_inference_steps=2)["id"])
            assert server.finish(videos[-1])["status"] == "completed"
        fill(small_disk, 6 * MEBIBYTE)
        videos.append(server.create(num_inference_steps=2)["id"])

        def gone(video: str) -> bool:
            return server.call("GET", f"/v1/videos/{video}/content").status == 410

        until(lambda: all(gone(video) for video in videos), "the end of the videos")
        assert server.get(videos[0])["error"]["code"] == "expired"
        log = server.log.read_text()
        assert (
            sorted(videos, key=lambda video: log.index(f"removing a video job={video}")) == videos
        )
        (small_disk / "filler").unlink()
        assert server.stop() == 0
    finally:
        server.process.kill()


def test_a_data_directory_that_cannot_be_written_is_named(baked: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount(["-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(disk)]):
        pytest.skip("only root can mount a read-only disk")
    try:
        server = Server(disk / "data", baked, tmp_path / "log")
        with pytest.raises(AssertionError, match="Read-only file system"):
            server.start()
        assert server.process.wait(10) == 1
        assert str(disk / "data") in server.log.read_text()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    report("a read-only data directory", "a clear error", "names it, exit code 1")


def test_a_damaged_journal_is_refused_and_the_documented_repair_works(
    own_server: Server,
) -> None:
    video = own_server.create(num_inference_steps=2)["id"]
    own_server.finish(video)
    assert own_server.stop() == 0
    journal = own_server.data / "journal.sqlite"
    with sqlite3.connect(journal) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    sound = journal.read_bytes()
    journal.write_bytes(sound[:4096] + os.urandom(len(sound) - 4096))
    with pytest.raises(AssertionError, match="move it away together"):
        own_server.start()
    assert own_server.process.wait(10) == 1
    for name in ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"):
        (own_server.data / name).unlink(missing_ok=True)
    own_server.start()
    assert own_server.call("GET", f"/v1/videos/{video}").status == 404
    own_server.until_ready()
    assert (
        own_server.finish(own_server.create(num_inference_steps=2)["id"])["status"] == "completed"
    )
    assert own_server.stop() == 0


def faketime() -> str | None:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else None


def test_a_clock_that_jumps_expires_nothing_and_stops_nothing(baked: Path, tmp_path: Path) -> None:
    library = faketime()
    if not library:
        pytest.skip("libfaketime is not installed")
    offset = tmp_path / "offset"
    offset.write_text("+0s\n")
    env = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    server = serve(baked, tmp_path, tmp_path / "data", "", env)
    try:
        first = server.create(num_inference_steps=2)["id"]
        assert server.finish(first)["status"] == "completed"
        created = []
        for jump in ("+3650d", "-3650d", "+0s"):
            offset.write_text(f"{jump}\n")
            video = server.create(num_inference_steps=4)["id"]
            ended = server.finish(video)
            assert (ended["status"], ended["attempts"]) == ("completed", 1), ended
            created.append(ended["created_at"])
            assert server.get(first)["status"] == "completed", "nothing expires because of a jump"
            server.content(first)
            if len(created) == 1:
                # Old videos are looked at now and then: back before that, nobody had noticed.
                until(lambda: "jumped forward" in server.log.read_text(), "a word about it")
        assert created[0] - created[2] > 3_600 * 24 * 3_600, "the clock was turned"
        assert server.stop() == 0
    finally:
        server.process.kill()
    report("a clock that jumps ten years, forward and back", "service goes on", "nothing expired")
