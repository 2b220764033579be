"""Everything that OpenAI's Python SDK does with videos, unmodified, against Reel."""

import io
import json
import re
import shutil
import struct
import subprocess
import zlib

import openai
import pytest

# The SDK warns that OpenAI's own service has closed; that is why this server exists.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PROMPT = "a red circle moving right on a black background"
FEW_STEPS = {"num_inference_steps": 2}


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """A PNG of one colour, made by hand so that nothing but the SDK is needed."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes(colour) * width) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_create_and_poll_ends_with_a_completed_video(completed):
    assert re.fullmatch(r"video_[0-9a-f]{32}", completed.id)
    assert completed.object == "video"
    assert completed.progress == 100
    assert completed.error is None
    assert completed.expires_at == completed.completed_at + 7 * 24 * 3600
    assert completed.remixed_from_video_id is None
    assert (completed.size, completed.seconds) == ("64x64", "2.125")
    assert completed.completed_at >= completed.created_at


def test_extensions_are_shown_beside_openais_fields(completed):
    assert completed.seed == 7
    assert (completed.shape, completed.fps, completed.num_frames) == ("64x64@17f", 8, 17)
    assert (completed.steps, completed.step, completed.attempts) == (4, 4, 1)
    assert completed.status_detail == "completed"


def test_every_field_has_the_type_that_the_sdk_declares(client, completed):
    raw = json.loads(client.videos.with_raw_response.retrieve(completed.id).text)
    types = {name: type(value) for name, value in raw.items()}
    for name in ("id", "object", "model", "status", "size", "seconds", "prompt"):
        assert types[name] is str, name
    for name in ("created_at", "completed_at", "progress"):
        assert types[name] is int, name


def test_the_content_is_an_mp4_of_the_length_asked_for(client, completed, tmp_path):
    path = tmp_path / "video.mp4"
    client.videos.download_content(completed.id).write_to_file(path)
    assert path.read_bytes()[4:8] == b"ftyp"
    if shutil.which("ffprobe"):
        entries = "stream=codec_name,width,height,pix_fmt,r_frame_rate,nb_read_frames"
        command = [
            "ffprobe",
            "-v",
            "error",
            "-count_frames",
            "-show_entries",
            entries,
            "-of",
            "csv=p=0",
            path,
        ]
        probed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert probed == "h264,64,64,yuv420p,8/1,17"


def test_the_content_can_be_streamed(client, completed):
    whole = client.videos.download_content(completed.id).read()
    with client.videos.with_streaming_response.download_content(
        completed.id, variant="video"
    ) as response:
        streamed = b"".join(response.iter_bytes())
        assert int(response.headers["content-length"]) == len(whole)
    assert streamed == whole


def test_the_same_seed_gives_the_same_bytes(client, completed):
    again = client.videos.create_and_poll(
        prompt=PROMPT,
        size="64x64",
        seconds="2.125",
        extra_body={"seed": 7, "fps": 8, "num_inference_steps": 4},
    )
    first = client.videos.download_content(completed.id).read()
    assert client.videos.download_content(again.id).read() == first
    client.videos.delete(again.id)


def test_an_image_file_makes_it_image_to_video(client):
    image = ("first.png", io.BytesIO(png(64, 64, (0, 0, 255))), "image/png")
    video = client.videos.create_and_poll(
        prompt=PROMPT, input_reference=image, size="64x64", extra_body=FEW_STEPS
    )
    assert video.status == "completed", video.error
    assert video.mode == "i2v"
    client.videos.delete(video.id)


def test_lists_are_paged_by_the_sdk(client):
    made = [client.videos.create(prompt=PROMPT, extra_body=FEW_STEPS).id for _ in range(3)]
    newest_first = [video.id for video in client.videos.list(limit=2)]
    assert newest_first[:3] == made[::-1]
    assert len(newest_first) == len(set(newest_first))
    oldest_first = [video.id for video in client.videos.list(limit=2, order="asc")]
    assert oldest_first == newest_first[::-1]
    for video_id in made:
        client.videos.delete(video_id)


def test_a_deleted_video_is_gone(client):
    video = client.videos.create(prompt=PROMPT, extra_body=FEW_STEPS)
    deleted = client.videos.delete(video.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)
    with pytest.raises(openai.NotFoundError):
        client.videos.delete(video.id)


def test_a_running_video_is_cancelled_by_deleting_it(client):
    video = client.videos.create(prompt=PROMPT, extra_body={"num_inference_steps": 200})
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_content_that_is_not_there_yet_is_an_error(client):
    video = client.videos.create(prompt=PROMPT, extra_body={"num_inference_steps": 200})
    with pytest.raises(openai.NotFoundError) as caught:
        client.videos.download_content(video.id)
    assert caught.value.code == "video_not_ready"
    client.videos.delete(video.id)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": PROMPT, "size": "65x64"}, "size"),
        ({"prompt": PROMPT, "seconds": "999"}, "seconds"),
        ({"prompt": PROMPT, "model": "sora-2"}, "model"),
        ({"prompt": PROMPT, "input_reference": ("a.png", b"not an image")}, "input_reference"),
        ({"prompt": PROMPT, "extra_body": {"num_inference_steps": 201}}, "num_inference_steps"),
        ({"prompt": PROMPT, "extra_body": {"guidance_scale": 21}}, "guidance_scale"),
        ({"prompt": PROMPT, "extra_body": {"seed": "x"}}, "seed"),
        ({"prompt": PROMPT, "extra_body": {"num_step": 3}}, "num_step"),
    ],
)
def test_bad_input_is_a_typed_exception_that_names_the_parameter(client, arguments, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(**arguments)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code


def test_a_shape_that_is_not_served_is_answered_with_the_menu(client):
    with pytest.raises(openai.BadRequestError, match="64x64@17f"):
        client.videos.create(prompt=PROMPT, size="1280x720")


@pytest.mark.parametrize("video_id", ["video_" + "0" * 32, "video_1", "x"])
def test_an_unknown_video_is_a_typed_exception(client, video_id):
    with pytest.raises(openai.NotFoundError) as caught:
        client.videos.retrieve(video_id)
    assert caught.value.code == "video_not_found"


def test_models_are_listed_with_their_shapes(client):
    models = client.models.list().data
    assert models[0].owned_by == "reel"
    assert "64x64@17f" in [shape["shape"] for shape in models[0].shapes]
    assert client.models.retrieve(models[0].id) == models[0]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("sora-2")
