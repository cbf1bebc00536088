"""A Redis stream as a bus: each event is one entry whose id is its position in the log."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from ostler.adapters.bus.envelope import Envelope, address, envelope, reason
from ostler.kernel.errors import BusError
from ostler.kernel.event import Record

FIELD = "event"
"""The one field of each entry: the event as CloudEvents JSON."""

_NOT_GREATER = "equal or smaller than the target stream top item"


class RedisBus:
    """Adds events to one stream with `XADD`, in transactions, so that either all of a batch are there or none.

    The id of an entry is `<position>-0`. Redis itself therefore refuses a repeated event and one out of order, and
    whoever reads goes on from any position of the log with `XREAD`. Such a stream belongs to one relay of one log.
    """

    def __init__(
        self,
        url: str,
        *,
        stream: str = "ostler",
        length_max: int | None = None,
        password: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """`length_max` is about how many entries the stream keeps (`MAXLEN ~`); `password` wins over the URL's."""
        self._url = url
        self._address = address(url)
        self._stream = stream
        self._length_max = length_max
        self._password = password
        self._timeout_s = timeout_s
        self._client: Redis | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        if not records:
            return
        envelopes = [envelope(record) for record in records]
        try:
            async with asyncio.timeout(self._timeout_s):
                repeated = await self._add(envelopes)
                if repeated:
                    await self._check_repeated(repeated)
        except (RedisError, OSError, TimeoutError) as error:
            await self._drop()
            raise self._translated(error) from error
        except asyncio.CancelledError:
            await self._drop()
            raise

    async def close(self) -> None:
        await self._drop()

    async def _add(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Add what is new, all or nothing; returns what the stream has gone past already."""
        pipeline = self._connected().pipeline(transaction=True)
        for one in envelopes:
            pipeline.xadd(self._stream, {FIELD: one.body}, id=f"{one.position}-0", maxlen=self._length_max)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        repeated = []
        for one, answer in zip(envelopes, answers, strict=True):
            if isinstance(answer, ResponseError) and _NOT_GREATER in str(answer):
                repeated.append(one)
            elif isinstance(answer, Exception):
                raise answer
        return repeated

    async def _check_repeated(self, envelopes: Sequence[Envelope]) -> None:
        """Make sure that what was refused as a repeat is one: it is there, or was there before it was taken away."""
        pipeline = self._connected().pipeline(transaction=False)
        for one in envelopes:
            pipeline.xrange(self._stream, f"{one.position}-0", f"{one.position}-0")
        found: list[Any] = await pipeline.execute()
        missing = []
        for one, entries in zip(envelopes, found, strict=True):
            if not entries:
                missing.append(one)
            elif not _is_same(entries[0][1].get(FIELD.encode()), one):
                raise self._strange(one.position, "holds another log's event there")
        if missing:
            about: Any = await self._connected().xinfo_stream(self._stream)
            if about["length"] == about.get("entries-added", -1):
                raise self._strange(missing[0].position, "has gone past it without it, and nothing was taken from it")

    def _strange(self, position: int, what: str) -> BusError:
        return BusError(
            f"The event at position {position} cannot be added to the Redis stream {self._stream!r}: it {what}.",
            hint="A stream takes one relay of one log, in order. Name another `stream`, or delete this one.",
        )

    def _connected(self) -> Redis:
        if self._client is None:
            password: dict[str, Any] = {"password": self._password} if self._password else {}
            self._client = Redis.from_url(
                self._url,
                **password,
                # A command is not repeated by the library: the relay repeats the batch.
                retry=Retry(NoBackoff(), 0),
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
            )
        return self._client

    async def _drop(self) -> None:
        """Let go of the connection: after a failure nobody knows which answers are still to come on it."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _translated(self, error: Exception) -> BusError:
        where = self._address.shown
        if isinstance(error, AuthenticationError | AuthorizationError):
            said, hint = f"Redis at {where} does not let us in", "Check the user, and the password in `secret_env`."
        elif isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
            said = f"Redis at {where} did not answer within {self._timeout_s:g} s"
            hint = "Check that it runs and that the network lets us through."
        elif isinstance(error, ResponseError):
            said = f"Redis at {where} refuses the events: {reason(error)}"
            hint = "Check its memory and its rights, and that the key is a stream."
        else:
            said = f"Redis at {where} cannot be reached: {reason(error)}"
            hint = "Check the address, and that the server runs."
        return BusError(self._address.hide(said, self._password or "") + ".", hint=hint)


def _is_same(body: bytes | None, one: Envelope) -> bool:
    if body == one.body:
        return True
    try:
        there, own = msgspec.json.decode(body or b""), msgspec.json.decode(one.body)
        return bool(there["id"] == own["id"] and there["source"] == own["source"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return False
