"""The real OpenAI SDK against a running server.

The server is at REEL_BASE_URL (for example http://127.0.0.1:8000/v1). What asks for keys, webhooks
or the metrics needs more, which tests/e2e/test_clients.py sets; without it those tests are skipped.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import openai
import pytest
from openai.types import Video

PROMPT = "a red circle moving right on a black background"
# Two seconds and an eighth at 8 frames a second: the first shape of the menu.
SETTINGS = {"seed": 7, "fps": 8, "num_inference_steps": 4}


def pytest_configure(config: pytest.Config) -> None:
    """The SDK warns that OpenAI's own service has closed; that is why this server exists."""
    config.addinivalue_line("filterwarnings", "ignore:The Sora API:DeprecationWarning")


def given(name: str) -> str:
    """What the environment says, or the end of the test."""
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is not set")
    return value


def naming(video: Video) -> tuple[None, bytes]:
    """A field of a form that names a video.

    The SDK's types allow `{"id": video.id}`, but its code takes nothing but files there. A file
    without a name is an ordinary field.
    """
    return (None, video.id.encode())


@pytest.fixture(scope="session")
def base_url() -> str:
    """The server under test."""
    url = given("REEL_BASE_URL").rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


@pytest.fixture(scope="session")
def connect(base_url: str) -> Iterator[Callable[..., openai.OpenAI]]:
    """Makes clients that fail at once: trying again would hide a wrong status."""
    clients = []

    def connect(key: str | None = None, **options) -> openai.OpenAI:
        key = key or os.environ.get("REEL_API_KEY", "unused")
        options = {"base_url": base_url, "max_retries": 0, "timeout": 120, **options}
        clients.append(openai.OpenAI(api_key=key, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def client(connect: Callable[..., openai.OpenAI]) -> openai.OpenAI:
    """The client of most tests."""
    return connect()


@pytest.fixture(scope="session")
def completed(client: openai.OpenAI) -> Video:
    """One finished video, shared by the tests that only look at it."""
    video = client.videos.create_and_poll(
        prompt=PROMPT, size="64x64", seconds="2.125", extra_body=SETTINGS
    )
    assert video.status == "completed", video.error
    return video


@dataclass
class Count:
    """How often something happened."""

    videos: int = 0
    runs: float = 0


@pytest.fixture
def count(client: openai.OpenAI, base_url: str) -> Callable:
    """Counts the videos that appear in the list and the jobs that end, while something goes on."""
    page = urllib.request.Request(
        base_url.removesuffix("/v1") + "/metrics",
        headers={"authorization": f"Bearer {given('REEL_ADMIN_KEY')}"},
    )

    def ids() -> set[str]:
        return {video.id for video in client.videos.list(limit=100)}

    def ended() -> float:
        with urllib.request.urlopen(page) as response:
            text = response.read().decode()
        lines = [line for line in text.splitlines() if line.startswith("reel_pool_request_total{")]
        assert lines
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    @contextmanager
    def count() -> Iterator[Count]:
        counted = Count()
        ids_before, ended_before = ids(), ended()
        yield counted
        counted.videos = len(ids() - ids_before)
        counted.runs = ended() - ended_before

    return count
