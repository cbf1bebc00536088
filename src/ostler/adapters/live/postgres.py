"""Live text between processes that share a PostgreSQL store: notifications, while somebody listens.

Whoever watches a session says so now and then; whose worker runs it then notifies them, on a channel of that session
alone. The server lets everybody who may connect to the database listen to everything, so that a channel is named by a
hash of a session's id, which cannot be guessed, and what says that somebody watches does not give it away.
"""

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Protocol

import asyncpg
import msgspec

from ostler.adapters.live.memory import MemoryLive, Speaker
from ostler.adapters.live.merge import Take, merged
from ostler.domain.live import Piece
from ostler.kernel.errors import StoreError
from ostler.kernel.event import StreamId

ANNOUNCED_S = 2.0
"""How often somebody who watches says so; `FORGOTTEN_S` after the last time they are taken to be gone."""
FORGOTTEN_S = 7.0
RETRY_S = 1.0
PAYLOAD_BYTES_MAX = 7_900
"""The server takes less than 8,000."""
PIECES_WAITING_MAX = 256
NOTIFY = "SELECT pg_notify($1, $2)"
_BROKEN = (
    OSError,
    TimeoutError,
    StoreError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver's own confusion about a connection that broke while it was used
)


class Address(Protocol):
    """Where the store is."""

    @property
    def schema(self) -> str: ...

    @property
    def is_pooled(self) -> bool: ...


class Server(Protocol):
    """What is needed of the store's server."""

    @property
    def address(self) -> Address: ...

    async def connect(self) -> Any: ...

    async def once(self, query: str, *arguments: Any) -> list[Any]: ...


