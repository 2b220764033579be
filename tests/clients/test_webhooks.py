"""What the server tells of the ends of jobs is verified and read by the SDK."""

import http.server
import queue
import threading

import openai
import pytest
from conftest import PROMPT, given

# Longest wait for a message.
PATIENCE_S = 30


class Receiver(http.server.ThreadingHTTPServer):
    """Takes every message."""

    def __init__(self, port: int) -> None:
        self.messages: queue.Queue = queue.Queue()
        super().__init__(("127.0.0.1", port), Handler)

    def about(self, video_id: str) -> tuple[str, dict, bytes]:
        """The message about a video: path, headers, body."""
        while True:
            path, headers, body = self.messages.get(timeout=PATIENCE_S)
            if video_id.encode() in body:
                return path, headers, body


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.messages.put((self.path, dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def receiver():
    with Receiver(int(given("REEL_WEBHOOK_PORT"))) as receiver:
        threading.Thread(target=receiver.serve_forever).start()
        yield receiver
        receiver.shutdown()


@pytest.fixture
def callback_url(receiver):
    return f"http://127.0.0.1:{receiver.server_port}/mine"


def test_a_finished_video_is_told_and_signed(client, receiver, callback_url):
    video = client.videos.create(
        prompt=PROMPT, extra_body={"num_inference_steps": 2, "callback_url": callback_url}
    )
    path, headers, body = receiver.about(video.id)
    assert path == "/mine"
    event = client.webhooks.unwrap(body, headers, secret=given("REEL_WEBHOOK_SECRET"))
    assert (event.type, event.object, event.data.id) == ("video.completed", "event", video.id)
    assert client.videos.retrieve(event.data.id).status == "completed"
    assert event.created_at == client.videos.retrieve(video.id).completed_at
    client.videos.delete(video.id)


def test_a_cancelled_video_is_told_as_failed(client, receiver, callback_url):
    video = client.videos.create(
        prompt=PROMPT, extra_body={"num_inference_steps": 200, "callback_url": callback_url}
    )
    client.post(f"/videos/{video.id}/cancel", cast_to=openai.types.Video)
    _, headers, body = receiver.about(video.id)
    event = client.webhooks.unwrap(body, headers, secret=given("REEL_WEBHOOK_SECRET"))
    assert (event.type, event.data.id) == ("video.failed", video.id)
    client.videos.delete(video.id)


def test_a_key_may_say_where_all_of_its_videos_are_told(connect, receiver):
    told = connect(given("REEL_TOLD_KEY"), webhook_secret=given("REEL_TOLD_SECRET"))
    video = told.videos.create(prompt=PROMPT, extra_body={"num_inference_steps": 2})
    path, headers, body = receiver.about(video.id)
    assert path == "/key"
    assert told.webhooks.unwrap(body, headers).data.id == video.id
    told.videos.delete(video.id)


def test_a_message_that_was_changed_or_signed_by_others_is_refused(client, receiver, callback_url):
    video = client.videos.create(
        prompt=PROMPT, extra_body={"num_inference_steps": 2, "callback_url": callback_url}
    )
    _, headers, body = receiver.about(video.id)
    secret = given("REEL_WEBHOOK_SECRET")
    client.webhooks.verify_signature(body, headers, secret=secret)
    for forged, key in (
        (body.replace(b"completed", b"failed"), secret),
        (body, given("REEL_TOLD_SECRET")),
    ):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(forged, headers, secret=key)
    client.videos.delete(video.id)
