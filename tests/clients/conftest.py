"""The real OpenAI SDK against a running server, at REEL_BASE_URL (for example http://127.0.0.1:8000/v1)."""

import os

import openai
import pytest


@pytest.fixture(scope="session")
def base_url() -> str:
    """The server under test."""
    url = os.environ.get("REEL_BASE_URL")
    if not url:
        pytest.skip("REEL_BASE_URL is not set")
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


@pytest.fixture(scope="session")
def client(base_url: str) -> openai.OpenAI:
    """A client that fails at once instead of trying again: a retry would hide a wrong status."""
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def completed(client: openai.OpenAI) -> openai.types.Video:
    """One finished video, shared by the tests that only look at it."""
    video = client.videos.create_and_poll(
        prompt="a red circle moving right on a black background",
        size="64x64",
        seconds="2.125",
        extra_body={"seed": 7, "fps": 8, "num_inference_steps": 4},
    )
    assert video.status == "completed", video.error
    return video
