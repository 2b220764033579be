"""Every error is the typed exception that OpenAI's SDK has for it, with the server's own words."""

import time

import openai
import pytest
from conftest import PROMPT, given, naming
from openai.types import Video

LONG = {"num_inference_steps": 200}
# More than a socket holds: the answer comes while it is being sent.
UPLOAD_BYTES = 4 * 1024 * 1024


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


@pytest.mark.parametrize("key", ["unknown", "reel_0123456789ab_" + "x" * 43])
def test_who_has_no_good_key_is_refused(connect, key):
    given("REEL_ADMIN_KEY")
    with pytest.raises(openai.AuthenticationError) as caught:
        connect(key).videos.list()
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")


def test_a_key_opens_only_what_it_may(connect, client):
    limited = connect(given("REEL_BATCH_KEY"))
    with pytest.raises(openai.PermissionDeniedError) as caught:
        limited.videos.create(prompt=PROMPT, extra_body={"priority": "interactive"})
    assert (caught.value.code, caught.value.param) == ("priority_not_allowed", "priority")
    video = limited.videos.create(prompt=PROMPT, extra_body={**LONG, "priority": "batch"})
    # Another tenant's video is not there at all.
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)
    assert video.id not in [seen.id for seen in client.videos.list()]
    assert limited.videos.delete(video.id).deleted


def test_the_same_key_for_another_request_is_a_conflict(client):
    header = {"Idempotency-Key": f"conflict-{time.time_ns()}"}
    video = client.videos.create(prompt=PROMPT, extra_headers=header, extra_body=LONG)
    with pytest.raises(openai.ConflictError) as caught:
        client.videos.create(prompt="another one", extra_headers=header, extra_body=LONG)
    assert (caught.value.code, caught.value.param) == ("idempotency_conflict", "idempotency-key")
    client.videos.delete(video.id)


def test_who_asks_too_often_is_told_when_to_come_back(connect):
    slow = connect(given("REEL_SLOW_KEY"))
    video = slow.videos.create(prompt=PROMPT, extra_body=LONG)
    with pytest.raises(openai.RateLimitError) as caught:
        slow.videos.create(prompt=PROMPT, extra_body=LONG)
    assert (caught.value.code, caught.value.type) == ("rate_limited", "rate_limit_error")
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
    slow.videos.delete(video.id)


def test_a_video_that_could_not_be_made_is_unprocessable(client):
    alone = {**LONG, "batch": "never"}
    before = [client.videos.create(prompt=PROMPT, extra_body=alone).id for _ in range(4)]
    body = {"prompt": PROMPT, "begin_within_s": 1, **alone}
    with pytest.raises(openai.UnprocessableEntityError, match="there is no video") as caught:
        client.post("/videos/sync", body=body, cast_to=Video)
    assert caught.value.code == "video_failed"
    failed = client.videos.list(limit=1).data[0]
    assert (failed.status, failed.error.code) == ("failed", "deadline_exceeded")
    assert client.videos.poll(failed.id).status == "failed"
    with pytest.raises(openai.NotFoundError) as caught:
        client.videos.download_content(failed.id)
    assert caught.value.code == "video_failed"
    for video_id in (failed.id, *before):
        client.videos.delete(video_id)


@pytest.mark.parametrize("max_retries", [0, 2])
def test_what_no_model_here_can_do_is_said_so_once(connect, completed, max_retries):
    client = connect(max_retries=max_retries)
    for ask in (
        lambda: client.videos.edit(prompt=PROMPT, video=naming(completed)),
        lambda: client.videos.create_character(name="Ann", video=("ann.mp4", b"x" * UPLOAD_BYTES)),
        lambda: client.videos.get_character("char_1"),
    ):
        with pytest.raises(
            openai.InternalServerError, match="none of this server's does"
        ) as caught:
            ask()
        assert (caught.value.status_code, caught.value.code) == (501, "not_implemented")
        tries = caught.value.request.headers["x-stainless-retry-count"]
        assert tries == "0", "to ask again would change nothing"


def test_a_file_cannot_be_extended(client):
    with pytest.raises(openai.BadRequestError, match="only videos of this server") as caught:
        client.videos.extend(prompt=PROMPT, seconds="1", video=("a.mp4", b"x"))
    assert caught.value.param == "video"


def test_a_length_that_cannot_be_added_is_answered_with_those_that_can(client, completed):
    with pytest.raises(openai.BadRequestError, match=r"may be 1 \(8 frames\)") as caught:
        client.videos.extend(prompt=PROMPT, seconds="4", video=naming(completed))
    assert caught.value.param == "seconds"


def test_a_picture_that_only_has_an_address_is_not_fetched(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(
            prompt=PROMPT,
            extra_body={"input_reference": {"image_url": "https://example.com/a.png"}},
        )
    assert (caught.value.code, caught.value.param) == ("image_url_not_allowed", "input_reference")


def test_a_server_that_is_not_there_is_no_status_at_all(connect):
    with pytest.raises(openai.APIConnectionError):
        connect(base_url="http://127.0.0.1:9/v1").videos.list()
