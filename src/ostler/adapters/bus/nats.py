"""NATS JetStream as a bus: one stream, and a subject for each tenant and type of event."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
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

CLOSE_S = 1.0
WRONG_LAST_MESSAGE = 10070
"""JetStream's number for it."""

_CONNECTION = (Error, OSError, TimeoutError)


class _Failure(msgspec.Struct):
    code: int
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Failure | None = None


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
        self._inbox = ""
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._lost = asyncio.Event()
        self._said = ""

    async def publish(self, records: Sequence[Record]) -> None:
        if not records:
            return
        envelopes = [envelope(record) for record in records]
        kept = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                client = await self._connected()
                rest, refused = self._fitting(envelopes, client.max_payload)
                while rest:
                    failures = await self._all_at_once(client, rest)
                    done = min(failures, default=len(rest))
                    kept = rest[done - 1].position if done else kept
                    rest = rest[done:]
                    # Somebody else has written to the stream in between: go on behind that. The first of a batch is
                    # bound to nothing, so that each time at least one more is there.
                    if rest and not (done and _is_interrupted(failures[done])):
                        raise failures[done]
        except _CONNECTION as error:
            await self._drop()
            raise self._translated(error, kept) from error
        except asyncio.CancelledError:
            await self._drop()
            raise
        if refused is not None:
            raise EventRefused(
                f"The event at position {refused.position} has {len(refused.body)} bytes, and NATS at "
                f"{self._address.shown} takes {client.max_payload} with headers.",
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

    async def _all_at_once(self, client: Client, envelopes: Sequence[Envelope]) -> dict[int, Exception]:
        """Publish without waiting in between, and wait for every answer; returns which failed, and why."""
        answers: list[asyncio.Future[None]] = []
        before: Envelope | None = None
        try:
            for number, one in enumerate(envelopes):
                answers.append(asyncio.get_running_loop().create_future())
                self._answers[str(number)] = answers[-1]
                headers = self._headers(one, after=before)
                await client.publish(self._subject_of(one), one.body, f"{self._inbox}.{number}", headers)
                before = one
            await self._answered(answers)
            failures = {number: answer.exception() for number, answer in enumerate(answers)}
        finally:
            self._answers.clear()
            for answer in answers:
                answer.cancel()
        return {number: error for number, error in failures.items() if isinstance(error, Exception)}

    async def _answered(self, answers: Sequence[asyncio.Future[None]]) -> None:
        """Wait for all answers. If the connection is lost, the rest will never come."""
        lost = asyncio.create_task(self._lost.wait())
        everything = asyncio.create_task(asyncio.wait(answers))
        try:
            await asyncio.wait([lost, everything], return_when=asyncio.FIRST_COMPLETED)
            if not everything.done():
                raise ConnectionError("the connection broke")
        finally:
            lost.cancel()
            everything.cancel()

    async def _on_answer(self, message: Msg) -> None:
        """Take what the server says of one event. (`publish_async` of the library drops it if it is an error.)"""
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is None or answer.done():
            return
        if (message.headers or {}).get("Status") == "503":
            answer.set_exception(NoStreamResponseError())
            return
        said = msgspec.json.decode(message.data, type=_Answer)
        if said.error is None:
            answer.set_result(None)
        else:
            answer.set_exception(APIError(said.error.code, said.error.description, said.error.err_code))

    def _subject_of(self, one: Envelope) -> str:
        tenant = one.id.partition("/")[0].replace(".", "%2E")
        return f"{self._subject}.{tenant}.{one.type}"

    def _headers(self, one: Envelope, *, after: Envelope | None = None) -> dict[str, str]:
        headers = {"Nats-Msg-Id": one.id, "Nats-Expected-Stream": self._stream, "Content-Type": CONTENT_TYPE}
        return headers if after is None else headers | {"Nats-Expected-Last-Msg-Id": after.id}

    async def _connected(self) -> Client:
        """The open connection, or a new one."""
        if self._client is not None and self._client.is_closed:
            await self._drop()
        if self._client is None:
            self._client, self._lost = Client(), asyncio.Event()
            await self._connect(self._client, self._lost)
            # A new inbox, so that answers to what an earlier connection has sent are not taken for ours.
            self._inbox = self._client.new_inbox()
            await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)
            await self._make_stream(self._client.jetstream(timeout=self._timeout_s))
        return self._client

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
        await client.connect(
            [f"{where.scheme}://{server.at(PORT)}" for server in where.servers],
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
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            # It tries to send what is left, for which nobody waits long any more.
            with suppress(TimeoutError, Error, OSError):
                async with asyncio.timeout(CLOSE_S):
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


def _is_interrupted(error: Exception) -> bool:
    """Whether it says that the event before is no longer the last of the stream."""
    return isinstance(error, APIError) and error.err_code == WRONG_LAST_MESSAGE
