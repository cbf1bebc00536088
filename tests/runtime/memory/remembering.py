"""Memories over real stores and a real index, and random histories of them, for tests."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from ostler.adapters.index.sqlite import SqliteIndex
from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.memory.events import MEMORY_CODEC, EntityDescribed, MemoryEvent
from ostler.domain.memory.memory import Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.kernel.errors import NotAllowed, QuotaExceeded
from ostler.ports import EventStore
from ostler.ports.memory import Entry, Filter
from ostler.runtime.memory.memories import Memories
from tests.runtime.crash import Clock

TENANT = "acme"
SCOPE = Scope(TENANT, "coder", "ann")
SOURCE = Source("agent:coder", call="ses_a/1.1")
DAY = 86_400_000_000
EVER = Filter(is_closed_too=True)

_PEOPLE = ("Ann", "Bea", "Cem", "Dora")
_PLACES = ("Berlin", "Munich", "Paris", "Rome")
_WORDS = ("build", "deploy", "invoice", "garden", "river", "meeting", "holiday", "report", "printer", "budget")


def wish(text: str = "Ann likes tea", **fields: Any) -> Wish:
    return Wish(fields.pop("kind", "fact"), text, fields.pop("source", SOURCE), **fields)


def lives(place: str, **fields: Any) -> Wish:
    return wish(f"Ann lives in {place}", relation=Relation("Ann", "lives_in", place, is_single=True), **fields)


@asynccontextmanager
async def memories_in(place: Path | None = None, **fields: Any) -> AsyncIterator[Memories]:
    """Memories in this folder, in SQLite; without one in memory."""
    store: EventStore = MemoryStore() if place is None else await SqliteStore.open(place / "ostler.db")
    index = await SqliteIndex.open(":memory:" if place is None else place / "ostler.db.memory")
    memories = Memories(store, index, fields.pop("clock", None) or Clock(), **fields)
    try:
        yield memories
    finally:
        await memories.close()
        await store.close()


async def events_of(store: EventStore, scope: Scope) -> list[MemoryEvent]:
    return [MEMORY_CODEC.decode(record.data) for record in await store.read(scope.stream)]


async def entries_of(memories: Memories, scopes: Sequence[Scope], which: Filter = EVER) -> list[Entry]:
    return await memories.index.page(scopes, which, limit=10_000)


class History:
    """Things that happen to the memories of a scope, one after the other, as a seed has them."""

    def __init__(self, memories: Memories, seed: int, *, scope: Scope = SCOPE) -> None:
        self.memories = memories
        self.scope = scope
        self.chance = random.Random(seed)
        self._number = 0

    async def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self._number += 1
            step = self.chance.choices((self._remember, self._end, self._restore, self._look), (8, 2, 1, 2))[0]
            await step()

    async def _remember(self) -> None:
        wishes = [(f"{self._number}.{number}", self._wish()) for number in range(self.chance.choice((1, 1, 1, 5)))]
        with suppress(QuotaExceeded):  # all that there is room for is pinned
            await self.memories.remember_all(self.scope, wishes)

    def _wish(self) -> Wish:
        chance = self.chance
        text = " ".join(chance.choices(_WORDS, k=4))
        labels = ("untrusted",) if chance.random() < 0.3 else ()
        source = Source(
            "agent:coder", f"ses_{chance.choice('abc')}/{self._number}.1", ("tool.web.fetch",) * len(labels)
        )
        fields: dict[str, Any] = {"source": source, "labels": labels, "importance": chance.random()}
        fields["tags"] = tuple(chance.sample(_WORDS, k=chance.randint(0, 2)))
        match chance.randint(0, 4):
            case 0 | 1:
                return wish(text, kind="episode", is_pinned=chance.random() < 0.2, **fields)
            case 2:
                return wish(text, key=chance.choice(_WORDS), **fields)
            case 3:
                name, is_single = chance.choice((("lives_in", True), ("visited", False)))
                relation = Relation(chance.choice(_PEOPLE), name, chance.choice(_PLACES), is_single=is_single)
                begin = chance.choice((None, DAY, 2 * DAY))
                told = f"{relation.subject} {name} {relation.object}"
                return wish(told, relation=relation, valid_from_us=begin, **fields)
            case _:
                return wish(text, **fields)

    async def _end(self) -> None:
        if self.chance.random() < 0.1:
            await self.memories.roll_back(TENANT, session=f"ses_{self.chance.choice('abc')}", by="x", because="x")
        elif ids := await self._some():
            await self.memories.forget(self.scope, ids, by="user:ann")

    async def _restore(self) -> None:
        await self.memories.restore(self.scope, await self._some(), by="user:ann")

    async def _look(self) -> None:
        """Recall something, pin something, or describe somebody."""
        match self.chance.randint(0, 2):
            case 0:
                words = " ".join(self.chance.choices((*_WORDS, *_PEOPLE), k=3))
                await self.memories.recall(self.scope, words, call=f"ses_z/{self._number}.1")
            case 1:
                for one in (await self._some())[:1]:
                    await self.memories.pin(self.scope, one, by="user:ann", is_pinned=self.chance.random() < 0.5)
            case _:
                kind = self.chance.choice(("person", "engineer"))
                labels = ("untrusted",) if self.chance.random() < 0.3 else ()
                try:
                    entity = EntityDescribed(self.chance.choice(_PEOPLE), kind, SOURCE, labels=labels)
                    await self.memories.describe(self.scope, entity)
                except NotAllowed:
                    assert labels

    async def _some(self) -> list[str]:
        await self.memories.catch_up([self.scope])
        found = sorted(entry.memory.id for entry in await entries_of(self.memories, [self.scope]))
        return self.chance.sample(found, k=min(len(found), self.chance.randint(0, 3)))
