"""Models that turn texts into vectors and answer over HTTP: what is the same for all, whatever they speak."""

import asyncio
import json
import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import msgspec

from ostler.domain.screening.controls import neutralise
from ostler.kernel.errors import ConfigurationError, EmbedderError, TextRefused

BATCH_TEXTS = 64
BATCH_BYTES = 256 * 1024
"""Texts that are sent together, and their bytes in UTF-8."""
TEXT_BYTES_MAX = 16 * 1024
"""What is sent of a text: of longer ones their vector is that of their beginning."""
CONNECT_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
WORDS_MAX = 500
_SECRET_MIN = 8
_NOT_THIS_TEXT = (400, 413, 422)
"""Statuses that may mean one of the texts: it is too long, or something in it is not taken."""

Purpose = Literal["document", "query"]


class Model(msgspec.Struct, frozen=True):
    """Which model is asked, and how. `dimensions` None is its own length; the prefixes go before each text, as some
    models were trained to expect.
    """

    name: str
    dimensions: int | None = None
    document_prefix: str = ""
    query_prefix: str = ""


class ServedEmbedder(ABC):
    """Asks a server for vectors, in batches, one after the other. Nothing is retried: whoever asks does that.

    `secret` is taken out of whatever the server says, and `key_name` is where people set it; `transport` replaces the
    network in tests.
    """

    kind: Literal["semantic", "lexical"] = "semantic"
    speaks: str
    """What the server speaks; the fingerprint begins with it."""

    def __init__(
        self,
        model: Model,
        base_url: str,
        *,
        secret: str | None = None,
        key_name: str = "",
        timeout_s: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.model = model
        self.fingerprint = _fingerprint(self.speaks, base_url, model)
        self._base_url = base_url.rstrip("/")
        self._host = urlsplit(base_url).netloc
        self._secret = secret or ""
        self._key_name = key_name
        self._timeout_s = timeout_s
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None

    @property
    @abstractmethod
    def path(self) -> str:
        """Where requests go, below the base URL."""

    @abstractmethod
    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        """The JSON that asks for the vectors of these texts."""

    @abstractmethod
    def vectors(self, answer: bytes) -> list[Sequence[float]]:
        """What the answer holds, in the order of the texts. Raises `msgspec.MsgspecError`, `ValueError`."""

    async def embed(self, texts: Sequence[str], *, purpose: Purpose = "document") -> list[Sequence[float]]:
        prefix = self.model.query_prefix if purpose == "query" else self.model.document_prefix
        vectors: list[Sequence[float]] = []
        for batch in _batches(_sendable(prefix + text) for text in texts):
            vectors += await self._embedded(batch)
        lengths = {len(vector) for vector in vectors}
        if len(lengths) > 1:
            raise EmbedderError(f"{self._host} answered with vectors of different lengths: {sorted(lengths)}.")
        return vectors

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _embedded(self, texts: Sequence[str]) -> list[Sequence[float]]:
        answer = await self._ask(msgspec.json.encode(self.body(texts)))
        try:
            found = self.vectors(answer)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise EmbedderError(
                f"{self._host} answered in a format that it does not document: {_reason(error)}.",
                hint="Check that its base URL is that of a server of embeddings.",
            ) from error
        if len(found) != len(texts):
            raise EmbedderError(f"{self._host} answered with {len(found)} vectors for {len(texts)} texts.")
        wanted = self.model.dimensions
        for vector in found:
            if wanted is not None and len(vector) != wanted:
                raise EmbedderError(
                    f"{self._host} answered with vectors of {len(vector)} numbers instead of {wanted}.",
                    hint=f"{self.model.name} may have one length only: leave `dimensions` out, or set it to that.",
                )
        return [self._unit(vector) for vector in found]

    def _unit(self, vector: Sequence[float]) -> Sequence[float]:
        """The vector at length one."""
        length = math.hypot(*vector) if vector else 0.0
        if not (length and math.isfinite(length)):
            raise EmbedderError(f"{self._host} answered with a vector that has no direction.")
        return array("f", [value / length for value in vector])

    async def _ask(self, body: bytes) -> bytes:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                headers={
                    "user-agent": "ostler",
                    "content-type": "application/json",
                    "accept-encoding": "identity",
                    **self._headers(),
                },
                timeout=httpx2.Timeout(None, connect=CONNECT_S),
                verify=self._base_url.startswith("https:"),
                transport=self._transport,
            )
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", self._base_url + self.path, content=body) as response,
            ):
                answer = await self._read(response)
        except TimeoutError as error:
            raise EmbedderError(f"{self._host} did not answer within {self._timeout_s:g} s.") from error
        except httpx2.HTTPError as error:
            raise EmbedderError(
                f"{self._host} cannot be reached: {self._clean(str(error)) or 'the connection broke'}.",
                hint="Is the server of the embedder running, and does its address hold?",
            ) from error
        if not 200 <= response.status_code < 300:
            raise self._refusal(response, answer)
        return answer

    async def _read(self, response: httpx2.Response) -> bytes:
        answer = bytearray()
        async for chunk in response.aiter_bytes():
            answer += chunk
            if len(answer) > ANSWER_BYTES_MAX:
                raise EmbedderError(f"The answer of {self._host} is longer than {ANSWER_BYTES_MAX} bytes.")
        return bytes(answer)

    def _headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self._secret}"} if self._secret else {}

    def _refusal(self, response: httpx2.Response, answer: bytes) -> EmbedderError:
        status = response.status_code
        words = self._clean(_said(answer)) or "it gives no reason"
        if status in (401, 403) and not self._secret:
            hint = f"It wants a key: set {self._key_name}." if self._key_name else "It wants a key."
        elif status in (401, 403):
            hint = "Check its key: is it valid, and allowed to use this model?"
        elif status == 404:
            hint = f"Is there a model {self.model.name!r}, and does the base URL hold?"
        else:
            hint = ""
        kind = TextRefused if status in _NOT_THIS_TEXT else EmbedderError
        said = f"{self._host} refused with HTTP status {status}: {words}"
        return kind(said, hint=hint, status=status, retry_after_s=_retry_after_s(response.headers))

    def _clean(self, words: str) -> str:
        """On one line, with nothing secret and nothing that acts on a terminal."""
        words = " ".join(neutralise(words).text.split())
        if len(self._secret) >= _SECRET_MIN:
            words = words.replace(self._secret, "[key]")
        return words if len(words) <= WORDS_MAX else words[:WORDS_MAX] + " …"


