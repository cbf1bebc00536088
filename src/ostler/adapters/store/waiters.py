"""Those who wait for a store to grow."""

import asyncio


class Waiters:
    """Tasks that wait until the head of a store has passed a position. Says nothing of how one learns of it."""

    def __init__(self) -> None:
        self._after: dict[asyncio.Future[int], tuple[int, bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._after)

    async def wait(self, *, after: int, timeout_s: float, foreign: bool) -> int | None:
        """The head once it is greater than `after`, or None at timeout."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._after[waiter] = (after, foreign)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            return None
        finally:
            del self._after[waiter]

    def wake(self, head: int, *, by_us: bool) -> None:
        """The head is now `head`; those who wait for others only sleep on if it was `by_us`."""
        for waiter, (after, foreign) in self._after.items():
            if after < head and not (foreign and by_us) and not waiter.done():
                waiter.set_result(head)

    def fail(self, error: Exception) -> None:
        """Nothing will be learnt any more."""
        for waiter in self._after:
            if not waiter.done():
                waiter.set_exception(error)
