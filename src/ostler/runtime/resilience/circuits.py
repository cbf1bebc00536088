"""Circuit breakers as calls meet them: those that failures have opened, and those that people have."""

from collections.abc import Awaitable, Callable

from ostler.domain.resilience.breaker import Admitted, Breaker, Change, Key, Kind, Open, Outcome
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.errors import CircuitOpen
from ostler.kernel.event import timestamp
from ostler.ports import Breakers, Clock
from ostler.runtime.governor import Governor

TRIPPED_AGAIN_S = 30.0
"""When to ask again where only a person knows how long it will take."""

BreakerOf = Callable[[Kind, str], Breaker | None]
"""The settings of the breaker of a provider or tool; None if it has none, and only people can open it."""


async def _untold(change: Change) -> None:
    """A change that nobody hears of."""


class Circuits:
    """Asked before each attempt of a call, and told what came of it.

        admitted = await circuits.admit(Key(tenant, "provider", name))   # raises `CircuitOpen`
        ... the attempt, and whatever comes of it, cancellation too:
        await circuits.report(admitted, outcome_of_model(error), because=error.code)

    `on_change` hears of every breaker that opens or closes here.
    """

    def __init__(self, breakers: Breakers, breaker_of: BreakerOf, clock: Clock, governor: Governor) -> None:
        self._breakers = breakers
        self._breaker_of = breaker_of
        self._clock = clock
        self._governor = governor
        self.on_change: Callable[[Change], Awaitable[None]] = _untold

    async def admit(self, key: Key) -> Admitted | None:
        """Let a call begin; None if there is no breaker, and nothing to report. Raises `CircuitOpen`."""
        if (tripped := self._governor.tripped(key)) is not None:
            where, event = tripped
            why = f"{event.by} has opened it" + (f": {event.reason}" if event.reason else "")
            closing = f"ostler breaker reset {key}" + (" --all" if where == EVERYONE else "")
            raise CircuitOpen(
                f"The breaker of the {key} is open: {why}.",
                retry_after_s=TRIPPED_AGAIN_S,
                hint=f"`{closing}` closes it.",
            )
        settings = self._breaker_of(key.kind, key.name)
        if settings is None:
            return None
        answer = await self._breakers.admit(key, settings, now_us=self._clock.now_us())
        if isinstance(answer, Open) and self._is_reset(key, answer):
            await self._tell(await self._breakers.reset(key))
            answer = await self._breakers.admit(key, settings, now_us=self._clock.now_us())
        if isinstance(answer, Open):
            raise CircuitOpen(
                f"The breaker of the {key} is open until {timestamp(answer.until_us)}: {answer.because}.",
                until=timestamp(answer.until_us),
                retry_after_s=max(0.0, (answer.until_us - self._clock.now_us()) / 1e6),
            )
        return answer

    async def report(self, admitted: Admitted | None, outcome: Outcome, *, because: str = "") -> None:
        """What came of a call that was let begin; `because` is the code of the error, if it failed."""
        if admitted is None:
            return
        settings = self._breaker_of(admitted.key.kind, admitted.key.name)
        if settings is not None:
            now_us = self._clock.now_us()
            await self._tell(await self._breakers.report(admitted, settings, outcome, now_us=now_us, because=because))

    async def open_until(self, key: Key) -> int | None:
        """Until when, in microseconds since 1970, calls would be refused; None if one would be let begin now.

        Where only a person knows how long, for the next `TRIPPED_AGAIN_S`. Asking changes nothing.
        """
        now_us = self._clock.now_us()
        if self._governor.tripped(key) is not None:
            return now_us + int(TRIPPED_AGAIN_S * 1e6)
        if self._breaker_of(key.kind, key.name) is None:
            return None
        refused = await self._breakers.look(key, now_us=now_us)
        return None if refused is None or self._is_reset(key, refused) else refused.until_us

    async def close(self) -> None:
        await self._breakers.close()

    def _is_reset(self, key: Key, refused: Open) -> bool:
        """Whether somebody has closed it by hand since it opened, and it has not come through here yet."""
        return refused.opened_us <= self._governor.reset_us(key)

    async def _tell(self, change: Change | None) -> None:
        if change is not None:
            await self.on_change(change)
