"""Several sources of live text as one."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine

import msgspec

from ostler.domain.live import Piece
from ostler.domain.screening.controls import shown

WAITING_MAX = 16
"""Pieces that wait for a slow reader here; the sources wait with them."""

Take = Callable[[Piece], Coroutine[None, None, None]]


def _harmless(piece: Piece) -> Piece:
    """Whoever sent it has seen to that; but not everybody who can send is one of us."""
    text, withheld = shown(piece.text), shown(piece.withheld)
    if (text, withheld) == (piece.text, piece.withheld):
        return piece
    return msgspec.structs.replace(piece, text=text, withheld=withheld)


async def merged(feed: Callable[[Take], Coroutine[None, None, None]]) -> AsyncGenerator[Piece, None]:
    """What `feed` gives to the function that it is called with, as long as somebody reads; then it is cancelled."""
    waiting: asyncio.Queue[Piece] = asyncio.Queue(WAITING_MAX)
    feeding = asyncio.create_task(feed(waiting.put), name="live text")
    try:
        while True:
            coming = asyncio.create_task(waiting.get())
            try:
                await asyncio.wait((coming, feeding), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    feeding.result()
                    return
                piece = coming.result()
            finally:
                coming.cancel()
            yield _harmless(piece)
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
