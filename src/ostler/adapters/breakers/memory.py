"""Circuit breakers of one process."""

from itertools import islice

from ostler.domain.resilience import breaker
from ostler.domain.resilience.breaker import CLOSED, Admitted, Breaker, Change, Key, Open, Outcome, State
from ostler.domain.scheduling import EVERYONE

KEYS_MAX = 10_000
"""Breakers beyond which those that are closed are forgotten, the oldest first, and with them only what they counted."""


class MemoryBreakers:
    """`Breakers` in the memory of this process, and for it alone. Nothing awaits, so nothing comes in between."""

    def __init__(self) -> None:
        self._states: dict[Key, State] = {}

    async def admit(self, key: Key, settings: Breaker, *, now_us: int) -> Admitted | Open:
        known = self._states.get(key, CLOSED)
        state, answer = breaker.admit(known, key, settings, now_us)
        if state is not known:
            self._states[key] = state
        return answer

    async def report(
        self, admitted: Admitted, settings: Breaker, outcome: Outcome, *, now_us: int, because: str = ""
    ) -> Change | None:
        known = self._states.get(admitted.key, CLOSED)
        state, change = breaker.report(known, admitted, settings, outcome, now_us, because)
        if state is not known:
            self._keep(admitted.key, state)
        return change

    async def look(self, key: Key, *, now_us: int) -> Open | None:
        return breaker.look(self._states.get(key, CLOSED), now_us)

    async def reset(self, key: Key) -> Change | None:
        state, change = breaker.reset(self._states.get(key, CLOSED), key)
        self._keep(key, state)
        return change

    async def states(self, tenant: str) -> dict[Key, State]:
        return {key: state for key, state in self._states.items() if tenant in (key.tenant, EVERYONE)}

    async def close(self) -> None:
        pass

    def _keep(self, key: Key, state: State) -> None:
        self._states[key] = state
        if len(self._states) > KEYS_MAX:
            closed = (key for key, state in self._states.items() if state.until_us is None)
            for old in list(islice(closed, KEYS_MAX // 10)):
                del self._states[old]
