"""Which circuit breakers are open: those that people have opened, and those that failures have."""

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.settings import Settings
from ostler.domain.boot import (
    WORKER_CODEC,
    BreakerClosed,
    BreakerOpened,
    WorkerEvent,
    WorkerLost,
    WorkerStarted,
    WorkerStopped,
)
from ostler.domain.governance import GOVERNANCE
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.resilience.breaker import Key, Kind
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.errors import BreakersUnshared, StoreCorrupt, UnknownEvent
from ostler.kernel.event import Record, StreamId, timestamp

PAGE = 1000


class Circuit(msgspec.Struct, frozen=True):
    """An open breaker. A tenant of `*` is all of them.

    `tripped`: by a person, until it is reset. `open`: by failures, until then. `half-open`: the wait is over, and the
    next call tries whether it is well. `by` is the person, the worker whose own it is, or `all workers`. `since` and
    `until` are RFC 3339 moments; since when a worker's own is open is when it last failed.
    """

    tenant: str
    kind: Kind
    name: str
    state: Literal["tripped", "open", "half-open"]
    by: str
    since: str
    until: str | None
    because: str


async def governed(parts: Parts) -> list[str]:
    """The tenants for which anything was ever decided that holds for all their sessions; of very many, some."""
    census = await parts.store.census(now_us=parts.clock.now_us(), most=1)
    return [one.tenant for one in census.statuses if one.status == GOVERNANCE]


class OpenCircuits:
    """Looks again and again, and reads of the streams of workers only what is new."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._is_shared = settings.breakers.redis is not None
        self._parts = parts
        self._read: dict[str, int] = {}
        self._open: dict[str, dict[Key, tuple[int, BreakerOpened]]] = {}
        self.problem: BreakersUnshared | None = None
        """Why nobody could say, at the last look, how the breakers stand that workers share."""

    async def look(self, tenants: Iterable[str]) -> list[Circuit]:
        """Those that are open for these tenants (`*`: for anybody), by their names. Raises `StoreError`.

        Which of them people have opened is as the governor of the parts last read it.
        """
        self.problem = None
        wanted = dict.fromkeys(tenants)
        found = [*self._tripped(wanted), *await self._shared(wanted), *await self._own(wanted)]
        return sorted(found, key=lambda one: (one.tenant, one.kind, one.name, one.by))

    def _tripped(self, tenants: Iterable[str]) -> list[Circuit]:
        return [
            Circuit(tenant, kind, name, "tripped", one.by, timestamp(one.at_us), None, one.reason)
            for tenant in dict.fromkeys((EVERYONE, *tenants))
            for (kind, name), one in self._parts.governor.register(tenant).state.tripped.items()
        ]

    async def _shared(self, tenants: Collection[str]) -> list[Circuit]:
        """Those that failures have opened for all workers."""
        found: list[Circuit] = []
        if not self._is_shared:
            return found
        try:
            for tenant in (EVERYONE,) if EVERYONE in tenants else tenants:
                for key, state in (await self._parts.breakers.states(tenant)).items():
                    if state.until_us is not None and state.opened_us > self._parts.governor.reset_us(key):
                        found.append(self._circuit(key, state.until_us, "all workers", state.opened_us, state.because))
        except BreakersUnshared as error:
            self.problem = error
        return found

    async def _own(self, tenants: Collection[str]) -> list[Circuit]:
        """Those that workers that live have of their own."""
        now_us = self._parts.clock.now_us()
        living = [name.partition("/")[0] for name, until_us in await self._parts.store.workers() if until_us > now_us]
        found = []
        for worker in living:
            for key, (at_us, event) in (await self._of(worker)).items():
                is_wanted = key.tenant in tenants or EVERYONE in tenants
                if is_wanted and at_us > self._parts.governor.reset_us(key):
                    found.append(self._circuit(key, event.until_us, worker, at_us, event.because))
        return found

    async def _of(self, worker: str) -> dict[Key, tuple[int, BreakerOpened]]:
        stands = self._open.setdefault(worker, {})
        stream = StreamId(DEFAULT_TENANT, worker)
        while records := await self._parts.store.read(stream, after=self._read.get(worker, 0), limit=PAGE):
            for record in records:
                match event := _decoded(record):
                    case BreakerOpened():
                        stands[Key(event.tenant, event.kind, event.name)] = record.at_us, event
                    case BreakerClosed():
                        stands.pop(Key(event.tenant, event.kind, event.name), None)
                    case WorkerStarted() | WorkerStopped() | WorkerLost() | None:
                        pass
            self._read[worker] = records[-1].seq
        return stands

    def _circuit(self, key: Key, until_us: int, by: str, since_us: int, because: str) -> Circuit:
        state: Literal["open", "half-open"] = "open" if until_us > self._parts.clock.now_us() else "half-open"
        return Circuit(*key, state, by, timestamp(since_us), timestamp(until_us), because)


def _decoded(record: Record) -> WorkerEvent | None:
    """None if it cannot be read: a worker of a newer version may have written it."""
    try:
        return WORKER_CODEC.decode(record.data)
    except (StoreCorrupt, UnknownEvent):
        return None
