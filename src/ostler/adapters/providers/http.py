"""HTTP to model providers: one streamed answer a call, and every failure as an error of ours. Nothing is retried."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec

from ostler.adapters.providers.dialect import Text
from ostler.adapters.providers.sse import EventDecoder
from ostler.domain.screening.controls import neutralise
from ostler.kernel.errors import (
    ConfigurationError,
    ContextTooLong,
    IncompleteReply,
    ProviderError,
    ProviderGarbled,
    ProviderOverloaded,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)

CONNECT_S = 10.0
REPLY_BYTES_MAX = 64 * 1024 * 1024
REFUSAL_BYTES_MAX = 64 * 1024
WORDS_MAX = 1000
PARTIAL_BYTES_MAX = 4096
IDLE_CONNECTIONS_MAX = 64
LINGER_S = 0.2
"""How long a complete reply waits for the end of the HTTP body, without which the connection cannot be used again."""
LISTEN_S = 10.0
"""The same where no event is sure to be the last: so long a silence is taken for the end."""

_SHOULD_RETRY = {"true": True, "false": False}
"""What `x-should-retry` says, which Anthropic and OpenAI send with errors that their status alone would misjudge."""

_SECRET_MIN = 8
"""Shorter keys (`none`, `ollama`) are placeholders, and taking them out of messages would only garble these."""

_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"([0-9]{1,9}(?:\.[0-9]{1,9})?)s"')

_TOO_LONG_CODES = ("context_length_exceeded", "exceed_context_size_error")
_TOO_LONG = re.compile(
    r"^(?!'?max_(?:completion_)?tokens).*?(?:(?:prompt|input) is too long|maximum (?:context|prompt|model) length|"
    r"exceeds? (?:the )?(?:available )?context|input token count .{0,40}exceeds)",
    re.IGNORECASE | re.DOTALL,
)
"""How Anthropic, OpenAI, Google and those who serve models in OpenAI's dialect say that a request is too long, and not
that its reply may be too long."""

Advice = Callable[[int, str], str]
"""From the status and the provider's words to what the user can do about it."""


