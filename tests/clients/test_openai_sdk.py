"""Everything that OpenAI's Python SDK does with videos, unmodified, against Reel."""

import asyncio
import base64
import io
import json
import re
import struct
import subprocess
import zlib
from pathlib import Path

import openai
import pytest
from conftest import PROMPT, SETTINGS, naming

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


def probe(path: Path) -> str:
    """What the first stream is, every frame counted."""
    entries = "stream=codec_name,width,height,pix_fmt,r_frame_rate,nb_read_frames"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", entries]
    command += ["-of", "csv=p=0", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def frames(path: Path, pixels: str = "yuv420p") -> list[bytes]:
    """Every picture of a video of 64x64, decoded."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", pixels, "-"]
    decoded = subprocess.run(command, capture_output=True, check=True).stdout
    size = 64 * 64 * 3 // (1 if pixels == "rgb24" else 2)
    return [decoded[at : at + size] for at in range(0, len(decoded), size)]


@pytest.fixture(scope="module")
def made(client):
    """Three videos, the oldest first."""
    made = [client.videos.create(prompt=PROMPT, extra_body=FEW_STEPS).id for _ in range(3)]
    yield made
    for video_id in made:
        client.videos.delete(video_id)


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
    assert probe(path) == "h264,64,64,yuv420p,8/1,17"


@pytest.mark.parametrize(
    ("variant", "kind", "begins"),
    [
        ("video", "video/mp4", b"\0\0\0"),
        ("thumbnail", "image/webp", b"RIFF"),
        ("spritesheet", "image/jpeg", b"\xff\xd8"),
    ],
)
def test_every_variant_of_the_content_can_be_had(client, completed, variant, kind, begins):
    content = client.videos.download_content(completed.id, variant=variant)
    assert content.response.headers["content-type"] == kind
    assert content.read().startswith(begins)


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
        extra_body=SETTINGS,
    )
    first = client.videos.download_content(completed.id).read()
    assert client.videos.download_content(again.id).read() == first
    client.videos.delete(again.id)


@pytest.mark.parametrize("way", ["file", "path", "data-url", "object"])
def test_an_image_makes_it_image_to_video(client, tmp_path, way):
    picture = png(64, 64, (0, 0, 255))
    path = tmp_path / "first.png"
    path.write_bytes(picture)
    data_url = "data:image/png;base64," + base64.b64encode(picture).decode()
    fields = {"seed": 1, **FEW_STEPS}
    arguments = {
        "file": {"input_reference": ("first.png", io.BytesIO(picture), "image/png")},
        "path": {"input_reference": path},
        "data-url": {"input_reference": (None, data_url.encode())},
        "object": {"extra_body": {"input_reference": {"image_url": data_url}, **fields}},
    }
    video = client.videos.create_and_poll(
        **{
            "prompt": "a red circle moving right on a white background",
            "extra_body": fields,
            **arguments[way],
        }
    )
    assert video.status == "completed", video.error
    assert video.mode == "i2v"
    out = tmp_path / "out.mp4"
    client.videos.download_content(video.id).write_to_file(out)
    first = frames(out, "rgb24")[0]
    red, blue = (sum(first[channel::3]) / (64 * 64) for channel in (0, 2))
    assert blue > 200 > 100 > red, "it begins with the picture"
    client.videos.delete(video.id)


def test_objects_where_files_may_be_do_not_get_out_of_the_sdk(client, completed):
    # What its types allow and its code refuses; if that changes, docs/clients.md gets simpler.
    with pytest.raises(RuntimeError, match="Expected entry at `video`"):
        client.videos.extend(prompt=PROMPT, seconds="1", video={"id": completed.id})
    with pytest.raises(RuntimeError, match="Expected entry at `input_reference`"):
        client.videos.create(prompt=PROMPT, input_reference={"image_url": "data:,"})


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_lists_are_paged_by_the_sdk(client, made, limit):
    newest_first = [video.id for video in client.videos.list(limit=limit)]
    assert [id for id in newest_first if id in made] == made[::-1]
    assert len(newest_first) == len(set(newest_first))
    oldest_first = [video.id for video in client.videos.list(limit=limit, order="asc")]
    assert oldest_first == newest_first[::-1]


def test_a_page_goes_on_after_its_last_video(client, made):
    first = client.videos.list(limit=2)
    assert (len(first.data), first.has_more, first.last_id) == (2, True, first.data[1].id)
    second = first.get_next_page()
    assert second.data[0].id == client.videos.list(limit=3).data[2].id


def test_a_remix_has_another_prompt_and_the_same_seed(client, completed, tmp_path):
    remixed = client.videos.remix(
        completed.id, prompt="a blue square moving up on a white background"
    )
    assert remixed.remixed_from_video_id == completed.id
    remixed = client.videos.poll(remixed.id)
    assert remixed.status == "completed", remixed.error
    assert remixed.prompt == "a blue square moving up on a white background"
    assert remixed.remixed_from_video_id == completed.id
    kept = ("seed", "steps", "fps", "shape", "size", "seconds", "model")
    for name in kept:
        assert getattr(remixed, name) == getattr(completed, name), name
    first, second = (client.videos.download_content(id).read() for id in (completed.id, remixed.id))
    assert first != second
    client.videos.delete(remixed.id)


@pytest.mark.parametrize("way", ["field", "object"])
def test_an_extension_goes_on_where_the_video_ends(client, completed, tmp_path, way):
    arguments = {
        "field": {"video": naming(completed), "extra_body": FEW_STEPS},
        "object": {
            "video": openai.omit,
            "extra_body": {"video": {"id": completed.id}, **FEW_STEPS},
        },
    }
    extended = client.videos.extend(prompt=PROMPT, seconds="1", **arguments[way])
    assert extended.extended_from_video_id == completed.id
    extended = client.videos.poll(extended.id)
    assert extended.status == "completed", extended.error
    assert extended.extended_from_video_id == completed.id
    assert float(extended.seconds) == float(completed.seconds) + 1
    assert extended.num_frames == completed.num_frames + 8
    before, after = tmp_path / "before.mp4", tmp_path / "after.mp4"
    client.videos.download_content(completed.id).write_to_file(before)
    client.videos.download_content(extended.id).write_to_file(after)
    assert probe(after) == "h264,64,64,yuv420p,8/1,25"
    assert frames(after)[:17] == frames(before), "the earlier video, frame by frame"
    client.videos.delete(extended.id)


def test_the_time_to_ask_again_is_a_header_of_the_raw_answer(client):
    raw = client.videos.with_raw_response.create(
        prompt=PROMPT, extra_body={"num_inference_steps": 200}
    )
    assert 100 <= int(raw.headers["openai-poll-after-ms"]) <= 5000
    video = raw.parse()
    asked = client.videos.with_raw_response.retrieve(video.id)
    assert int(asked.headers["openai-poll-after-ms"]) > 0
    client.videos.delete(video.id)


def test_a_finished_video_need_not_be_asked_for_again(client, completed):
    raw = client.videos.with_raw_response.retrieve(completed.id)
    assert "openai-poll-after-ms" not in raw.headers


def test_the_asynchronous_client_does_the_same(base_url, client):
    async def make(client: openai.AsyncOpenAI, seed: int) -> tuple[openai.types.Video, bytes]:
        video = await client.videos.create_and_poll(
            prompt=PROMPT, extra_body={**FEW_STEPS, "seed": seed}
        )
        content = await client.videos.download_content(video.id)
        return video, await content.aread()

    async def all_at_once() -> None:
        async with openai.AsyncOpenAI(
            base_url=base_url, api_key=client.api_key, max_retries=0
        ) as at_once:
            made = await asyncio.gather(*(make(at_once, seed) for seed in (1, 1, 2)))
            contents = [content for _, content in made]
            assert contents[0] == contents[1] != contents[2]
            listed = [video.id async for video in at_once.videos.list(limit=1)]
            for video, _ in made:
                assert video.status == "completed", video.error
                assert video.id in listed
                assert (await at_once.videos.delete(video.id)).deleted
            with pytest.raises(openai.NotFoundError):
                await at_once.videos.retrieve(made[0][0].id)

    asyncio.run(all_at_once())


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


def test_models_are_listed_with_their_shapes(client):
    models = client.models.list().data
    assert models[0].owned_by == "reel"
    assert "64x64@17f" in [shape["shape"] for shape in models[0].shapes]
    assert client.models.retrieve(models[0].id) == models[0]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("sora-2")
