"""Webhooks are signed by Standard Webhooks, go nowhere but where they are sent, and say why they did not arrive."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from ostler.adapters.bus.webhook import WebhookBus
from ostler.app.world import SystemClock
from ostler.kernel.errors import BusError, ConfigurationError, EventRefused
from ostler.kernel.event import StreamId
from ostler.testing.contracts.event_bus import logged
from tests.adapters.bus.receiver import Answer, Receiver


def new_secret(size: int = 32) -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(size)).decode()


SECRET, OLD_SECRET = new_secret(), new_secret()


class At:
    """A clock that stands."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = await Receiver.start()
    yield receiver
    await receiver.close()


@pytest.fixture
async def bus(receiver: Receiver) -> AsyncIterator[WebhookBus]:
    bus = WebhookBus(receiver.url, secrets=[SECRET, OLD_SECRET], clock=SystemClock(), timeout_s=0.3)
    yield bus
    await bus.close()


async def test_the_library_of_the_specification_verifies_it_with_either_secret(
    bus: WebhookBus, receiver: Receiver
) -> None:
    await bus.publish(logged(1))
    (post,) = receiver.posts
    for secret in (SECRET, OLD_SECRET):
        event = Webhook(secret).verify(post.body, dict(post.headers))
        assert event["id"] == "ses_order/1"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(post.body, dict(post.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(post.body.replace(b'"bale":1', b'"bale":2'), dict(post.headers))
    assert post.headers["content-type"] == "application/cloudevents+json"


async def test_the_signature_is_that_of_the_example_in_the_specification(receiver: Receiver) -> None:
    bus = WebhookBus(receiver.url, secrets=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"], clock=At(1674087231_000_000))
    await bus.publish(logged(1))
    await bus.close()
    (post,) = receiver.posts
    assert post.headers["webhook-timestamp"] == "1674087231"
    signed = b".".join([post.headers["webhook-id"].encode(), b"1674087231", post.body])
    key = base64.b64decode("C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert post.headers["webhook-signature"] == f"v1,{expected}"


async def test_the_id_is_the_same_however_often_it_is_sent_and_has_no_dot(receiver: Receiver, bus: WebhookBus) -> None:
    (record,) = logged(1, stream=StreamId("acme.example", "ses_ä"))
    await bus.publish([record])
    await bus.publish([record])
    assert [post.headers["webhook-id"] for post in receiver.posts] == ["acme%2Eexample/ses_%C3%A4/1"] * 2


async def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    bus = WebhookBus(receiver.url, clock=SystemClock())
    await bus.publish(logged(1))
    await bus.close()
    assert "webhook-signature" not in receiver.posts[0].headers
    assert receiver.posts[0].headers["webhook-id"] == "acme/ses_order/1"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
async def test_a_4xx_refuses_the_event_for_good(receiver: Receiver, bus: WebhookBus, status: int) -> None:
    receiver.answer = lambda post: (
        Answer(status, body=b"bale 2 is\r\n mouldy") if b'"bale":2' in post.body else Answer(200)
    )
    with pytest.raises(EventRefused, match=f"position 2 with HTTP status {status}: bale 2 is mouldy") as refused:
        await bus.publish(logged(3))
    assert refused.value.position == 2
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 301, 307])
async def test_whatever_else_goes_wrong_is_tried_again(receiver: Receiver, bus: WebhookBus, status: int) -> None:
    receiver.answer = lambda post: (
        Answer(status, {"retry-after": "7", "location": receiver.url}) if b'"bale":3' in post.body else Answer(202)
    )
    with pytest.raises(BusError, match=f"HTTP status {status}") as failed:
        await bus.publish(logged(4))
    assert not isinstance(failed.value, EventRefused)
    assert failed.value.kept == 2
    assert failed.value.retry_after_s == (7.0 if status >= 400 else None)
    assert len(receiver.posts) == 2
    assert len(receiver.refused) == 1, "a redirect is not followed"


async def test_silence_is_not_waited_for_any_longer_than_was_said(receiver: Receiver, bus: WebhookBus) -> None:
    receiver.answer = lambda post: Answer(silence=True)
    with pytest.raises(BusError, match=r"did not answer within 0\.3 s"):
        await bus.publish(logged(1))
    receiver.answer = lambda post: Answer(204)
    await bus.publish(logged(1))
    assert len(receiver.posts) == 1


async def test_an_endless_answer_is_read_no_further_than_its_beginning(receiver: Receiver, bus: WebhookBus) -> None:
    receiver.answer = lambda post: Answer(500, body=b"no " * 5_000_000)
    with pytest.raises(BusError) as failed:
        await bus.publish(logged(1))
    assert len(failed.value.message) < 500


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1", "127.0.0.1/x", "http://", "http://[::1/x"]
)
def test_only_web_addresses_are_posted_to(url: str) -> None:
    with pytest.raises(ConfigurationError):
        WebhookBus(url, clock=SystemClock())


@pytest.mark.parametrize("secret", ["hunter2-hunter2", "whsec_", "whsec_c2hvcnQ=", new_secret(65), "whsec_Ä"])
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        WebhookBus("https://example.com", secrets=[secret], clock=SystemClock())
    assert refused.value.hint
    if len(secret) > len("whsec_"):
        assert secret not in repr(refused.value.as_dict())


async def test_credentials_in_the_address_are_used_and_never_shown(receiver: Receiver) -> None:
    receiver.answer = lambda post: Answer(500, body=b"you said anna:hunter2, and http://anna:hunter2@there")
    bus = WebhookBus(receiver.url.replace("http://", "http://anna:hunter2@"), clock=SystemClock())
    with pytest.raises(BusError) as failed:
        await bus.publish(logged(1))
    await bus.close()
    assert receiver.refused[0].headers["authorization"] == "Basic " + base64.b64encode(b"anna:hunter2").decode()
    assert "hunter2" not in repr(failed.value.as_dict())


async def test_the_body_is_the_event(receiver: Receiver, bus: WebhookBus) -> None:
    await bus.publish(logged(1))
    event = json.loads(receiver.posts[0].body)
    assert (event["type"], event["data"]["bale"]) == ("dev.ostler.hay.eaten", 1)
