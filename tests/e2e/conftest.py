"""A real `reel serve` with the native engine, on a port of its own, over a menu of two shapes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("REEL_TEST_PROGRAMS", ROOT / "target/debug"))
CACHE = Path(os.environ.get("REEL_CACHE_DIR", Path.home() / ".cache/reel"))
SHAPES = ("64x64@17f", "96x64@17f")
PROMPT = "a red circle moving right on a black background"
# A bake of two shapes on a busy machine of two cores.
BAKE_DEADLINE_S = 2400
PATIENCE_S = 60


@dataclass
class Answer:
    """One answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Server:
    """A running server and what it logs."""

    data: Path
    model: Path
    log: Path
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    key: str = ""
    process: subprocess.Popen | None = None
    base: str = field(default="")

    def start(self) -> None:
        """Starts the server in an all but empty environment, and waits for its port."""
        command = [
            *self.wrapper, PROGRAMS / "reel", "serve", "--listen", "127.0.0.1:0",
            "--data-dir", self.data, "--cache-dir", CACHE, "--model", self.model, *self.arguments,
        ]  # fmt: skip
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            env = {"PATH": os.environ["PATH"], **self.env}
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=env, cwd=ROOT)
        line = re.compile(r"listening on (http://\S+)")

        def port() -> re.Match[str] | None:
            found = line.search(self.log.read_text()[before:])
            assert found or self.process.poll() is None, self.log.read_text()[before:]
            return found

        self.base = until(port, f"a port in {self.log}").group(1)

    def until_ready(
        self,
        shapes: int = 1,
        deadline_s: float = PATIENCE_S,
        wanted: tuple[str, ...] = ("cold", "hot"),
    ) -> None:
        """Waits until so many shapes can be served."""

        def servable() -> bool:
            assert self.process and self.process.poll() is None, self.log.read_text()[-4000:]
            states = [shape["state"] for shape in self.call("GET", "/readyz").json()["shapes"]]
            assert "failed" not in states, self.log.read_text()[-4000:]
            return sum(state in wanted for state in states) >= shapes

        until(servable, f"{shapes} servable shapes", deadline_s)

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        """One request; an error status is an answer too."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if data else {}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def metric(self, name: str) -> float:
        """The value of one line of the metrics."""
        page = self.call("GET", "/metrics").body.decode()
        lines = [line for line in page.splitlines() if line.startswith(name + " ")]
        assert lines, f"{name} is not among the metrics"
        return float(lines[0].rsplit(" ", 1)[1])

    def content(self, video: str) -> bytes:
        """The finished video."""
        answer = self.call("GET", f"/v1/videos/{video}/content")
        assert answer.status == 200, answer.body
        return answer.body

    def incident(self, video: str) -> dict[str, Any]:
        """What is written down of the attempt that a dead worker had at a video."""

        def look() -> dict | None:
            files = sorted((self.data / "incidents").glob("*.json"), reverse=True)
            had = [a for file in files for a in json.loads(file.read_text())["attempts"]]
            return next((attempt for attempt in had if attempt["job"] == video), None)

        return until(look, f"an incident with {video}")

    def create(self, **fields: Any) -> dict[str, Any]:
        """A new video."""
        answer = self.call("POST", "/v1/videos", {"prompt": PROMPT, **fields})
        assert answer.status == 200, answer.body
        return answer.json()

    def get(self, video: str) -> dict[str, Any]:
        """The video as it stands."""
        return self.call("GET", f"/v1/videos/{video}").json()

    def until_video(self, video: str, wanted: Callable[[dict], bool]) -> dict[str, Any]:
        """Waits until the video is as wanted, or has ended."""

        def look() -> dict | None:
            now = self.get(video)
            return now if wanted(now) or now["status"] in ("completed", "failed") else None

        return until(look, f"{video} as wanted")

    def finish(self, video: str) -> dict[str, Any]:
        """Waits for the end of a video."""
        return self.until_video(video, lambda _: False)

    def workers(self) -> list[int]:
        """The worker processes."""
        assert self.process
        listed = subprocess.run(
            ["pgrep", "--parent", str(self.process.pid), "--full", "reel-worker"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [int(pid) for pid in listed.stdout.split()]

    def signal(self, number: int) -> None:
        """Sends the server a signal."""
        assert self.process
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ends the server in peace; returns its exit code."""
        assert self.process
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


def report(what: str, bar: str, measured: str) -> None:
    """A line of the table that `make chaos` prints."""
    line = f"| {what} | {bar} | {measured} |"
    print(line)
    if path := os.environ.get("REEL_CHAOS_REPORT"):
        with open(path, "a") as file:
            print(line, file=file)


def alive(pid: int) -> bool:
    """A process that is not a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def until(look: Callable[[], Any], what: str, deadline_s: float = PATIENCE_S) -> Any:
    """Looks again and again until there is something to see."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.005)
    pytest.fail(f"not in {deadline_s:.0f} s: {what}")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model with a menu of two shapes; its bundles are the ones of the full menu."""
    path = tmp_path_factory.mktemp("model") / "tiny-shapes"
    shutil.copytree(ROOT / "models/tiny-shapes", path, symlinks=False)
    card = path / "model.toml"
    menu = "shapes = [" + ", ".join(f'"{shape}"' for shape in SHAPES) + "]"
    card.write_text(re.sub(r"(?m)^shapes = \[[^\]]*\]", menu, card.read_text()))
    return path


@pytest.fixture(scope="session")
def baked(model: Path) -> Path:
    """Both shapes are in the cache."""
    subprocess.run(
        [PROGRAMS / "reel", "bake", "--cache-dir", CACHE, "--model", model, "--devices", "cpu"],
        check=True, timeout=BAKE_DEADLINE_S, cwd=ROOT,
    )  # fmt: skip
    return model


@pytest.fixture(scope="module")
def server(baked: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with both shapes, shared by the tests of one file."""
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data", baked, directory / "log")
    server.start()
    server.until_ready(len(SHAPES))
    yield server
    assert server.stop() == 0, server.log.read_text()[-4000:]


@pytest.fixture
def own_server(baked: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of one test, which may break it."""
    server = Server(tmp_path / "data", baked, tmp_path / "log")
    server.start()
    server.until_ready()
    yield server
    if server.process and server.process.poll() is None:
        server.process.kill()
        server.process.wait()
