"""Those who wait for a store to grow."""

import asyncio
from collections.abc import Collection

from ostler.kernel.event import StreamId


class Waiters:
    """Tasks that wait until the head of a store has passed a position. Says nothing of how one learns of it."""

    def __init__(self) -> None:
        self._after: dict[asyncio.Future[int], tuple[int, bool, StreamId | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._after)

    @property
    def are_foreign(self) -> bool:
        """Whether all of them wait for what others write only."""
        return all(foreign for _, foreign, _ in self._after.values())

    async def wait(self, *, after: int, timeout_s: float, foreign: bool, stream: StreamId | None) -> int:
        """The head once it is greater than `after`, or `after` at timeout."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._after[waiter] = (after, foreign, stream)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            return after
        finally:
            del self._after[waiter]

    def wake(self, head: int, *, streams: Collection[StreamId] | None = None) -> None:
        """The head is now `head`: we wrote to `streams`, or (None) others to who knows which."""
        for waiter, (after, foreign, stream) in self._after.items():
            if after >= head or waiter.done():
                continue
            if streams is None or not (foreign or (stream is not None and stream not in streams)):
                waiter.set_result(head)

    def fail(self, error: Exception) -> None:
        """Nothing will be learnt any more."""
        for waiter in self._after:
            if not waiter.done():
                waiter.set_exception(error)
