"""Counts who was given which memory: once for each call, in as few appends as there can be."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from ostler.domain.memory.events import MEMORY_CODEC, MemoryRecalled
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import OstlerError
from ostler.kernel.event import Record
from ostler.ports import EventStore
from ostler.ports.memory import Entry, MemoryIndex
from ostler.runtime.memory.journal import Decided, Journal

COUNTED_MAX = 10_000
"""Calls of which is remembered that what they recalled is counted."""
LOOKED_BACK = 1_000
"""Events among which it is looked for whether a call was counted by somebody else."""


class Counting:
    """What was given to calls, and is recorded or waits for that."""

    def __init__(self, store: EventStore, index: MemoryIndex, journal: Journal) -> None:
        self._store = store
        self._index = index
        self._journal = journal
        self._waiting: dict[Scope, dict[str, tuple[str, ...]]] = {}
        self._counted: OrderedDict[tuple[Scope, str], frozenset[str]] = OrderedDict()

    async def count(self, entries: Iterable[Entry], call: str) -> list[str]:
        """Record that these were given to a call, with what waits to be recorded of the same scopes.

        Returns why it could not be; then it waits for the next time.
        """
        given: dict[Scope, list[str]] = {}
        for entry in entries:
            if entry.memory.id not in self._counted.get((entry.scope, call), ()):
                given.setdefault(entry.scope, []).append(entry.memory.id)
        for scope, ids in given.items():
            self._await(scope, {call: tuple(ids)})
        counted = await asyncio.gather(*(self._write(scope) for scope in given))
        return [problem for problem in counted if problem]

    async def look_up(self, scopes: Iterable[Scope], call: str) -> None:
        """Note where the log says that this call was counted already, lately."""
        applied = await self._index.applied(list(scopes))
        for scope, seq in applied.items():
            records = await self._store.read(scope.stream, after=max(0, seq - LOOKED_BACK), limit=LOOKED_BACK)
            self._counted[scope, call] = frozenset(name for record in records for name in _given(record, call))

    async def _write(self, scope: Scope) -> str:
        """Record what waits of this scope; returns why that failed, empty if it did not. Whoever came first to the
        scope has recorded it for those who waited.
        """
        taken: dict[str, tuple[str, ...]] = {}
        is_written = False

        async def decided() -> Decided[None]:
            taken.update(self._waiting.pop(scope, {}))
            return [MemoryRecalled(ids, call) for call, ids in taken.items()], None

        try:
            await self._journal.write(scope, decided)
            is_written = True
        except OstlerError as error:
            return f"counts: {error.message}"
        finally:
            if not is_written:
                self._await(scope, taken)
        for call, ids in taken.items():
            self._counted[scope, call] = self._counted.get((scope, call), frozenset()).union(ids)
        while len(self._counted) > COUNTED_MAX:
            self._counted.popitem(last=False)
        return ""

    def _await(self, scope: Scope, given: Mapping[str, tuple[str, ...]]) -> None:
        """Let it wait until it can be recorded that these calls were given these."""
        waiting = self._waiting.setdefault(scope, {})
        for call, ids in given.items():
            waiting[call] = tuple(dict.fromkeys((*waiting.get(call, ()), *ids)))


def _given(record: Record, call: str) -> tuple[str, ...]:
    """What the call has recalled, as far as this says so."""
    if call.encode() not in record.data:
        return ()
    event = MEMORY_CODEC.decode(record.data)
    return event.ids if isinstance(event, MemoryRecalled) and event.call == call else ()
