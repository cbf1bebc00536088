"""What the model of a session says, as early as may be and whole: live text, and from the log what was not heard."""

import asyncio
from collections.abc import AsyncGenerator

from ostler.domain.live import Piece
from ostler.domain.session.events import (
    SESSION_CODEC,
    CallRetried,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    SessionEvent,
)
from ostler.kernel.event import Record


async def spoken(
    live: AsyncGenerator[Piece, None], records: AsyncGenerator[Record, None], *, after: int
) -> AsyncGenerator[Piece, None]:
    """The text of every reply in order, until the records end; of `records` from the first on, those up to `after` are
    known.

    A live piece is given out once the log has come to its attempt, and never after its end.
    """
    listener = _Listener()
    reading, hearing = asyncio.ensure_future(anext(records, None)), asyncio.ensure_future(anext(live))
    held: Piece | None = None
    try:
        while True:
            if held is not None and (heard := listener.hear(held)) is not None:
                held = None
                if heard.text:
                    yield heard
                continue
            await asyncio.wait((reading, hearing) if held is None else (reading,), return_when=asyncio.FIRST_COMPLETED)
            if held is None and hearing.done():
                held = hearing.result()
                hearing = asyncio.ensure_future(anext(live))
            elif reading.done():
                record = reading.result()
                if record is None:
                    return
                reading = asyncio.ensure_future(anext(records, None))
                rest = listener.read(SESSION_CODEC.decode(record.data))
                if rest is not None and record.seq > after:
                    yield rest
    finally:
        reading.cancel()
        hearing.cancel()
        await asyncio.gather(reading, hearing, return_exceptions=True)


class _Listener:
    """Where the log is, and how much of the reply under way was given out."""

    def __init__(self) -> None:
        self._call = ""
        self._attempt = 0
        self._seen = 0
        self._over: set[str] = set()

    def hear(self, piece: Piece) -> Piece | None:
        """What of a piece is new (no text: nothing is); None if the log has not come to it yet."""
        nothing = Piece(piece.call, piece.attempt, piece.offset)
        if piece.call in self._over:
            return nothing
        if piece.call != self._call or piece.attempt > self._attempt:
            return None
        if piece.attempt < self._attempt or piece.withheld or piece.offset + len(piece.text) <= self._seen:
            return nothing
        known = max(0, self._seen - piece.offset)
        self._seen = piece.offset + len(piece.text)
        return Piece(piece.call, piece.attempt, piece.offset + known, piece.text[known:])

    def read(self, event: SessionEvent) -> Piece | None:
        """What of a reply that is in the log was not heard."""
        match event:
            case ModelRequested():
                self._call, self._attempt, self._seen = event.call, 1, 0
            case CallRetried(limit=None) if event.call == self._call and event.attempt > self._attempt:
                self._attempt, self._seen = event.attempt, 0
            case ModelFailed():
                self._over.add(event.call)
            case ModelCompleted():
                self._over.add(event.call)
                if self._seen < len(event.text):
                    return Piece(event.call, self._attempt, self._seen, event.text[self._seen :])
            case _:
                pass
        return None
