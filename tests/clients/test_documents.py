"""The examples of the documents, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Lines of the README's example that are not empty: what fits into a glance.
GLANCE = 5


def examples(document: str) -> list[str]:
    """The blocks of Python in a document."""
    return re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / document).read_text())


@pytest.fixture
def run(base_url, client, tmp_path):
    """Runs a program that knows no more than the two variables of OpenAI's SDK."""

    def run(program: str) -> None:
        env = {**os.environ, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": client.api_key}
        script = tmp_path / "example.py"
        script.write_text(program)
        command = [sys.executable, script]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run


def test_the_example_of_the_readme_makes_a_video(run, client, tmp_path):
    (example,) = examples("README.md")
    assert len([line for line in example.splitlines() if line]) <= GLANCE
    run(example)
    assert (tmp_path / "out.mp4").read_bytes()[4:8] == b"ftyp"
    client.videos.delete(client.videos.list(limit=1).data[0].id)


def test_the_examples_for_python_make_a_program(run, tmp_path):
    run("".join(examples("docs/clients.md")))
    made = {path.name for path in tmp_path.iterdir()}
    assert {"red.mp4", "red.webp", "red.jpg"} <= made