def key_of(server: str, key: str | None) -> str | None:
    """The key as a header can carry it. Raises `ConfigurationError`, which does not show it."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            f"The API key for {server} contains characters that no key has.",
            hint="Copy the key again: it is one line of ASCII text.",
        )
    return key or None


def _fingerprint(speaks: str, base_url: str, model: Model) -> str:
    """`openai:api.openai.com/v1:text-embedding-3-small:512`, and the prefixes if there are any."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            "The base URL of the embedder is not an HTTP address.",
            hint="It looks like http://localhost:11434 or https://api.openai.com/v1.",
        )
    host = parts.netloc.rpartition("@")[2].lower()
    said = [speaks, host + parts.path.rstrip("/"), model.name, str(model.dimensions or "own length")]
    for name, prefix in (("document", model.document_prefix), ("query", model.query_prefix)):
        if prefix:
            said.append(f"{name}={json.dumps(prefix)}")
    return ":".join(said)


def _sendable(text: str) -> str:
    """The beginning of a text, as it can be sent: in UTF-8, and not empty, which servers refuse."""
    return text.encode("utf-8", "replace")[:TEXT_BYTES_MAX].decode("utf-8", "ignore") or " "


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in their order, so many at once as a request should hold."""
    batch: list[str] = []
    size = 0
    for text in texts:
        weight = len(text.encode())
        if batch and (len(batch) == BATCH_TEXTS or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += weight
    if batch:
        yield batch


def _said(answer: bytes) -> str:
    """The server's own words: `{"error": {"message"}}`, `{"error": "…"}`, `{"message"}`, `{"detail"}`, or text."""
    try:
        found: Any = msgspec.json.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = answer[: WORDS_MAX * 4].decode("utf-8", "replace").strip()
        return "" if text.startswith("<") else text
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    return found if isinstance(found, str) else ""


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks us to wait, if it says so in seconds."""
    with suppress(KeyError, ValueError):
        wait_s = float(headers["retry-after"])
        if math.isfinite(wait_s):
            return max(0.0, wait_s)
    return None


def _reason(error: Exception) -> str:
    """What is wrong with the bytes, without the bytes."""
    return "invalid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).rstrip(".")
