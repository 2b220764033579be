"""Whatever dies, the video comes."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from conftest import Server, alive, until

# The promise for the end of workers whose supervisor was killed; printed, never asserted.
ORPHAN_LIMIT_S = 0.2


def begun(video: dict) -> bool:
    """A few steps are done."""
    return video["step"] >= 3


def test_a_worker_killed_in_the_middle_of_a_job_still_ends_in_a_video(own_server: Server) -> None:
    # A worker that dies while it starts is counted under another name.
    own_server.until_ready(2, wanted=("hot",))
    video = own_server.create(seed=1, num_inference_steps=100)["id"]
    own_server.until_video(video, begun)
    for pid in own_server.workers():
        os.kill(pid, signal.SIGKILL)
    ended = own_server.finish(video)
    assert (ended["status"], ended["attempts"]) == ("completed", 2), ended
    assert own_server.metric('reel_pool_worker_failure_total{class="crash",reason="gen_eof"}') == 2


def test_a_video_that_goes_on_after_a_death_is_the_one_of_an_undisturbed_run(
    own_server: Server,
) -> None:
    settings = {"seed": 11, "num_inference_steps": 60}
    undisturbed = own_server.create(**settings)["id"]
    assert own_server.finish(undisturbed)["attempts"] == 1
    expected = own_server.content(undisturbed)
    chance = random.Random(os.environ.get("REEL_CHAOS_SEED", "reel"))
    rounds = int(os.environ.get("REEL_CHAOS_RESUMES", "3"))
    for number in range(rounds):
        kill_at = chance.randrange(1, 60)
        video = own_server.create(**settings)["id"]
        seen = own_server.until_video(video, lambda now, at=kill_at: now["step"] >= at)
        for pid in own_server.workers():
            os.kill(pid, signal.SIGKILL)
        ended = own_server.finish(video)
        if ended["attempts"] == 1:
            # It was through before the kill reached it.
            continue
        assert ended["status"] == "completed", ended
        assert own_server.content(video) == expected, f"killed at step {seen['step']}"
        had = own_server.incident(video)
        assert had["checkpoint"] >= had["step"] - 1, f"more than a step was lost: {had}"
        print(f"{number}: killed at {had['step']}, went on after {had['checkpoint']}")
    assert own_server.metric("reel_pool_resumed_total") >= 1


def test_a_killed_server_leaves_no_worker_and_loses_no_job(own_server: Server) -> None:
    own_server.until_ready(2)
    running = own_server.create(seed=1, num_inference_steps=100)["id"]
    waiting = own_server.create(seed=2, num_inference_steps=4)["id"]
    own_server.until_video(running, begun)
    workers = own_server.workers()
    assert workers
    own_server.signal(signal.SIGKILL)
    killed_at = time.monotonic()
    until(lambda: not any(alive(pid) for pid in workers), "the end of the workers")
    took_ms = 1e3 * (time.monotonic() - killed_at)
    print(f"workers gone after {took_ms:.0f} ms (limit {1e3 * ORPHAN_LIMIT_S:.0f} ms)")
    own_server.process.wait()

    own_server.start()
    first, second = own_server.finish(running), own_server.finish(waiting)
    assert [first["status"], second["status"]] == ["completed", "completed"]
    assert first["attempts"] == 2


def test_draining_finishes_what_runs_and_the_next_start_does_the_rest(own_server: Server) -> None:
    running = own_server.create(seed=1, num_inference_steps=60)["id"]
    waiting = own_server.create(seed=2, num_inference_steps=4)["id"]
    own_server.until_video(running, begun)
    own_server.signal(signal.SIGTERM)
    until(lambda: own_server.call("GET", "/readyz").status == 503, "not ready any more")
    refused = own_server.call("POST", "/v1/videos", {"prompt": "x"})
    assert (refused.status, refused.json()["error"]["code"]) == (503, "draining")
    assert own_server.process.wait(60) == 0
    own_server.start()
    assert own_server.get(running)["status"] == "completed"
    assert own_server.finish(waiting)["status"] == "completed"


def test_deleting_a_running_video_frees_the_device_first(own_server: Server) -> None:
    video = own_server.create(num_inference_steps=200)["id"]
    own_server.until_video(video, begun)
    answer = own_server.call("DELETE", f"/v1/videos/{video}")
    assert (answer.status, answer.json()["deleted"]) == (200, True), answer.body
    assert own_server.call("GET", f"/v1/videos/{video}").status == 404
    assert own_server.call("GET", "/readyz").json()["running"] == 0


def test_a_second_server_on_the_same_data_is_refused_and_harms_nothing(
    own_server: Server, tmp_path: Path
) -> None:
    running = own_server.create(num_inference_steps=100)["id"]
    own_server.until_video(running, lambda video: video["step"] >= 60)
    second = Server(own_server.data, own_server.model, tmp_path / "second.log")
    with pytest.raises(AssertionError, match="in use"):
        second.start()
    assert second.process is not None
    assert second.process.wait(10) == 1
    assert own_server.finish(running)["status"] == "completed"
