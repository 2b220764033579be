"""An answer that is lost on the way: the SDK asks again, and there is one video all the same."""

import re
import uuid

import openai
import pytest
from conftest import PROMPT, given, naming
from proxy import LosingProxy

BODY = {"num_inference_steps": 2}


def retry_counts(proxy: LosingProxy) -> list[str]:
    heads = "".join(proxy.posts())
    return re.findall(r"(?im)^x-stainless-retry-count: *(\d+)", heads)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_key_of_its_own_makes_a_request_safe_to_send_again(base_url, connect, count, lost):
    header = {"Idempotency-Key": str(uuid.uuid4())}
    with count() as counted, LosingProxy(base_url, lost) as proxy:
        client = connect(base_url=proxy.base_url, max_retries=2)
        video = client.videos.create_and_poll(prompt=PROMPT, extra_headers=header, extra_body=BODY)
        assert video.status == "completed", video.error
    assert retry_counts(proxy) == [str(number) for number in range(lost + 1)]
    assert (counted.videos, counted.runs) == (1, 1)
    connect().videos.delete(video.id)


def test_the_limits_of_a_key_do_not_stand_between_a_client_and_the_video_it_has(base_url, connect):
    key = given("REEL_ONE_JOB_KEY")
    header = {"Idempotency-Key": str(uuid.uuid4())}
    long = {"num_inference_steps": 200}
    with LosingProxy(base_url, lost=1) as proxy:
        client = connect(key, base_url=proxy.base_url, max_retries=1)
        video = client.videos.create(prompt=PROMPT, extra_headers=header, extra_body=long)
    assert retry_counts(proxy) == ["0", "1"]
    one_job = connect(key)
    assert [listed.id for listed in one_job.videos.list()] == [video.id]
    with pytest.raises(openai.RateLimitError) as caught:
        one_job.videos.create(prompt=PROMPT, extra_body=long)
    assert caught.value.code == "too_many_unfinished_jobs"
    one_job.videos.delete(video.id)


@pytest.mark.parametrize("ask", ["remix", "extend"])
def test_a_remix_and_an_extension_are_safe_in_the_same_way(
    base_url, connect, count, completed, ask
):
    header = {"Idempotency-Key": str(uuid.uuid4())}
    with count() as counted, LosingProxy(base_url, lost=1) as proxy:
        videos = connect(base_url=proxy.base_url, max_retries=2).videos
        if ask == "remix":
            video = videos.remix(completed.id, prompt=PROMPT, extra_headers=header)
        else:
            video = videos.extend(
                prompt=PROMPT, seconds="1", video=naming(completed), extra_headers=header
            )
        assert videos.poll(video.id).status == "completed"
    assert len(proxy.posts()) == 2
    assert (counted.videos, counted.runs) == (1, 1)
    connect().videos.delete(video.id)


@pytest.mark.parametrize("lost", [1, 2])
def test_without_a_key_the_tries_that_the_sdk_counts_are_one_request(
    base_url, connect, count, lost
):
    with count() as counted, LosingProxy(base_url, lost) as proxy:
        client = connect(base_url=proxy.base_url, max_retries=2)
        video = client.videos.create_and_poll(prompt=PROMPT, extra_body=BODY)
        assert video.status == "completed", video.error
    # The SDK sends no key by itself: if that changes, this test says so.
    assert "idempotency-key" not in "".join(proxy.heads).lower()
    assert retry_counts(proxy) == [str(number) for number in range(lost + 1)]
    assert (counted.videos, counted.runs) == (1, 1)
    connect().videos.delete(video.id)


def test_a_second_wish_for_the_same_is_a_second_video(connect, count):
    with count() as counted:
        client = connect(max_retries=2)
        made = [client.videos.create_and_poll(prompt=PROMPT, extra_body=BODY) for _ in range(2)]
    assert made[0].id != made[1].id
    assert (counted.videos, counted.runs) == (2, 2)
    for video in made:
        connect().videos.delete(video.id)
