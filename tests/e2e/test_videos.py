"""A prompt in, a real video out."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

from conftest import PROGRAMS, PROMPT, Server


def probe(path: Path) -> dict:
    """What ffprobe says of the first stream, every frame counted."""
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", path]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"][0]


def download(server: Server, video: str, path: Path) -> Path:
    """The MP4 of a finished video."""
    answer = server.call("GET", f"/v1/videos/{video}/content")
    assert answer.status == 200, answer.body
    path.write_bytes(answer.body)
    return path


def test_a_prompt_becomes_an_mp4_of_the_promised_kind(server: Server, tmp_path: Path) -> None:
    created = server.create(seed=3)
    assert (created["object"], created["status"]) == ("video", "queued")
    video = server.finish(created["id"])
    assert video["status"] == "completed", video
    assert (video["progress"], video["size"], video["num_frames"]) == (100, "64x64", 17)
    stream = probe(download(server, video["id"], tmp_path / "video.mp4"))
    kind = (stream["codec_name"], stream["pix_fmt"], stream["width"], stream["height"])
    assert kind == ("h264", "yuv420p", 64, 64)
    assert (stream["nb_read_frames"], stream["r_frame_rate"]) == ("17", "8/1")


def test_the_same_seed_gives_the_same_video_and_another_one_another(
    server: Server, tmp_path: Path
) -> None:
    digests = []
    for seed in (5, 5, 6):
        video = server.finish(server.create(seed=seed, num_inference_steps=4)["id"])
        content = download(server, video["id"], tmp_path / "video.mp4").read_bytes()
        digests.append(hashlib.sha256(content).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_every_shape_of_the_menu_is_served(server: Server, tmp_path: Path) -> None:
    video = server.finish(server.create(size="96x64", num_frames=17, num_inference_steps=4)["id"])
    assert video["status"] == "completed", video
    stream = probe(download(server, video["id"], tmp_path / "wide.mp4"))
    assert (stream["width"], stream["height"]) == (96, 64)


def test_the_command_line_makes_a_video(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    command = [
        PROGRAMS / "reel",
        "generate",
        PROMPT,
        "--base-url",
        server.base,
        "-o",
        out,
        "--steps",
        "4",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(out) in done.stdout
    assert probe(out)["nb_read_frames"] == "17"


def test_bad_input_never_reaches_a_worker(server: Server) -> None:
    cases = [
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"size": "1280x720"}, "size"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"guidance_scale": 20.5}, "guidance_scale"),
        ({"model": "sora-2"}, "model"),
        ({"promt": "x"}, "promt"),
    ]
    before = server.call("GET", "/v1/videos").json()["data"]
    for fields, param in cases:
        answer = server.call("POST", "/v1/videos", {"prompt": PROMPT, **fields})
        assert (answer.status, answer.json()["error"]["param"]) == (400, param), answer.body
    assert server.call("GET", "/v1/videos").json()["data"] == before
