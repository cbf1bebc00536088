"""What agents remember, for whoever may ask: the only writer of memory streams, and the one who asks the index."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeVar

from ostler.domain.glob import matches_any
from ostler.domain.memory.check import check_entity, check_reason
from ostler.domain.memory.events import (
    MEMORY_CODEC,
    EntityDescribed,
    MemoryContradicted,
    MemoryEvent,
    MemoryPinned,
    MemoryRetracted,
    Why,
)
from ostler.domain.memory.memory import Memory, Source
from ostler.domain.memory.ranking import DEFAULT_WEIGHTS, Weights
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.writing import (
    Remembered,
    Scene,
    Wish,
    are_rivals,
    decide,
    restorations,
    retractions,
    wished,
)
from ostler.domain.provenance import UNTRUSTED
from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.kernel.errors import NotAllowed, NotFound, StaleWrite, UsageError
from ostler.kernel.event import ERASED
from ostler.ports import Clock, EventStore
from ostler.ports.memory import EVERYTHING, Entry, Filter, MemoryIndex
from ostler.runtime.memory.counting import Counting
from ostler.runtime.memory.embedding import Embedding
from ostler.runtime.memory.journal import Decided, Journal
from ostler.runtime.memory.recalling import Question, Recall, Recaller
from ostler.runtime.memory.scenes import rivals_of, scene_of
from ostler.runtime.memory.undoing import IsMeant, Told, described_before, undoing

T = TypeVar("T")

BATCH = 250
"""Wishes that are decided and written together."""
BATCH_BYTES = 1024 * 1024
"""The texts of one batch; more only if a single one is longer."""
PAGE = 1_000
_DEFAULT_KEEPING = Keeping()


class Memories:
    """The memories of one store. Every question names whose memories are meant, and no others are looked at.

    Whatever is written is durable when a method returns, and can be found.
    """

    def __init__(
        self,
        store: EventStore,
        index: MemoryIndex,
        clock: Clock,
        *,
        keeping: Keeping = _DEFAULT_KEEPING,
        embedding: Embedding | None = None,
        detectors: Detectors = BUILTIN,
        weights: Weights = DEFAULT_WEIGHTS,
    ) -> None:
        self.store = store
        self.index = index
        self.keeping = keeping
        self.embedding = embedding
        self._clock = clock
        self._detectors = detectors
        self._journal = Journal(store, index, clock)
        self._recaller = Recaller(index, keeping, embedding, weights)
        self._counting = Counting(store, index, self._journal)

    async def catch_up(self, scopes: Sequence[Scope]) -> dict[Scope, int]:
        """Bring everything that was written in these scopes to the index.

        Returns the position of the last event of each, 0 where nothing was ever written. Raises `StoreCorrupt`,
        `UnknownEvent`.
        """
        return await self._journal.catch_up(scopes)

    async def catch_up_all(self, tenant: str) -> list[Scope]:
        """The same for everybody in a tenant who has memories; returns who that is, in order."""
        scopes = await self._journal.scopes(tenant)
        await self._journal.catch_up(scopes)
        return scopes

    async def rebuild(self, tenant: str) -> int:
        """Clear what the index has of a tenant, and fill it again. Returns how many events that took."""
        await self._journal.clear(sorted({*await self.index.scopes(tenant), *await self._journal.scopes(tenant)}))
        scopes = await self.catch_up_all(tenant)
        return sum((await self.index.applied(scopes)).values())

    async def remember(
        self, scope: Scope, wish: Wish, *, key: str, instead_of: Sequence[str] | None = None
    ) -> Remembered:
        """Remember this. With the same `key` it is remembered once, however often that is asked for.

        Raises `UsageError` for what can be no memory, `NotAllowed` for what has a secret in it, `QuotaExceeded`,
        `StaleWrite`; then nothing was written. `instead_of` says what it is made to take the place of (empty: of
        nothing): if that is not what is in its place by then, it is a `StaleWrite`.
        """
        at_us = self._clock.now_us()
        memory = wished(scope, wish, key=key, at_us=at_us, detectors=self._detectors)
        (remembered,) = await self._remember(scope, [memory], at_us, instead_of)
        return remembered

    async def remember_all(self, scope: Scope, wishes: Sequence[tuple[str, Wish]]) -> list[Remembered]:
        """Remember all of these, each with its key, in few appends.

        Raises as `remember`: before anything is written for what can be no memory, and where there is no room any more
        when what came before has been written. Doing it again goes on where it was left.
        """
        at_us = self._clock.now_us()
        memories = [wished(scope, wish, key=key, at_us=at_us, detectors=self._detectors) for key, wish in wishes]
        remembered: list[Remembered] = []
        for batch in _batches(memories):
            remembered += await self._remember(scope, batch, at_us)
        return remembered

    async def describe(self, scope: Scope, entity: EntityDescribed) -> None:
        """Say what an entity is, in place of what was said before; what is known already is not written again.

        Raises `UsageError`, and `NotAllowed` where untrusted text would take the place of what is trusted.
        """
        check_entity(entity, detectors=self._detectors)

        async def decided() -> Decided[None]:
            for known in await self.index.entities([scope], [entity.name]):
                said = (known.kind, known.properties, set(known.labels))
                if said == (entity.kind, entity.properties, set(entity.labels)):
                    return [], None
                if (known.kind or known.properties) and UNTRUSTED in entity.labels and UNTRUSTED not in known.labels:
                    raise NotAllowed("What untrusted text says of an entity takes the place of nothing trusted.")
            return [entity], None

        await self.write(scope, decided)

    async def recall(
        self,
        reader: Scope,
        query: str,
        *,
        which: Filter = EVERYTHING,
        limit: int = 8,
        tokens: int | None = None,
        call: str = "",
        is_again: bool = False,
    ) -> Recall:
        """What `reader` may see that bears on a question, best first: `limit` memories, of `tokens` together.

        With `call` it is counted that these were recalled, once for each call; that it cannot be counted is among what
        is missing, and changes nothing else. `is_again`: another process may have made an earlier attempt of the call.
        """
        scopes = reader.visible
        await self._journal.catch_up(scopes)
        query = query.encode(errors="replace").decode()  # nothing holds half of a pair
        question = Question(scopes, query, which, limit=limit, tokens=tokens, now_us=self._clock.now_us())
        recall = await self._recaller.recall(question)
        if not call or not recall.found:
            return recall
        if is_again:
            await self._counting.look_up({one.entry.scope for one in recall.found}, call)
        problems = await self.count([one.entry for one in recall.found], call)
        return Recall(recall.found, recall.left_out, (*recall.missing, *problems))

    async def forget(
        self,
        scope: Scope,
        ids: Sequence[str],
        *,
        by: str,
        because: str = "",
        why: Why = "forgotten",
        source: Source | None = None,
    ) -> list[str]:
        """Let these be in force no more; what they said stays in the log. `source` is the call that wants it, if one
        does. Returns those that were in force here. Raises `NotAllowed` for a reason with a secret in it.
        """
        check_reason(because, detectors=self._detectors)

        async def decided() -> Decided[list[str]]:
            going = [entry.memory.id for entry in await self._entries(scope, ids) if entry.until is None]
            return retractions(going, why, by, because, source), going

        return await self.write(scope, decided)

    async def restore(self, scope: Scope, ids: Sequence[str], *, by: str, because: str = "") -> list[str]:
        """Let these be in force again, whatever had ended that, beside what had taken their place: the two are recorded
        to contradict one another. Returns those that were not in force here. Raises `NotAllowed` as `forget` does.
        """
        check_reason(because, detectors=self._detectors)

        async def decided() -> Decided[list[str]]:
            back = [entry for entry in await self._entries(scope, ids) if entry.until is not None]
            return await self.restoring(scope, back, by, because), [entry.memory.id for entry in back]

        return await self.write(scope, decided)

    async def pin(self, scope: Scope, memory: str, *, by: str, is_pinned: bool = True) -> None:
        """Say whether the memory with this id may be evicted. Raises `NotFound`."""

        async def decided() -> Decided[None]:
            entries = await self._entries(scope, [memory])
            if not entries:
                raise NotFound(
                    f"There is no memory {memory} of {scope}.", hint="`ostler memory list` shows those there are."
                )
            is_news = entries[0].memory.is_pinned != is_pinned
            return ([MemoryPinned(memory, by, is_pinned)] if is_news else []), None

        await self.write(scope, decided)

    async def roll_back(
        self, tenant: str, *, session: str = "", source: str = "", after: int = 0, by: str, because: str
    ) -> dict[Scope, list[str]]:
        """Retract all that this session wrote, or that was made of what this source said (`tool.web.fetch`, a glob),
        after this position; and what was made of it. What it had taken the place of is in force again, and what it had
        forgotten, or evicted; entities are described as they were before.

        Returns what was retracted, by scope. If it is interrupted, doing it again does the rest. Raises `UsageError` if
        neither is named.
        """
        is_meant = _meant(session, source, after)
        found = {}
        for scope in await self.catch_up_all(tenant):
            if retracted := await self._undo(scope, is_meant, by, because):
                found[scope] = retracted
        return found

    async def would_roll_back(
        self, tenant: str, *, session: str = "", source: str = "", after: int = 0
    ) -> dict[Scope, list[Entry]]:
        """What `roll_back` would retract now, by scope. Nothing is written. Raises `UsageError` as it does."""
        is_meant = _meant(session, source, after)
        found = {}
        for scope in await self.catch_up_all(tenant):
            undone = undoing(await self._everything(scope), await self._told(scope), is_meant)
            if undone.retracted:
                found[scope] = undone.retracted
        return found

    async def write(self, scope: Scope, decide: Callable[[], Awaitable[Decided[T]]]) -> T:
        """Append the events that `decide` makes of what the index says, which has everything by then, all or none.

        It decides again if somebody else was quicker, so that it is to do nothing but ask. Returns what it tells.
        """
        return await self._journal.write(scope, decide)

    async def restoring(
        self, scope: Scope, back: Sequence[Entry], by: str, because: str, *, going: Collection[str] = ()
    ) -> list[MemoryEvent]:
        """The events with which these are in force again; for `write`. What contradicts them is said, but for what is
        `going`.
        """
        if not back:
            return []
        events = restorations([entry.memory.id for entry in back], by, because)
        there = await rivals_of(self.index, scope, [entry.memory for entry in back])
        beside = {entry.memory.id: entry for entry in (*there, *back) if entry.memory.id not in going}
        for entry in back:
            del beside[entry.memory.id]
            for other in beside.values():
                if other.memory.id not in entry.contradicts and are_rivals(entry.memory, other.memory):
                    events.append(MemoryContradicted(entry.memory.id, other.memory.id, "it was restored beside it"))
        return events

    async def count(self, entries: Iterable[Entry], call: str) -> list[str]:
        """Record that these were given to a call, with what waits to be recorded of the same scopes. Returns why it
        could not be; then it waits for the next time. What is given and not counted is not found when it is to be
        erased in the session that has it.
        """
        return await self._counting.count(entries, call)

    async def close(self) -> None:
        """Let go of the index, and of the embedder. The store belongs to others."""
        if self.embedding is not None:
            await self.embedding.close()
        await self.index.close()

    async def _remember(
        self, scope: Scope, memories: Sequence[Memory], at_us: int, instead_of: Sequence[str] | None = None
    ) -> list[Remembered]:
        async def decided() -> Decided[list[Remembered]]:
            scene = await scene_of(self.index, scope, memories, self.keeping)
            if instead_of is not None:
                _check_place(scene, memories[0], instead_of)
            decisions = [decide(memory, scene, at_us=at_us) for memory in memories]
            return [event for one in decisions for event in one.events], [one.remembered for one in decisions]

        remembered = await self.write(scope, decided)
        if self.embedding is not None:
            self.embedding.kick(scope)
        return remembered

    async def _undo(self, scope: Scope, is_meant: IsMeant, by: str, because: str) -> list[str]:
        async def decided() -> Decided[list[str]]:
            told = await self._told(scope)
            undone = undoing(await self._everything(scope), told, is_meant)
            going = [entry.memory.id for entry in undone.retracted]
            events = retractions(going, "rolled_back", by, because)
            events += await self.restoring(scope, undone.restored, by, because, going=going)
            events += described_before(told, is_meant)
            return events, going

        return await self.write(scope, decided)

    async def _told(self, scope: Scope) -> list[Told]:
        """What was taken out of force and what was said of entities, as the log has it."""
        told: list[Told] = []
        after = 0
        while records := await self.store.read(scope.stream, after=after, limit=PAGE):
            for record in records:
                event = None if record.data == ERASED else MEMORY_CODEC.decode(record.data)
                if isinstance(event, MemoryRetracted | EntityDescribed):
                    told.append((record.position, event))
            after = records[-1].seq
            await asyncio.sleep(0)
        return told

    async def _entries(self, scope: Scope, ids: Sequence[str]) -> list[Entry]:
        return await self.index.get([scope], list(dict.fromkeys(ids)))

    async def _everything(self, scope: Scope) -> list[Entry]:
        """All that was ever remembered in a scope, in force or not."""
        which = Filter(is_closed_too=True)
        entries: list[Entry] = []
        before: int | None = None
        while page := await self.index.page([scope], which, before=before, limit=PAGE):
            entries += page
            before = page[-1].position
            await asyncio.sleep(0)
        return entries


def _check_place(scene: Scene, memory: Memory, instead_of: Sequence[str]) -> None:
    """Raises `StaleWrite` if something else is in the place of a memory than whoever made it had seen there."""
    there = {other.id for other in scene.rivals(memory)}
    if memory.id not in scene.ids and there != set(instead_of):
        raise StaleWrite(f"{memory.key!r} was written to by somebody else meanwhile.", hint="Look at it again.")


def _meant(session: str, source: str, after: int) -> IsMeant:
    """What is to be rolled back. Raises `UsageError` if nothing is named."""
    if not session and not source:
        raise UsageError("Nothing is rolled back without being named.", hint="Name a session, or a source.")

    def is_meant(made: Source, position: int) -> bool:
        by_session = not session or made.session == session
        by_source = not source or any(matches_any((source,), one) for one in made.sources)
        return position > after and by_session and by_source

    return is_meant


def _batches(memories: Iterable[Memory]) -> Iterable[list[Memory]]:
    """These in their order, as many together as are written together."""
    batch: list[Memory] = []
    size = 0
    for memory in memories:
        length = memory.size
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(memory)
        size += length
    if batch:
        yield batch
