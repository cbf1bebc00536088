"""Erasing what is remembered: of somebody, in some scope, or of some subject; in every place where it was written.

What is erased is looked for in the streams of memories themselves, not in an index. First go the sessions whose logs
hold the text, because they had written it or were given it; then the memories, those last that others were found by;
then what the index has of them. So whoever dies in between, the same command run again finds what is left.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ostler.app.housekeeping import Housekeeping
from ostler.domain.housekeeping import ERASED as ERASED_STATUS
from ostler.domain.housekeeping import HOUSEKEEPING, HOUSEKEEPING_CODEC, MemoriesErased
from ostler.domain.memory.erasure import Account, Doomed, Reach, Which, reach
from ostler.domain.memory.events import MEMORY_CODEC, MemoryErased
from ostler.domain.memory.memory import normal
from ostler.domain.memory.scope import MEMORY, PREFIX, Scope
from ostler.domain.session.events import SESSION_CODEC, AgentStarted
from ostler.domain.session.state import ENDED
from ostler.kernel.errors import Conflict, StaleWrite
from ostler.kernel.event import ERASED, GENESIS, Record, StreamId, link
from ostler.ports import Append, Standing, StreamInfo

if TYPE_CHECKING:
    from ostler.app.bootstrap import Parts
    from ostler.runtime.memory.memories import Memories

T = TypeVar("T")

BATCH = 500
"""Events that are erased together, with one note of it."""
PAGE = 1000
TRIES_MAX = 20
ENTITIES_MAX = 1_000_000
"""Entities of one scope that are compared with what its stream says."""
NAMED_MAX = 10
"""Sessions that an error names."""

Progress = Callable[[int, int], None]
"""Is told how many steps are done, of how many."""


class Plan(msgspec.Struct, frozen=True):
    """What would be erased, with why; of `scopes` all that they hold, and whose they are.

    `sessions` have written or were given some of it, or are forks of those; those that have not ended are `waiting`,
    and nothing can be erased before they have. `possible` are the ids of memories that such sessions made while they
    had it in sight, in words of their own: they stay, unless `Which.is_thorough`.
    """

    memories: tuple[Doomed, ...]
    entities: tuple[tuple[Scope, str], ...]
    scopes: tuple[Scope, ...]
    sessions: tuple[str, ...]
    waiting: tuple[str, ...]
    possible: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return not (self.memories or self.entities or self.scopes or self.sessions or self.waiting)


class Erasure(msgspec.Struct, frozen=True):
    """What was erased: memories and descriptions of entities by scope, and sessions."""

    memories: int
    events: int
    sessions: tuple[str, ...]
    possible: tuple[str, ...]


async def plan_erasure(parts: "Parts", tenant: str, *, which: Which) -> Plan:
    """What `erase_memories` would do now. Writes nothing. Raises `UsageError` if nothing is named."""
    return await _plan(parts, tenant, reach(await _account(parts, tenant, which), which))


async def erase_memories(
    parts: "Parts",
    tenant: str,
    *,
    which: Which,
    by: str,
    because: str,
    progress: Progress = lambda done, total: None,
) -> Erasure:
    """Erase these memories and what was made of them, with the sessions whose logs hold them, for good.

    Raises `Conflict` that names the sessions which have not ended, before anything is erased; if one was given
    something meanwhile, after: then the same command finishes when it has ended. Backups, archives and what relays
    handed on are beyond its reach.
    """
    account = await _account(parts, tenant, which)
    found = reach(account, which)
    plan = await _plan(parts, tenant, found)
    _check_ended(plan.waiting)
    eraser = _Eraser(parts, tenant, by, because)
    steps = list(_steps(account, found))
    total = len(plan.sessions) + len(steps)
    for done, name in enumerate(plan.sessions, 1):
        await eraser.erase_session(name)
        progress(done, total)
    for done, step in enumerate(steps, len(plan.sessions) + 1):
        await eraser.erase(step)
        progress(done, total)
    left = await _account(parts, tenant, which)
    await _purge(await parts.memories(), tenant, found, left)
    later = await _plan(parts, tenant, reach(left, which))
    _check_ended(later.waiting)
    for name in later.sessions:
        await eraser.erase_session(name)
    events = sum(len(step.events) for step in steps)
    return Erasure(len(plan.memories), events, (*plan.sessions, *later.sessions), plan.possible)


class _Step(msgspec.Struct, frozen=True):
    """Events of one stream that are erased together: those of these memories, and what else speaks of them."""

    stream: StreamId
    events: tuple[int, ...]
    ids: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()


class _Eraser:
    """Erases sessions, and events of memories: each time with a receipt in their stream and a note for housekeeping."""

    def __init__(self, parts: "Parts", tenant: str, by: str, because: str) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._keeping = Housekeeping(parts.journal, parts.blobs, parts.views, parts.clock, tenant=tenant, by=by)
        self._tenant = tenant
        self._by = by
        self._because = because

    async def erase_session(self, name: str) -> None:
        for info in await self._store.streams(self._tenant, prefix=name, limit=1):
            await self._keeping.erase(info, because=self._because)

    async def erase(self, step: _Step) -> None:
        """Raises `StaleWrite` if the stream is written to by too many at once."""
        receipt = MemoryErased(step.ids, self._by, self._because, step.sessions)
        note = MemoriesErased(step.stream.name, step.events, self._by, self._because)
        for left in range(TRIES_MAX, 0, -1):
            own = await self._next(step.stream, MEMORY_CODEC.encode(receipt), MEMORY)
            noted = await self._next(
                StreamId(self._tenant, HOUSEKEEPING), HOUSEKEEPING_CODEC.encode(note), HOUSEKEEPING
            )
            try:
                await self._store.erase(step.stream, own.expected, noted, own, only=step.events)
            except StaleWrite:
                if left == 1:
                    raise
            else:
                return

    async def _next(self, stream: StreamId, data: bytes, register: str) -> Append:
        """The append of one event at the end of a stream of this register."""
        seq, previous = 0, GENESIS
        for info in await self._store.streams(stream.tenant, prefix=stream.name, limit=1):
            (last,) = await self._store.read(stream, after=info.version - 1, limit=1)
            seq, previous = last.seq, last.hash
        now = self._clock.now_us()
        record = Record(stream, seq + 1, now, data, link(previous, stream, seq + 1, now, data))
        return Append(stream, seq, [record], Standing(register, register, None))


async def _account(parts: "Parts", tenant: str, which: Which) -> Account:
    """What all memory streams of the tenant say."""
    which.check(tenant)
    account = Account()
    before: int | None = None
    while page := await parts.store.streams(tenant, prefix=PREFIX, before=before, limit=PAGE):
        for info in page:
            await _read(parts, account, info.stream)
        before = page[-1].number
    return account


async def _read(parts: "Parts", account: Account, stream: StreamId) -> None:
    after = 0
    while page := await parts.store.read(stream, after=after, limit=PAGE):
        for record in page:
            if record.data != ERASED:
                account.take(stream, record, MEMORY_CODEC.decode(record.data))
        after = page[-1].seq


async def _plan(parts: "Parts", tenant: str, found: Reach) -> Plan:
    sessions = await _sessions(parts, tenant, found.sessions)
    return Plan(
        memories=found.memories,
        entities=found.entities,
        scopes=found.scopes,
        sessions=tuple(info.stream.name for info in sessions if info.standing.status in ENDED),
        waiting=tuple(info.stream.name for info in sessions if info.standing.status not in ENDED),
        possible=found.possible,
    )


async def _sessions(parts: "Parts", tenant: str, names: frozenset[str]) -> list[StreamInfo]:
    """Those of these sessions, and of their forks, that are there and say anything; the oldest first."""
    if not names:
        return []
    found: dict[str, StreamInfo] = {}
    origins: dict[str, str] = {}
    before: int | None = None
    while page := await parts.store.streams(tenant, prefix="ses_", before=before, limit=PAGE):
        for info in page:
            if info.standing.status != ERASED_STATUS:
                found[info.stream.name] = info
                (first,) = await parts.store.read(info.stream, limit=1)
                event = SESSION_CODEC.decode(first.data)
                if isinstance(event, AgentStarted) and event.origin:
                    origins[info.stream.name] = event.origin
        before = page[-1].number
    wanted = set(names)
    for name in reversed(found):  # a fork is younger than what it was forked from
        if origins.get(name) in wanted:
            wanted.add(name)
    return [found[name] for name in reversed(found) if name in wanted]


def _check_ended(waiting: Sequence[str]) -> None:
    if waiting:
        others = " and others" if len(waiting) > NAMED_MAX else ""
        raise Conflict(
            f"{', '.join(waiting[:NAMED_MAX])}{others} had some of this in sight and did not end yet.",
            hint=f"Cancel what goes on, and run this again: ostler cancel {waiting[0]}",
            sessions=list(waiting),
        )


def _steps(account: Account, found: Reach) -> Iterator[_Step]:
    """What is to be erased, in order: what was found by others before these, and whose it all was at the end."""
    doomed = set(found.entities)
    described = [(one.scope, one) for one in account.described if (one.scope, one.event.name) in doomed]
    for scope, descriptions in _batches(described):
        speakers = {one.event.source.session for one in descriptions} - {""}
        yield _Step(scope.stream, tuple(one.seq for one in descriptions), sessions=tuple(sorted(speakers)))
    farthest = max((doomed.distance for doomed in found.memories), default=0)
    for distance in range(farthest, -1, -1):
        ids = [(doomed.scope, doomed.id) for doomed in found.memories if doomed.distance == distance]
        for scope, some in _batches(ids):
            events = {seq for name in some for seq in account.events_of(name)}
            sessions = {session for name in some for session in account.sessions_of(name)}
            yield _Step(scope.stream, tuple(sorted(events)), tuple(some), tuple(sorted(sessions)))
    opened = [(scope, seq) for scope in found.scopes for seq in account.opened[scope]]
    for scope, numbers in _batches(opened):
        yield _Step(scope.stream, tuple(numbers))


def _batches(pairs: Sequence[tuple[Scope, T]]) -> Iterator[tuple[Scope, list[T]]]:
    """What belongs to each scope, in portions."""
    by_scope: dict[Scope, list[T]] = {}
    for scope, one in pairs:
        by_scope.setdefault(scope, []).append(one)
    for scope, all_ in by_scope.items():
        for start in range(0, len(all_), BATCH):
            yield scope, all_[start : start + BATCH]


async def _purge(memories: "Memories", tenant: str, found: Reach, left: Account) -> None:
    """Take what was erased out of the index, now or by somebody who died before this.

    What it has of descriptions, and of whose a scope is, goes only with the whole of the scope, which is filled again
    from what is `left`, but for vectors, which are made anew.
    """
    by_scope: dict[Scope, list[str]] = {}
    for doomed in found.memories:
        by_scope.setdefault(doomed.scope, []).append(doomed.id)
    await memories.catch_up(sorted(left.opened))
    for scope, ids in by_scope.items():
        await memories.index.erase(scope, ids)
    known = await memories.index.scopes(tenant)
    stale = [scope for scope in known if scope not in left.opened or await _is_stale(memories, scope, left)]
    for scope in stale:
        await memories.index.clear([scope])
    await memories.catch_up([scope for scope in stale if scope in left.opened])


async def _is_stale(memories: "Memories", scope: Scope, left: Account) -> bool:
    """Whether the index describes an entity of which the stream says nothing any more."""
    if scope not in left.undescribed:
        return False
    described = {normal(one.event.name) for one in left.described if one.scope == scope}
    entities = await memories.index.entities([scope], limit=ENTITIES_MAX)
    return any((one.kind or one.properties) and normal(one.name) not in described for one in entities)
