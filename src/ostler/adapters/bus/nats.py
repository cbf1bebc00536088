"""NATS JetStream as a bus: one stream, and a subject for each tenant and type of event."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from nats.aio.client import Client
from nats.errors import AuthorizationError, Error, InvalidUserCredentialsError, NoServersError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError, NotFoundError

from ostler.adapters.bus.envelope import CONTENT_TYPE, Envelope, address, envelope, reason
from ostler.kernel.errors import BusError, EventRefused
from ostler.kernel.event import Record

PORT = 4222
REPEATS_S = 120.0
"""For how long a stream that we make recognises a repeated event. Later ones are there twice, with the same id."""

_CONNECTION = (Error, OSError, TimeoutError)


class NatsBus:
    """Publishes to `<subject>.<tenant>.<type>`, and makes the stream if there is none.

    `Nats-Msg-Id` lets the server drop repeats. All of a batch is under way at once; each event names the one before it
    in `Nats-Expected-Last-Msg-Id`, so that after one that failed the server takes none of those that follow.
    """

    def __init__(
        self,
        url: str,
        *,
        stream: str = "OSTLER",
        subject: str = "ostler",
        password: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """`password` is that of the user in the URL, or a token if it names none."""
        self._address = address(url)
        self._stream = stream
        self._subject = subject
        self._password = password or self._address.password
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._lost = asyncio.Event()
        self._said = ""

    async def publish(self, records: Sequence[Record]) -> None:
        if not records:
            return
        envelopes = [envelope(record) for record in records]
        kept = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                jetstream, size_max = await self._connected()
                fitting, refused = self._fitting(envelopes, size_max)
                done = await self._all_at_once(jetstream, fitting)
                # Usually nothing is left. Otherwise the first of these says what is wrong, when it is tried alone.
                for one in fitting[done:]:
                    kept = fitting[done - 1].position if done else 0
                    await jetstream.publish(
                        self._subject_of(one), one.body, timeout=self._timeout_s, headers=self._headers(one)
                    )
                    done += 1
        except _CONNECTION as error:
            await self._drop()
            raise self._translated(error, kept) from error
        except asyncio.CancelledError:
            await self._drop()
            raise
        if refused is not None:
            raise EventRefused(
                f"The event at position {refused.position} has {len(refused.body)} bytes, and NATS at "
                f"{self._address.shown} takes {size_max}.",
                position=refused.position,
                hint="Raise `max_payload` of the server.",
            )

    async def close(self) -> None:
        await self._drop()

    def _fitting(self, envelopes: list[Envelope], size_max: int) -> tuple[list[Envelope], Envelope | None]:
        """The events up to the first that is too large, and that one."""
        for number, one in enumerate(envelopes):
            headers = sum(len(name) + len(value) + 4 for name, value in self._headers(one, after=one).items())
            if len(one.body) + headers + len(b"NATS/1.0\r\n\r\n") > size_max:
                return envelopes[:number], one
        return envelopes, None

    async def _all_at_once(self, jetstream: JetStreamContext, envelopes: Sequence[Envelope]) -> int:
        """Publish without waiting in between; returns how many, from the first on, are there."""
        answers: list[asyncio.Future[Any]] = []
        before: Envelope | None = None
        try:
            for one in envelopes:
                headers = self._headers(one, after=before)
                answers.append(await jetstream.publish_async(self._subject_of(one), one.body, headers=headers))
                before = one
            await self._answered(answers)
        finally:
            for answer in answers:
                answer.cancel()
        done = 0
        for answer in answers:
            if answer.cancelled() or answer.exception() is not None:
                break
            done += 1
        return done

    async def _answered(self, answers: Sequence[asyncio.Future[Any]]) -> None:
        """Wait for all answers, or until the connection is lost: then the rest will never come."""
        lost: asyncio.Future[Any] = asyncio.ensure_future(self._lost.wait())
        everything: asyncio.Future[Any] = asyncio.gather(*answers, return_exceptions=True)
        try:
            await asyncio.wait([lost, everything], return_when=asyncio.FIRST_COMPLETED)
            if not everything.done():
                raise ConnectionError("the connection broke")
        finally:
            lost.cancel()
            everything.cancel()

    def _subject_of(self, one: Envelope) -> str:
        tenant = re.sub(r"[^\w-]", lambda found: f"%{ord(found.group()):02X}", one.id.partition("/")[0])
        return f"{self._subject}.{tenant}.{one.type}"

    def _headers(self, one: Envelope, *, after: Envelope | None = None) -> dict[str, str]:
        headers = {"Nats-Msg-Id": one.id, "Nats-Expected-Stream": self._stream, "Content-Type": CONTENT_TYPE}
        return headers if after is None else headers | {"Nats-Expected-Last-Msg-Id": after.id}

    async def _connected(self) -> tuple[JetStreamContext, int]:
        """The open connection, or a new one, and how large a message it takes."""
        if self._client is not None and self._client.is_closed:
            await self._drop()
        if self._client is None:
            self._client, self._lost = Client(), asyncio.Event()
            await self._connect(self._client, self._lost)
            self._jetstream = self._client.jetstream(timeout=self._timeout_s)
            await self._make_stream(self._jetstream)
        assert self._jetstream is not None
        return self._jetstream, self._client.max_payload

    async def _connect(self, client: Client, lost: asyncio.Event) -> None:
        async def on_closed() -> None:
            lost.set()

        async def on_error(error: Exception) -> None:
            """The client says here why it cannot connect; else, whoever waits for an answer is told as well."""
            self._said = reason(error)

        where = self._address
        credentials: dict[str, Any] = {}
        if where.user and self._password:
            credentials = {"user": where.user, "password": self._password}
        elif where.user or self._password:
            credentials = {"token": self._password or where.user}
        host = f"[{where.host}]" if ":" in where.host else where.host
        await client.connect(
            f"{where.scheme}://{host}:{where.port or PORT}",
            # A client that comes back by itself sends what it had kept, long after others were handed over.
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=max(1, int(self._timeout_s)),
            error_cb=on_error,
            closed_cb=on_closed,
            disconnected_cb=on_closed,
            **credentials,
        )

    async def _make_stream(self, jetstream: JetStreamContext) -> None:
        try:
            await jetstream.stream_info(self._stream)
        except NotFoundError:
            config = StreamConfig(self._stream, subjects=[f"{self._subject}.>"], duplicate_window=REPEATS_S)
            try:
                await jetstream.add_stream(config)
            except BadRequestError:  # it has just been made by somebody else, or our subjects are another stream's
                await jetstream.stream_info(self._stream)

    async def _drop(self) -> None:
        client, self._client, self._jetstream = self._client, None, None
        if client is not None and not client.is_closed:
            await client.close()

    def _translated(self, error: Exception, kept: int) -> BusError:
        where = self._address.shown
        said = f"NATS at {where} cannot be reached: {reason(error)}"
        hint = "Check the address, and that the server runs."
        match error:
            case NoServersError():
                said = f"NATS at {where} cannot be reached: {self._said or reason(error)}"
            case AuthorizationError() | InvalidUserCredentialsError():
                said, hint = f"NATS at {where} does not let us in", "Check the user, and what `secret_env` names."
            case NotFoundError():
                said = f"The subjects {self._subject}.> at {where} are those of another stream than {self._stream!r}"
                hint = "Name that `stream`, or another `subject`."
            case NoStreamResponseError():
                said = f"No JetStream stream at {where} takes {self._subject}.>"
                hint = f"Give the stream {self._stream!r} these subjects, or enable JetStream (nats-server -js)."
            case APIError():
                said = f"NATS at {where} refuses the events: {error.description}"
                hint = f"Look at the limits of the stream {self._stream!r}."
            case TimeoutError():
                said = f"NATS at {where} did not answer within {self._timeout_s:g} s"
                hint = (
                    "Check that it runs with JetStream enabled (nats-server -js), and that the network lets us through."
                )
            case _:
                pass
        return BusError(self._address.hide(said, self._password) + ".", hint=hint, kept=kept)