class PostgresLive:
    """A `LiveText` for those who share the store. Behind a pooler, which passes no notifications on, only for those in
    this process.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._hub = MemoryLive()
        self._sender = secrets.token_hex(4)
        self._begun: dict[str, StreamId] = {}
        self._wanted: dict[str, float] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._hearing: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        if self._hearing is None and not self._server.address.is_pooled:
            self._hearing = asyncio.create_task(self._hear(self._wishes, self._on_wish), name="live wishes")

    def begin(self, stream: StreamId, call: str, attempt: int, *, withheld: str = "") -> Speaker:
        speaker = self._hub.begin(stream, call, attempt, withheld=withheld)
        if self._wanted:
            self._tell_if_wanted(stream, _hashed("watch", stream))
        return speaker

    async def watch(self, stream: StreamId) -> AsyncGenerator[Piece, None]:
        async with aclosing(merged(partial(self._seek, stream))) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        tasks = [*self._telling.values(), *([self._hearing] if self._hearing else [])]
        self._telling, self._hearing = {}, None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _wishes(self) -> str:
        """The channel on which those who watch say so."""
        return f"{self._server.address.schema}.watch"

    def _channel(self, stream: StreamId) -> str:
        """The channel of a session's text."""
        return f"{self._server.address.schema}.{_hashed('text', stream)}"

    async def _hear(
        self, channel: str, heard: Callable[[str], None], listens: Callable[[], None] = lambda: None
    ) -> None:
        """Hear what is said on a channel, on a connection of one's own, whenever it can be had."""
        while True:
            with suppress(*_BROKEN):
                connection, ended = await self._server.connect(), asyncio.Event()
                try:
                    connection.add_termination_listener(lambda _, ended=ended: ended.set())
                    await connection.add_listener(channel, lambda *said: heard(said[-1]))
                    listens()
                    await ended.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(RETRY_S)

    def _on_wish(self, payload: str) -> None:
        """Somebody watches the session that has this hash. One who is new to it gets what came so far."""
        name, _, is_new = payload.partition(" ")
        now = asyncio.get_running_loop().time()
        self._wanted = {one: until for one, until in self._wanted.items() if until > now}
        self._wanted[name] = now + FORGOTTEN_S
        telling = self._telling.get(name)
        if telling is not None and not is_new:
            return
        if telling is not None:
            telling.cancel()
            del self._telling[name]
        for stream in self._hub.speaking:
            if _hashed("watch", stream) == name:
                self._tell_if_wanted(stream, name)
                return

    def _tell_if_wanted(self, stream: StreamId, name: str) -> None:
        if name in self._wanted and name not in self._telling:
            task = self._telling[name] = asyncio.create_task(self._tell(stream, name), name="live text")
            task.add_done_callback(partial(self._told, name))

    def _told(self, name: str, task: asyncio.Task[None]) -> None:
        if self._telling.get(name) is task:
            del self._telling[name]

    async def _tell(self, stream: StreamId, name: str) -> None:
        """Notify those who watch, until nobody has said so for a while."""
        channel, loop = self._channel(stream), asyncio.get_running_loop()
        with self._hub.watching(stream) as watcher:
            while (until := self._wanted.get(name, 0.0)) > loop.time():
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        piece = await watcher.next()
                    for payload in payloads(self._sender, piece):
                        await self._notify(channel, payload, name)

    async def _notify(self, channel: str, payload: str, name: str) -> None:
        """Say it as soon as the server takes it, while anybody wants to hear it."""
        while self._wanted.get(name, 0.0) > asyncio.get_running_loop().time():
            try:
                await self._server.once(NOTIFY, channel, payload)
            except _BROKEN:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _seek(self, stream: StreamId, take: Take) -> None:
        """Watch in this process, and in every other."""
        sources = [self._listen_here(stream, take)]
        if not self._server.address.is_pooled:
            waiting, listens = deque[Piece](maxlen=PIECES_WAITING_MAX), asyncio.Event()
            stir = asyncio.Event()

            def heard(payload: str) -> None:
                sender, _, text = payload.partition(" ")
                if sender != self._sender:
                    with suppress(ValueError):
                        waiting.append(msgspec.json.decode(text, type=Piece))
                        stir.set()

            sources += [
                self._hear(self._channel(stream), heard, listens.set),
                self._wish(_hashed("watch", stream), listens),
                _pass_on(waiting, stir, take),
            ]
        tasks = [asyncio.create_task(source) for source in sources]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen_here(self, stream: StreamId, take: Take) -> None:
        with self._hub.watching(stream) as watcher:
            while True:
                await take(await watcher.next())

    async def _wish(self, name: str, listens: asyncio.Event) -> None:
        """Say that somebody watches; and whenever they have just begun to listen, that they are new to it."""
        await listens.wait()
        while True:
            is_new = listens.is_set()
            listens.clear()
            with suppress(*_BROKEN):
                await self._server.once(NOTIFY, self._wishes, f"{name} new" if is_new else name)
            with suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCED_S):
                    await listens.wait()


async def _pass_on(waiting: deque[Piece], stir: asyncio.Event, take: Take) -> None:
    """Pass on what was heard, each text once: it comes again when somebody else begins to watch."""
    said, seen = ("", 0), 0
    while True:
        await stir.wait()
        stir.clear()
        while waiting:
            piece = waiting.popleft()
            if (piece.call, piece.attempt) != said:
                said, seen = (piece.call, piece.attempt), 0
            elif piece.withheld:
                continue
            known = max(0, seen - piece.offset)
            seen = max(seen, piece.offset + len(piece.text))
            if piece.withheld or known < len(piece.text):
                await take(msgspec.structs.replace(piece, offset=piece.offset + known, text=piece.text[known:]))


def payloads(sender: str, piece: Piece) -> list[str]:
    """What is notified of a piece, in as many parts as it takes."""
    encoded = msgspec.json.encode(piece)
    if len(sender) + 1 + len(encoded) <= PAYLOAD_BYTES_MAX:
        return [f"{sender} {encoded.decode()}"]
    if len(piece.text) < 2:
        return []
    half = len(piece.text) // 2
    rest = msgspec.structs.replace(piece, offset=piece.offset + half, text=piece.text[half:])
    return [*payloads(sender, msgspec.structs.replace(piece, text=piece.text[:half])), *payloads(sender, rest)]


def _hashed(what: str, stream: StreamId) -> str:
    """A name for a session's channel that only those find out who know its id."""
    return hashlib.sha256(msgspec.json.encode((what, stream.tenant, stream.name))).hexdigest()[:20]
