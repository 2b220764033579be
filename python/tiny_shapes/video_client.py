"""A client of the OpenAI Videos API with the standard library alone."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path


class VideoError(RuntimeError):
    """A request was refused or a video failed."""


class VideoClient:
    """Creates videos on a server, waits for them and downloads them."""

    def __init__(self, base_url: str, timeout: float = 120.0) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout

    def _call(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        request = urllib.request.Request(self.base_url + path, data=body, method=method)
        if kind:
            request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")
            raise VideoError(f"{method} {path}: {error.code} {detail}") from error

    def create(self, fields: dict, reference: Path | None = None) -> str:
        """Asks for a video, with a first frame when `reference` is given; returns its id."""
        if reference is None:
            body, kind = json.dumps(fields).encode(), "application/json"
        else:
            body, kind = _multipart(fields, reference)
        return json.loads(self._call("POST", "/v1/videos", body, kind))["id"]

    def wait(self, video: str) -> None:
        """Returns when the video is completed; raises when it failed or took too long."""
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            found = json.loads(self._call("GET", f"/v1/videos/{video}"))
            if found["status"] == "completed":
                return
            if found["status"] == "failed":
                raise VideoError(f"{video}: {found.get('error')}")
            time.sleep(0.05)
        raise VideoError(f"{video}: not completed within {self.timeout:.0f} s")

    def download(self, video: str, path: Path) -> None:
        """Writes the video's MP4 to `path`."""
        path.write_bytes(self._call("GET", f"/v1/videos/{video}/content"))


def _multipart(fields: dict, reference: Path) -> tuple[bytes, str]:
    """The form of a request with an image, and its content type."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    parts.append(
        f"--{boundary}\r\nContent-Disposition: form-data; "
        f'name="input_reference"; filename="{reference.name}"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + reference.read_bytes()
        + b"\r\n"
    )
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"