class Endpoint:
    """One provider's address, spoken to by one HTTP client, which is made when it is first needed.

    `secret` is taken out of whatever the provider says. `transport` replaces the network in tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        secret: str | None,
        advise: Advice,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.host = _host(base_url)
        self._base_url = base_url.rstrip("/")
        # Unpacked, two kilobytes may be a gigabyte.
        asked = {"user-agent": "ostler", "content-type": "application/json", "accept-encoding": "identity"}
        self._headers = {**asked, **headers}
        self._secret = secret or ""
        self._advise = advise
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None

    async def stream(
        self,
        path: str,
        body: bytes,
        *,
        timeout_s: float,
        on_data: Callable[[bytes], bool],
        text: Text,
        is_whole: Callable[[], bool] | None = None,
    ) -> None:
        """POST `body` and give `on_data` the data of each event, until it says that the reply is complete.

        Where no event is sure to be the last, there is `is_whole`: what follows is read too and may say otherwise, and
        it has the last word where the HTTP body ends in order. Raises `IncompleteReply` if the stream ends before the
        reply, `ProviderTimeout` after `timeout_s` for all of it. The error tells how the `text` of the reply began.
        """
        try:
            done = await self._stream(path, body, timeout_s, on_data, listens_on=is_whole is not None)
            if not done and (is_whole is None or not is_whole()):
                raise IncompleteReply()
        except ProviderError as error:
            error.partial_text = str(text).encode()[:PARTIAL_BYTES_MAX].decode(errors="ignore")
            raise

    async def _stream(
        self, path: str, body: bytes, timeout_s: float, on_data: Callable[[bytes], bool], *, listens_on: bool
    ) -> bool:
        """Whether `on_data` said that the reply is complete; if it `listens_on`, the last time that it was asked."""
        began = done = False
        received, linger_s = 0, LISTEN_S if listens_on else LINGER_S
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        decoder = EventDecoder()
        try:
            async with asyncio.timeout(timeout_s) as deadline, self._open("POST", path, body) as response:
                began = True
                await self._expect(response, "text/event-stream")
                async for chunk in response.aiter_bytes():
                    received += len(chunk)
                    if received > REPLY_BYTES_MAX:
                        raise ProviderGarbled(f"The reply of {self.host} is longer than {REPLY_BYTES_MAX} bytes.")
                    for data in decoder.feed(chunk):
                        if not done or listens_on:
                            was_done, done = done, on_data(data)
                            if done or was_done:
                                deadline.reschedule(min(loop.time() + linger_s, until) if done else until)
        except (TimeoutError, httpx2.HTTPError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if not done or (listens_on and not isinstance(error, TimeoutError)):
                raise self._translated(error, began=began, timeout_s=timeout_s) from error
        return done

    async def get(self, path: str, *, timeout_s: float) -> bytes:
        """The body of a JSON answer."""
        began = False
        try:
            async with asyncio.timeout(timeout_s), self._open("GET", path) as response:
                began = True
                await self._expect(response, "application/json")
                return await _beginning(response, REPLY_BYTES_MAX)
        except (TimeoutError, httpx2.HTTPError) as error:
            raise self._translated(error, began=began, timeout_s=timeout_s) from error

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def failure(
        self,
        status: int,
        words: str,
        *,
        code: str = "",
        retry_after_s: float | None = None,
        may_retry: bool | None = None,
    ) -> ProviderError:
        """The error that an HTTP status, or an error within a stream that amounts to one, stands for.

        `may_retry` is what the provider itself says of another try; None if it leaves that to the status.
        """
        words = self._clean(words) or f"{self.host} answered with HTTP status {status} and no reason."
        kind = _kind(status, code, words)
        if may_retry is not None and may_retry != kind.retryable:
            kind = ProviderOverloaded if may_retry else ProviderRejected
        hint = self._advise(status, words)
        return kind(words, status=status, retry_after_s=retry_after_s if kind.retryable else None, hint=hint)

    @asynccontextmanager
    async def _open(self, method: str, path: str, body: bytes | None = None) -> AsyncIterator[httpx2.Response]:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                headers=self._headers,
                # Reading has no limit of its own: the caller's deadline bounds silence too.
                timeout=httpx2.Timeout(None, connect=CONNECT_S),
                # Loading certificates takes 0.1 s, which a local server without TLS need not cost.
                verify=self._base_url.startswith("https:"),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS_MAX),
                transport=self._transport,
            )
        async with self._client.stream(method, self._base_url + path, content=body) as response:
            yield response

    async def _expect(self, response: httpx2.Response, media_type: str) -> None:
        status = response.status_code
        packed = response.headers.get("content-encoding", "identity") != "identity"
        given = response.headers.get("content-type", media_type).partition(";")[0].strip().lower()
        is_refused = not 200 <= status < 300
        if not (is_refused or packed) and (given == media_type or given not in ("application/json", "text/html")):
            return
        said_to_be, body = f"packed {given}", b""
        if not packed:
            said_to_be, body = given, await _beginning(response, REFUSAL_BYTES_MAX)
        words, code = said(body)
        if is_refused:
            wait_s = retry_after_s(response.headers)
            raise self.failure(
                status,
                words,
                code=code,
                retry_after_s=retry_delay_s(body) if wait_s is None else wait_s,
                may_retry=_SHOULD_RETRY.get(response.headers.get("x-should-retry", "")),
            )
        raise ProviderGarbled(
            self._clean(words.strip() or f"{self.host} answered with {said_to_be} where {media_type} was expected."),
            status=status,
            hint=f"Check that the base URL {self.host} is that of a model API.",
        )

    def _translated(self, error: Exception, *, began: bool, timeout_s: float) -> ProviderError:
        match error:
            case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
                reason = self._clean(str(error)) or "no answer"
                return ProviderUnreachable(
                    f"{self.host} cannot be reached: {reason}.", hint="Check the base URL, the network and the proxy."
                )
            case TimeoutError() | httpx2.TimeoutException():
                return ProviderTimeout(
                    f"{self.host} did not finish within {timeout_s:g} s.", hint="A larger timeout_s may help."
                )
            case httpx2.DecodingError() | msgspec.MsgspecError() | UnicodeDecodeError() | RecursionError():
                return ProviderGarbled(f"{self.host} answered in a format that it does not document: {_reason(error)}.")
            case _ if began:
                return IncompleteReply(f"The connection to {self.host} broke before the reply was complete.")
            case _:
                return ProviderUnreachable(f"The connection to {self.host} broke before a reply began.")

    def _clean(self, words: str) -> str:
        """On one line, with nothing secret and nothing that acts on a terminal."""
        words = " ".join(neutralise(words).text.split())
        if len(self._secret) >= _SECRET_MIN:
            words = words.replace(self._secret, "[key]")
        return words if len(words) <= WORDS_MAX else words[:WORDS_MAX] + " …"


def key_advice(variable: str) -> str:
    """What to do where a key was refused; `variable` holds the one for the API's own server."""
    return f"Check the key ({variable}, or your provider's key_env): is it set, valid, and allowed to use this model?"


