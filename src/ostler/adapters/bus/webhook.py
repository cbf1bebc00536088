"""Signed webhooks as a bus: one POST an event, by Standard Webhooks (https://www.standardwebhooks.com)."""

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

import httpx2

from ostler.adapters.bus.envelope import CONTENT_TYPE, Address, Envelope, address, envelope, reason
from ostler.kernel.errors import BusError, ConfigurationError, EventRefused
from ostler.kernel.event import Record
from ostler.ports import Clock

SECRET_PREFIX = "whsec_"
KEY_BYTES = (24, 64)
"""How long a key may be, says the specification."""
ANSWER_BYTES_MAX = 1000
WORDS_MAX = 300
_AGAIN_LATER = (408, 425, 429)


class WebhookBus:
    """Posts each event to one address and waits for its 2xx before the next.

    The address is the operator's alone: only http and https, no redirect is followed, and of an answer no more than its
    beginning is read. A 4xx refuses an event for good, unless it is one that asks for patience.
    """

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str] = (),
        clock: Clock,
        timeout_s: float = 15.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`secrets` (`whsec_…`) each give a signature, so that one can be replaced by another without a gap.

        Raises `ConfigurationError`. `transport` replaces the network in tests.
        """
        self._address = web_address(url)
        self._keys = [signing_key(secret) for secret in secrets]
        self._url = url
        self._clock = clock
        self._timeout_s = timeout_s
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        kept = 0
        for record in records:
            await self._post(envelope(record), kept)
            kept = record.position

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, one: Envelope, kept: int) -> None:
        client = self._connected()
        headers = {"content-type": CONTENT_TYPE, "user-agent": "ostler", **self._signature(one)}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                client.stream("POST", self._url, content=one.body, headers=headers) as answer,
            ):
                if 200 <= answer.status_code < 300:
                    return
                words = await _beginning(answer)
        except TimeoutError as error:
            raise self._failed(f"did not answer within {self._timeout_s:g} s", kept) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise self._failed(f"cannot be reached: {reason(error)}", kept) from error
        raise self._judged(one, answer, words, kept)

    def _judged(self, one: Envelope, answer: httpx2.Response, words: str, kept: int) -> BusError:
        """What an answer other than 2xx means."""
        status = answer.status_code
        said = self._address.hide(f": {words}" if words else "")
        if 400 <= status < 500 and status not in _AGAIN_LATER:
            return EventRefused(
                f"{self._address.shown} refuses the event at position {one.position} with HTTP status {status}{said}",
                position=one.position,
                hint="Mend the receiver, then hand it over again: `ostler relays retry`.",
            )
        if 300 <= status < 400:
            return self._failed(f"redirects (HTTP status {status}), which is not followed", kept)
        return self._failed(f"answered with HTTP status {status}{said}", kept, retry_after_s=_retry_after_s(answer))

    def _failed(self, what: str, kept: int, *, retry_after_s: float | None = None) -> BusError:
        return BusError(
            f"{self._address.shown} {self._address.hide(what)}.",
            kept=kept,
            retry_after_s=retry_after_s,
            hint="Check the address, and that the receiver runs.",
        )

    def _signature(self, one: Envelope) -> dict[str, str]:
        """The headers of Standard Webhooks. A dot separates what is signed, so that the id must have none."""
        name, moment = one.id.replace(".", "%2E"), str(self._clock.now_us() // 1_000_000)
        signed = f"{name}.{moment}.".encode() + one.body
        digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in self._keys]
        headers = {"webhook-id": name, "webhook-timestamp": moment}
        if digests:
            headers["webhook-signature"] = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
        return headers

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                timeout=self._timeout_s,
                follow_redirects=False,
                verify=self._address.scheme == "https",
                transport=self._transport,
            )
        return self._client


def web_address(url: str) -> Address:
    """The parts of an address that events may be posted to. Raises `ConfigurationError`."""
    try:
        found = address(url)
    except ValueError as error:
        raise ConfigurationError(f"The address of the webhook {error}.", hint=_LIKE) from error
    if found.scheme not in ("http", "https"):
        raise ConfigurationError(f"A webhook cannot be posted to {found.scheme}:.", hint=_LIKE)
    return found


def signing_key(secret: str) -> bytes:
    """The key in a secret `whsec_…`. Raises `ConfigurationError`, which does not show it."""
    try:
        if not secret.startswith(SECRET_PREFIX):
            raise ValueError
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX) + "==", validate=False)
    except (ValueError, binascii.Error) as error:
        raise ConfigurationError("A secret for webhooks is not `whsec_` and base64.", hint=_MAKE) from error
    if not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise ConfigurationError(
            f"A secret for webhooks holds {len(key)} bytes; there must be {KEY_BYTES[0]} to {KEY_BYTES[1]}.", hint=_MAKE
        )
    return key


_LIKE = "It looks like https://example.com/events."
_MAKE = "Make one with: echo whsec_$(openssl rand -base64 32)"


async def _beginning(answer: httpx2.Response) -> str:
    """What the receiver says of its refusal, in one line."""
    body = b""
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) >= ANSWER_BYTES_MAX:
            break
    text = body[:ANSWER_BYTES_MAX].decode("utf-8", "replace")
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return "" if words.startswith("<") else words[:WORDS_MAX]


def _retry_after_s(answer: httpx2.Response) -> float | None:
    """The seconds that the receiver asks for; a date is left to our own schedule."""
    given = answer.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else None
