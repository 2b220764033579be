"""OpenAI's own clients, unmodified, as programs of their own against one server with keys."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PROGRAMS, ROOT, SHAPES, Server

CLIENTS = ROOT / "tests/clients"
LANGUAGES = ("python", "node")
# Longest run of one client's tests on a busy machine.
SUITE_DEADLINE_S = 300


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_key(data: Path, tenant: str, *limits: str) -> dict[str, Any]:
    """A key as an operator makes it."""
    command = [PROGRAMS / "reel", "key", "create", "--tenant", tenant, *limits, "--json"]
    command += ["--data-dir", data]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def environment(data: Path, language: str, webhook_port: int) -> dict[str, str]:
    """What a client's tests know: keys of tenants of their own, and where to be told of ends."""
    key = make_key(data, language)
    told = make_key(
        data, f"{language}-told", "--webhook-url", f"http://127.0.0.1:{webhook_port}/key"
    )
    return {
        "REEL_API_KEY": key["key"],
        "REEL_WEBHOOK_SECRET": key["webhook_secret"],
        "REEL_WEBHOOK_PORT": str(webhook_port),
        "REEL_TOLD_KEY": told["key"],
        "REEL_TOLD_SECRET": told["webhook_secret"],
        "REEL_SLOW_KEY": make_key(data, f"{language}-slow", "--rate", "1/min")["key"],
        "REEL_ONE_JOB_KEY": make_key(data, f"{language}-one", "--jobs", "1")["key"],
        "REEL_BATCH_KEY": make_key(data, f"{language}-batch", "--priority-max", "batch")["key"],
    }


@pytest.fixture(scope="module")
def environments(
    baked: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, str]]]:
    """A server with keys that tells ends of jobs, and how each client reaches it."""
    directory = tmp_path_factory.mktemp("clients")
    data, config = directory / "data", directory / "reel.toml"
    ports = {language: free_port() for language in LANGUAGES}
    config.write_text(
        "[outbound]\nhttp = true\nprivate_addresses = true\n"
        f"ports = [{', '.join(map(str, ports.values()))}]\n"
    )
    admin = make_key(data, "operators", "--admin")["key"]
    keys = {language: environment(data, language, ports[language]) for language in LANGUAGES}
    server = Server(data, baked, directory / "log", ("--config", str(config)), key=admin)
    server.start()
    server.until_ready(len(SHAPES))
    shared = {"REEL_BASE_URL": server.base, "REEL_ADMIN_KEY": admin}
    yield {language: {**keys[language], **shared} for language in LANGUAGES}
    assert server.stop() == 0, server.log.read_text()[-4000:]


def run(command: list[str | Path], environment: dict[str, str]) -> str:
    """Runs the tests of a client; returns what they say."""
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, text=True, check=False, timeout=SUITE_DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:]
    print(f"{time.monotonic() - begun:.1f} s")
    return done.stdout


def test_the_openai_package_of_python_works_unmodified(environments) -> None:
    said = run([sys.executable, "-m", "pytest", "-q", CLIENTS], environments["python"])
    assert "skipped" not in said, said


def test_the_openai_package_of_npm_works_unmodified(environments) -> None:
    assert shutil.which("node"), "node is missing: .ci/setup test"
    tests = sorted((CLIENTS / "node").glob("*.test.js"))
    assert tests
    # One file after the other: some count what all of them do. Idle connections do not keep it.
    options = ["--test-concurrency=1", "--test-force-exit", "--test-reporter=tap"]
    said = run(["node", "--test", *options, *tests], environments["node"])
    assert "# skipped 0" in said, said