def bearer(provider: str, key: str | None) -> str | None:
    """The key as a header can carry it. Raises `ConfigurationError`, which does not show it."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            f"The API key for {provider} contains characters that no key has.",
            hint="Copy the key again: it is one line of ASCII text.",
        )
    return key or None


def said(body: bytes) -> tuple[str, str]:
    """The provider's own words and its code for the kind of error, both empty if the body has none.

    Understands `{"error": {"message", "type", "code"}}`, `{"error": "…"}`, `{"message": "…"}`, `{"detail": "…"}`, a
    list that begins with one of these, and plain text.
    """
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        return ("", "") if text.startswith("<") else (text, "")
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if isinstance(answer, dict):
        answer = answer.get("error") or answer
    if isinstance(answer, dict):
        words = answer.get("message") or answer.get("detail") or ""
        return words if isinstance(words, str) else str(words), str(answer.get("code") or answer.get("type") or "")
    return answer if isinstance(answer, str) else "", ""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the provider asks us to wait, from `retry-after-ms` or `retry-after` (RFC 9110: seconds or a date).

    A date is compared with the server's own `date`, so that our clock does not matter.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            wait_s = float(headers[name]) * unit_s
            if math.isfinite(wait_s):
                return max(0.0, wait_s)
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        until = parsedate_to_datetime(headers["retry-after"])
        until = until if until.tzinfo else until.replace(tzinfo=UTC)  # asctime's format, which names no zone
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    return None


def retry_delay_s(body: bytes) -> float | None:
    """How long Google asks us to wait: the `google.rpc.RetryInfo` of an error has it in seconds (`"17.5s"`)."""
    found = _RETRY_DELAY.search(body)
    return float(found[1]) if found else None


def _kind(status: int, code: str, words: str) -> type[ProviderError]:
    match status:
        case 400 | 413 | 422 if code in _TOO_LONG_CODES or _TOO_LONG.search(words):
            return ContextTooLong
        case 429 if code == "insufficient_quota":  # OpenAI: the account has no credit, which waiting does not bring
            return ProviderRejected
        case 429:
            return RateLimited
        case 408 | 504:
            return ProviderTimeout
        case 409 | 425:  # the same request may pass in a moment
            return ProviderOverloaded
        case _:
            return ProviderOverloaded if status >= 500 else ProviderRejected


async def _beginning(response: httpx2.Response, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def _host(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            "The base URL of the model provider is not an HTTP address.",
            hint="It looks like http://localhost:11434/v1 or https://api.openai.com/v1.",
        )
    return parts.hostname + port


def _reason(error: Exception) -> str:
    """What is wrong with the bytes, without the bytes."""
    return "invalid UTF-8" if isinstance(error, UnicodeDecodeError) else re.sub(r"\.$", "", str(error))
