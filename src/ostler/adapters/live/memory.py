"""Live text within one process.

Nothing is queued for anybody: there is the text of each reply that is under way, bounded, and every watcher remembers
how far it has read. So a watcher that is slow, or never reads, costs nothing, and one that comes late gets what came so
far.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import contextmanager

from ostler.domain.live import Piece
from ostler.domain.screening.controls import shown
from ostler.kernel.event import StreamId

REPLY_CHARS_MAX = 65_536
"""How much of a reply is kept for those who come late or are slow; the end of it."""
PARTS_MAX = 256
PIECE_CHARS_MAX = 4_096
REPLIES_MAX = 8
"""How many replies a watcher may be behind; beyond that, the oldest are left out whole."""
COALESCED_S = 0.05
"""How long text is gathered before it is shown."""


class Reply:
    """A reply under way. `say` and `end` are its publisher's, the rest is the watchers'."""

    __slots__ = ("_parts", "_start", "attempt", "call", "is_over", "watchers", "withheld")

    def __init__(self, call: str, attempt: int, withheld: str, watchers: "set[Watcher]") -> None:
        self.call = call
        self.attempt = attempt
        self.withheld = withheld
        self.watchers = watchers
        self.is_over = False
        self._start = 0
        self._parts: list[str] = []

    def say(self, text: str) -> None:
        """Called for every token: a list grows, and nothing more while nobody watches."""
        parts = self._parts
        parts.append(text)
        if len(parts) > PARTS_MAX:
            self._join()
        if self.watchers:
            for watcher in tuple(self.watchers):
                watcher.stir()

    def since(self, offset: int) -> tuple[int, str]:
        """The next text that is there from `offset` on, and where it begins. Nothing in it acts on a terminal."""
        self._join()
        (text,) = self._parts
        begin = max(offset, self._start)
        return begin, shown(text[begin - self._start : begin - self._start + PIECE_CHARS_MAX])

    def _join(self) -> None:
        text = "".join(self._parts)
        if len(text) > REPLY_CHARS_MAX:
            self._start += len(text) - REPLY_CHARS_MAX
            text = text[-REPLY_CHARS_MAX:]
        self._parts = [text]


class Watcher:
    """Somebody who watches, and what of which replies they have seen."""

    def __init__(self) -> None:
        self._replies: deque[Reply] = deque(maxlen=REPLIES_MAX)
        self._reply: Reply | None = None
        self._seen = 0
        self._has_said_why = False
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._is_stirred = False
        self._timer: asyncio.TimerHandle | None = None

    def meet(self, reply: Reply) -> None:
        self._replies.append(reply)
        self.stir()

    def stir(self) -> None:
        """There is something new; it is looked at before long. A model may say it from a thread of its own."""
        if not self._is_stirred:
            self._is_stirred = True
            self._loop.call_soon_threadsafe(self._look_soon)

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(COALESCED_S, self.look)

    def look(self) -> None:
        """It is looked at now."""
        self.stop()
        self._is_stirred = False
        self._ready.set()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def next(self) -> Piece:
        """The next piece, once there is one. Cancelling loses nothing."""
        while True:
            self._ready.clear()
            if (piece := self._next()) is not None:
                return piece
            await self._ready.wait()

    def _next(self) -> Piece | None:
        """The next piece that is there."""
        while self._replies:
            reply = self._replies[0]
            if reply is not self._reply:
                self._reply, self._seen, self._has_said_why = reply, 0, False
            if reply.withheld and not self._has_said_why:
                self._has_said_why = True
                return Piece(reply.call, reply.attempt, 0, "", reply.withheld)
            begin, text = reply.since(self._seen)
            if text:
                self._seen = begin + len(text)
                return Piece(reply.call, reply.attempt, begin, text)
            if not reply.is_over and len(self._replies) == 1:
                return None
            self._replies.popleft()
        return None


class Speaker:
    """A `LiveReply`."""

    __slots__ = ("_live", "_reply", "_stream", "say")

    def __init__(self, live: "MemoryLive", stream: StreamId, reply: Reply) -> None:
        self._live = live
        self._stream = stream
        self._reply = reply
        self.say = _nothing if reply.withheld else reply.say

    def end(self) -> None:
        self._live.end(self._stream, self._reply)


class MemoryLive:
    """A `LiveText` for those in this process."""

    def __init__(self) -> None:
        self._replies: dict[StreamId, Reply] = {}
        self._watchers: dict[StreamId, set[Watcher]] = {}

    async def serve(self) -> None:
        """Nobody else can watch."""

    def begin(self, stream: StreamId, call: str, attempt: int, *, withheld: str = "") -> Speaker:
        watchers = self._watchers.get(stream)
        reply = self._replies[stream] = Reply(call, attempt, withheld, set() if watchers is None else watchers)
        for watcher in reply.watchers:
            watcher.meet(reply)
        return Speaker(self, stream, reply)

    def end(self, stream: StreamId, reply: Reply) -> None:
        """It is over, whether or not another attempt has begun meanwhile."""
        reply.is_over = True
        if self._replies.get(stream) is reply:
            del self._replies[stream]
        for watcher in reply.watchers:
            watcher.look()

    @property
    def speaking(self) -> Collection[StreamId]:
        """The sessions of which a reply is under way."""
        return self._replies.keys()

    @contextmanager
    def watching(self, stream: StreamId) -> Iterator[Watcher]:
        """Somebody who watches this session meanwhile."""
        watcher, reply = Watcher(), self._replies.get(stream)
        watchers = self._watchers.setdefault(stream, set() if reply is None else reply.watchers)
        watchers.add(watcher)
        if reply is not None:
            watcher.meet(reply)
        try:
            yield watcher
        finally:
            watcher.stop()
            watchers.discard(watcher)
            if not watchers and self._watchers.get(stream) is watchers:
                del self._watchers[stream]

    async def watch(self, stream: StreamId) -> AsyncGenerator[Piece, None]:
        with self.watching(stream) as watcher:
            while True:
                yield await watcher.next()

    async def close(self) -> None:
        """Nothing is held."""


def _nothing(text: str) -> None:
    """What must not be shown."""
