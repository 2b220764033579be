"""The server and its own document, held against each other by schemathesis."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import Server

ROOT = Path(__file__).resolve().parents[2]
# Requests for each operation and phase; more find more, and take longer.
EXAMPLES = int(os.environ.get("REEL_SCHEMATHESIS_EXAMPLES", "25"))
SEED = os.environ.get("REEL_SCHEMATHESIS_SEED", "1")
# A run of the default length takes well under a minute; one that is stuck ends here.
DEADLINE_S = 60 + 10 * EXAMPLES
# Longer than the longest wait for a video of few steps behind others like it.
REQUEST_TIMEOUT_S = 30
NOT_TRIED = {
    "/v1/pool/drain": "ends the server",
    "/v1/pool/cordon": "without a device all that waits for a video waits for ever",
    "/v1/events": "a stream without an end: its reader would wait for ever",
}


def at_home(document: dict[str, Any], server: Server) -> dict[str, Any]:
    """The document with the names of this server: most of what else it allows is on no menu."""
    models = server.call("GET", "/v1/models").json()["data"]
    shapes = [shape for model in models for shape in model["shapes"] if shape["state"] != "unbaked"]
    devices = server.call("GET", "/v1/pool").json()["devices"]
    slots = [slot for device in devices for slot in device["slots"]]
    schemas = document["components"]["schemas"]
    for request in ("CreateVideo", "CreateVideoForm", "ExtendVideo", "ExtendVideoForm"):
        properties = schemas[request]["properties"]
        for name, words in {
            "model": [model["id"] for model in models],
            "size": sorted({shape["size"] for shape in shapes}),
            "num_frames": sorted({shape["num_frames"] for shape in shapes}),
        }.items():
            if name in properties:
                properties[name]["enum"] = words
        # Excludes the number of frames; no schema of one field can say so.
        del properties["seconds"]
        # Nobody listens there.
        del properties["callback_url"]
    for path, name, words in [
        ("/v1/pool/replace", "slot", [slot["name"] for slot in slots]),
        ("/v1/pool/uncordon", "device", [device["name"] for device in devices]),
    ]:
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        body["schema"]["properties"][name]["enum"] = words
    return document


def test_the_server_does_what_its_document_says(own_server: Server, tmp_path: Path) -> None:
    """No status, type, header or field that is not in the document, and no crash."""
    document = tmp_path / "openapi.json"
    document.write_text(
        json.dumps(at_home(own_server.call("GET", "/openapi.json").json(), own_server))
    )
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "--config-file", ROOT / "tests/e2e/schemathesis.toml",
        "run", document, "--url", own_server.base, "--no-color",
        "--checks", "all", "--max-examples", str(EXAMPLES), "--seed", SEED,
        "--request-timeout", str(REQUEST_TIMEOUT_S), "--max-response-time", str(REQUEST_TIMEOUT_S),
        "--workers", "2",
    ]  # fmt: skip
    for path in NOT_TRIED:
        command += ["--exclude-path", path]
    hooks = {"SCHEMATHESIS_HOOKS": str(ROOT / "tests/e2e/schemathesis_hooks.py")}
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=tmp_path,
        check=False,
        env={**os.environ, **hooks},
    )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    print("\n".join(re.findall(r"(?m)^.*(?:generated|Scenarios|API Links).*$", run.stdout)))
    # A server that serves nothing would contradict nothing.
    videos = own_server.call("GET", "/v1/videos?limit=100").json()["data"]
    completed = [video for video in videos if video["completed_at"]]
    created = own_server.metric(
        'reel_http_requests_total{method="POST",route="/v1/videos",status="200"}'
    )
    assert completed and created, run.stdout
    assert own_server.process and own_server.process.poll() is None
    assert " panicked at " not in own_server.log.read_text()
