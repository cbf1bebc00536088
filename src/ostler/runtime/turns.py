"""Whose turn it is to call a model, where limits say how many may, for all workers together."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ostler.domain.capacity import TAKEN, Limit, Place, Quotas, Wait
from ostler.domain.session.state import State
from ostler.kernel.errors import OstlerError, StoreError
from ostler.kernel.event import StreamId
from ostler.ports import Clock, Limiter

RETRY_US = 1_000_000
"""When to ask again after the limiter could not be reached."""
CLOSE_S = 2.0
"""How long closing waits for places to be given back; those that are not come back by themselves."""


class Turn:
    """The turn of one call: it waits for a place until it `comes`, and `leave` ends it, wherever it is by then.

    `limit` names the limit that it waits for.
    """

    __slots__ = ("_granted", "_turns", "hold_us", "is_over", "limit", "limits", "place", "rank")

    def __init__(self, turns: "Turns", limits: Sequence[Limit], place: Place, hold_us: int) -> None:
        self.limits = limits
        self.limit = limits[0].name
        self.place = place
        self.rank = place.rank
        self.hold_us = hold_us
        self.is_over = False
        self._turns = turns
        self._granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __lt__(self, other: "Turn") -> bool:
        return self.rank < other.rank

    async def comes(self, *, within_s: float | None = None) -> bool:
        """True as soon as it has its places; False if it has none by then."""
        await asyncio.wait([self._granted], timeout=within_s)
        if not self._granted.done():
            return False
        self._granted.result()
        return True

    def leave(self) -> None:
        """Give its places back, or stop waiting for them. Idempotent."""
        if not self.is_over:
            self.is_over = True
            self._turns.left(self)

    def settle(self, error: Exception | None) -> None:
        """It has come, or never will because of a defect."""
        if self._granted.done():
            return
        if error is None:
            self._granted.set_result(None)
        else:
            self._granted.set_exception(error)


class _Line:
    """Those of this process who wait for the same limit; only the first of them asks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stirred = asyncio.Event()
        self._waiting: list[Turn] = []

    def join(self, turn: Turn) -> None:
        turn.limit = self.name
        heapq.heappush(self._waiting, turn)
        if self._waiting[0] is turn:
            self.stirred.set()

    def first(self) -> Turn | None:
        """Whose turn it is next; whoever has gone, or waits elsewhere, is forgotten."""
        while self._waiting and (self._waiting[0].is_over or self._waiting[0].limit != self.name):
            heapq.heappop(self._waiting)
        return self._waiting[0] if self._waiting else None


class Turns:
    """Lets calls of models begin as the quotas allow. `trouble` is told when the limiter cannot be reached.

    However many wait here, only one of them asks for each limit, so that what waiting costs does not grow with it.
    """

    def __init__(
        self,
        limiter: Limiter,
        quotas: Quotas,
        clock: Clock,
        *,
        trouble: Callable[[StreamId | None, OstlerError], None],
    ) -> None:
        self._limiter = limiter
        self._quotas = quotas
        self._clock = clock
        self._trouble = trouble
        self._lines: dict[str, _Line] = {}
        self._given_back: list[Turn] = []
        self._asking: set[Turn] = set()
        self._returning: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def limits(self, state: State) -> tuple[Limit, ...]:
        """What a call of this session's model must find a place under."""
        return self._quotas.limits(tenant=state.by.tenant, agent=state.agent.name, provider=state.model.provider)

    def turn(self, state: State, call: str, limits: Sequence[Limit], *, epoch: int, hold_s: float) -> Turn:
        """The turn of this call of a session that is claimed under `epoch`; places are kept for `hold_s` at most."""
        holder = f"{state.by.tenant}/{state.session}/{call}"
        place = Place(holder, epoch, 0, self._clock.now_us(), state.priority)
        turn = Turn(self, limits, place, int(hold_s * 1_000_000))
        for limit in limits:
            if limit.name in self._lines:  # those who are there already go first
                self._lines[limit.name].join(turn)
                break
        else:
            self._spawn(self._ask_first(turn))
        return turn

    def left(self, turn: Turn) -> None:
        """For `Turn.leave`."""
        if turn in self._asking:
            return  # whoever asks for it sees that it has gone, and gives it back
        if turn.place.until_us:
            self._give_back(turn)
        else:
            self._stir(turn.limits)

    async def close(self) -> None:
        """Nobody waits any more: finish giving places back."""
        for line in self._lines.values():
            line.stirred.set()
        tasks = [*self._tasks, *([self._returning] if self._returning else [])]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _ask_first(self, turn: Turn) -> None:
        wait = await self._take(turn)
        if wait.after_us:
            self._join(turn, wait)

    async def _take(self, turn: Turn) -> Wait:
        """Ask for the places of a turn, and hand them to it. A turn that is over, or can never come, has no wait."""
        now_us = self._clock.now_us()
        turn.place = Place(
            turn.place.holder, turn.place.epoch, now_us + turn.hold_us, turn.place.since_us, turn.place.priority
        )
        self._asking.add(turn)
        try:
            wait = await self._limiter.take(turn.limits, turn.place, now_us=now_us)
        except StoreError as error:
            self._trouble(None, error)
            wait = Wait(RETRY_US, turn.limit)
        except Exception as error:
            turn.settle(error)
            return TAKEN
        finally:
            self._asking.discard(turn)
        if turn.is_over:
            self._give_back(turn)
            return TAKEN
        if not wait.after_us:
            turn.settle(None)
        return wait

    def _join(self, turn: Turn, wait: Wait) -> None:
        line = self._lines.get(wait.limit)
        if line is None:
            line = self._lines[wait.limit] = _Line(wait.limit)
            self._spawn(self._serve(line, wait.after_us))
        line.join(turn)

    async def _serve(self, line: _Line, after_us: int) -> None:
        """Ask for those in line, one after the other, until nobody is left."""
        line.stirred.clear()
        while (turn := line.first()) is not None:
            await _rest(line.stirred, after_us)
            line.stirred.clear()
            after_us = 0
            if line.first() is not turn:
                continue
            wait = await self._take(turn)
            if wait.limit == line.name and wait.after_us:
                after_us = wait.after_us
            elif wait.after_us:
                self._join(turn, wait)
            else:
                turn.limit = ""
        del self._lines[line.name]

    def _give_back(self, turn: Turn) -> None:
        self._given_back.append(turn)
        if self._returning is None:
            self._returning = asyncio.get_running_loop().create_task(self._return())

    async def _return(self) -> None:
        """Give back what was left, all that there is at a time. Places that cannot be given back expire."""
        try:
            while self._given_back:
                turns, self._given_back = self._given_back, []
                try:
                    await self._limiter.give_back([turn.place for turn in turns])
                except StoreError as error:
                    self._trouble(None, error)
                for turn in turns:
                    self._stir(turn.limits)
        finally:
            self._returning = None

    def _stir(self, limits: Sequence[Limit]) -> None:
        """Something may be free now."""
        for limit in limits:
            if limit.name in self._lines:
                self._lines[limit.name].stirred.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _rest(stirred: asyncio.Event, us: int) -> None:
    if not us:
        return
    try:
        async with asyncio.timeout(us / 1_000_000):
            await stirred.wait()
    except TimeoutError:
        pass
