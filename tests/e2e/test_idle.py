"""A server without work costs next to nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

from conftest import Server, report, until

IDLE_S = float(os.environ.get("REEL_CHAOS_IDLE_S", "3"))
RESIDENT_MIB_MAX = 40


def fields(path: Path) -> dict[str, str]:
    """The lines of proc_pid_status(5)."""
    lines = (line.split(":", 1) for line in path.read_text().splitlines())
    return {name: value.strip() for name, value in lines}


def wakeups(pid: int) -> dict[str, int]:
    """How often each thread has slept so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    seen = [(task.name, fields(task / "status")) for task in tasks]
    return {f"{s['Name']} {tid}": int(s["voluntary_ctxt_switches"]) for tid, s in seen}


def test_an_idle_server_is_small_and_does_not_wake(own_server: Server) -> None:
    own_server.until_ready(2, wanted=("hot",))
    video = own_server.create(num_inference_steps=4)["id"]
    own_server.finish(video)
    assert own_server.process is not None
    pid = own_server.process.pid

    def at_rest() -> bool:
        before = wakeups(pid)
        time.sleep(0.5)
        return wakeups(pid) == before

    until(at_rest, "the end of what the last request left to do")
    before = wakeups(pid)
    time.sleep(IDLE_S)
    after = wakeups(pid)
    woken = {name: after[name] - before.get(name, 0) for name in after}
    woken = {name: count for name, count in woken.items() if count}
    resident_mib = int(fields(Path(f"/proc/{pid}/status"))["VmRSS"].split()[0]) / 1024
    report(
        f"idle supervisor with two hot workers, {IDLE_S:.0f} s",
        f"< {RESIDENT_MIB_MAX} MiB resident, no wake-ups",
        f"{resident_mib:.1f} MiB, {sum(woken.values())} wake-ups",
    )
    assert resident_mib < RESIDENT_MIB_MAX
    assert not woken
