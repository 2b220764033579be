"""What a service manager sees: notifications, its watchdog, a reload, exit codes."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Server, until

WATCHDOG_US = 200_000


class Manager:
    """The socket of a service manager (sd_notify(3))."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20)

    def hear(self, wanted: str) -> str:
        """The next message that begins like this."""
        while True:
            message = self.socket.recv(4096).decode()
            if message.startswith(wanted):
                return message


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


@pytest.fixture
def service(baked: Path, tmp_path: Path, manager: Manager) -> Iterator[Server]:
    """A server as a service manager starts it."""
    config = tmp_path / "reel.toml"
    config.write_text("[pool]\nqueue_jobs_max = 100\n")
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(WATCHDOG_US)}
    server = Server(tmp_path / "data", baked, tmp_path / "log", ("--config", str(config)), env)
    server.start()
    yield server
    if server.process and server.process.poll() is None:
        server.process.kill()
        server.process.wait()


def test_the_service_manager_hears_of_start_watchdog_reload_and_end(
    service: Server, manager: Manager
) -> None:
    manager.hear("READY=1")
    service.until_ready()
    beats = [(manager.hear("WATCHDOG=1"), time.monotonic())[1] for _ in range(4)]
    print(
        f"watchdog fed every {1e3 * (beats[-1] - beats[0]) / 3:.0f} ms of {WATCHDOG_US / 1e3:.0f}"
    )
    service.signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in manager.hear("RELOADING=1")
    manager.hear("READY=1")
    service.signal(signal.SIGTERM)
    manager.hear("STOPPING=1")
    assert service.process is not None
    assert service.process.wait(20) == 0


def test_a_server_that_does_not_run_does_not_feed_the_watchdog(
    service: Server, manager: Manager
) -> None:
    service.until_ready()
    manager.hear("WATCHDOG=1")
    service.signal(signal.SIGSTOP)
    manager.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        while True:
            manager.hear("WATCHDOG=1")
    manager.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        manager.hear("WATCHDOG=1")
    service.signal(signal.SIGCONT)
    manager.socket.settimeout(20)
    manager.hear("WATCHDOG=1")
    assert service.stop() == 0


def test_a_reload_changes_what_can_change_and_refuses_what_is_wrong(
    service: Server, tmp_path: Path
) -> None:
    config = tmp_path / "reel.toml"

    def reload(text: str, said: str) -> None:
        config.write_text(text)
        service.signal(signal.SIGHUP)
        until(lambda: said in service.log.read_text(), said)

    service.until_ready()
    reload("[pool]\nqueue_jobs_maxx = 1\n", "did you mean `queue_jobs_max`?")
    assert "the one before holds" in service.log.read_text()
    running = service.create(num_inference_steps=200)["id"]
    reload("[pool]\nqueue_jobs_max = 1\n", "the configuration was read again")

    def is_full() -> bool:
        return service.call("POST", "/v1/videos", {"prompt": "x"}).status == 429

    until(is_full, "a queue of one job")
    reload('[pool]\ncpu_devices = 2\n[log]\nfilter = "trace"\n', "holds from the next start on")
    assert "pool.devices, cpu_devices" in service.log.read_text()
    service.call("DELETE", f"/v1/videos/{running}")
    until(lambda: "TRACE" in service.log.read_text(), "a line that was not logged before")
    assert service.stop() == 0


def test_a_second_sigterm_hurries_and_the_job_goes_on_at_the_next_start(service: Server) -> None:
    service.until_ready()
    running = service.create(num_inference_steps=200)["id"]
    service.until_video(running, lambda video: video["step"] >= 3)
    workers = service.workers()
    service.signal(signal.SIGTERM)
    until(lambda: service.call("GET", "/readyz").status == 503, "draining")
    service.signal(signal.SIGTERM)
    begun = time.monotonic()
    assert service.process is not None
    assert service.process.wait(20) == 0
    print(f"ended {1e3 * (time.monotonic() - begun):.0f} ms after the second signal")
    assert workers
    service.start()
    assert service.finish(running)["status"] == "completed"
    assert service.stop() == 0


def test_a_configuration_that_is_wrong_ends_with_its_code(baked: Path, tmp_path: Path) -> None:
    config = tmp_path / "reel.toml"
    config.write_text("[pool]\nslots_per_devise = 1\n")
    server = Server(tmp_path / "data", baked, tmp_path / "log", ("--config", str(config)))
    with pytest.raises(AssertionError, match="slots_per_device"):
        server.start()
    assert server.process is not None
    assert server.process.wait(10) == 64


def test_a_server_serves_where_its_session_began_in_another_pid_namespace(
    baked: Path, tmp_path: Path
) -> None:
    # As when a container is entered from outside: the session has no number in here.
    own_pids = (
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    )
    probe = subprocess.run([*own_pids, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no pid namespaces here: {probe.stderr.decode()}")
    server = Server(tmp_path / "data", baked, tmp_path / "log", wrapper=own_pids)
    server.start()
    try:
        server.until_ready()
        answer = server.call("POST", "/v1/videos/sync", {"prompt": "a", "num_inference_steps": 1})
        assert answer.status == 200, answer.body
        assert server.call("POST", "/v1/pool/drain").status == 202
        assert server.process.wait(30) == 0
    finally:
        server.process.kill()
    assert "panicked" not in server.log.read_text()
