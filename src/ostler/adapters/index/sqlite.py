"""An index of memories in a SQLite file of its own, beside the store."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from ostler.adapters.index import sqlite_graph, sqlite_reading, sqlite_words, sqlite_writing
from ostler.adapters.index.database import IndexDatabase
from ostler.adapters.index.sqlite_reading import Keys
from ostler.adapters.index.sqlite_vectors import SqliteVectors
from ostler.domain.memory.memory import Kind, normal
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import EVERYTHING, Direction, Edge, Entity, Entry, Filter, Held, Hit, Noted

T = TypeVar("T")

SCOPES_AT_ONCE = 100
"""Scopes that are looked into before the event loop gets a turn."""
ROWS_AT_ONCE = 500
"""Entries that are read before the event loop gets a turn."""


class SqliteIndex:
    """A `MemoryIndex` in a SQLite file, for any number of processes on one machine. Made by `open`.

    Questions and changes run on the event loop, in pages; nobody waits there for the locks of other processes.
    """

    def __init__(self, database: IndexDatabase) -> None:
        self._database = database
        self._vectors = SqliteVectors(database)

    @classmethod
    async def open(cls, path: str | Path, *, busy_timeout_s: float = 30.0) -> "SqliteIndex":
        """The index in this file, or in memory for `:memory:` and where no file can be written.

        A file of another layout, or a damaged one, is cleared. Raises `NotAStore` if it is a database of another
        application, and leaves it as it is. This and every method raises `StoreBusy` if another process has held the
        file for `busy_timeout_s`.
        """
        index = cls(await IndexDatabase.open(path, busy_timeout_s=busy_timeout_s))
        if await index._sweep():  # whoever cleared it did not come to an end
            await index._scrub()
        return index

    async def applied(self, scopes: Sequence[Scope]) -> dict[Scope, int]:
        return dict.fromkeys(scopes, 0) | dict(await self._each(scopes, sqlite_reading.applied))

    async def last(self, scope: Scope) -> tuple[int, bytes]:
        found = await self._each([scope], sqlite_reading.last)
        return found[0] if found else (0, b"")

    async def apply(self, scope: Scope, notes: Sequence[Noted], *, after: int) -> None:
        has_erased = await self._database.transaction(
            lambda connection: sqlite_writing.apply(connection, scope, notes, after)
        )
        if has_erased:
            await self._scrub()

    async def scopes(self, tenant: str) -> list[Scope]:
        found = await self._database.fetch(sqlite_reading.SCOPES, (tenant,))
        return sorted(Scope(*parts) for parts in found)

    async def get(self, scopes: Sequence[Scope], ids: Sequence[str]) -> list[Entry]:
        found: dict[str, list[int]] = {}
        for identity, row in await self._each(scopes, partial(sqlite_reading.with_ids, ids=ids)):
            found.setdefault(identity, []).append(row)
        return await self._entries(row for identity in dict.fromkeys(ids) for row in found.get(identity, ()))

    async def page(
        self, scopes: Sequence[Scope], which: Filter = EVERYTHING, *, before: int | None = None, limit: int = 100
    ) -> list[Entry]:
        ask = partial(sqlite_reading.newest, which=which, before=before, limit=limit)
        found = sorted(await self._each(scopes, ask), reverse=True)
        return await self._entries(row for _, row in found[:limit])

    async def holding(self, scope: Scope, *, key: str = "", subject: str = "", name: str = "") -> list[Entry]:
        ask = partial(sqlite_reading.holding, key=key, subject=normal(subject), name=name)
        return await self._entries(sorted(set(await self._each([scope], ask))))

    async def same(self, scopes: Sequence[Scope], digests: Sequence[str]) -> list[Entry]:
        return await self._entries(await self._each(scopes, partial(sqlite_reading.same, digests=digests)))

    async def weakest(self, scope: Scope, kind: Kind, *, half_life_us: int, limit: int = 1) -> list[Entry]:
        ask = partial(sqlite_reading.weakest, kind=kind, half_life_us=half_life_us, limit=limit)
        return await self._entries(await self._each([scope], ask))

    async def beside(self, scopes: Sequence[Scope], ids: Sequence[str], *, span: int) -> dict[str, list[Entry]]:
        found = await self._each(scopes, partial(sqlite_reading.beside, ids=ids, span=span))
        numbers = list(dict.fromkeys(row for _, near in found for row in near))
        entries = dict(zip(numbers, await self._entries(numbers), strict=True))
        beside: dict[str, list[Entry]] = {}
        for identity, near in found:
            in_time = sorted(near, key=lambda row: (entries[row].memory.happened_us, row))
            beside.setdefault(identity, []).extend(entries[row] for row in in_time)
        return beside

    async def words(
        self, scopes: Sequence[Scope], terms: Sequence[str], which: Filter = EVERYTHING, *, limit: int = 100
    ) -> list[Hit]:
        wanted = sqlite_words.asked(terms)
        keys = await self._keys(scopes)
        if not wanted or not keys:
            return []
        return await self._database.read(
            lambda connection: sqlite_words.search(connection, keys, wanted, which, limit=limit)
        )

    async def vectors(
        self,
        scopes: Sequence[Scope],
        fingerprint: str,
        vector: Sequence[float],
        which: Filter = EVERYTHING,
        *,
        limit: int = 100,
    ) -> list[Hit]:
        found = await self._vectors.nearest(await self._keys(scopes), fingerprint, vector, which, limit=limit)
        return sorted(found, key=lambda hit: hit.score, reverse=True)[:limit]

    async def unembedded(self, scopes: Sequence[Scope], fingerprint: str, *, limit: int = 100) -> list[Entry]:
        ask = partial(self._vectors.unembedded, fingerprint=fingerprint, limit=limit)
        found = sorted(await self._each(scopes, ask), reverse=True)
        return await self._entries(row for _, row in found[:limit])

    async def embed(self, fingerprint: str, vectors: Sequence[tuple[Scope, str, Sequence[float]]]) -> None:
        await self._vectors.embed(fingerprint, vectors)

    async def held(self, scope: Scope) -> Held:
        found = await self._each([scope], sqlite_reading.held)
        return found[0] if found else Held(scope, 0, {}, 0, 0, 0, 0, 0, {})

    async def entities(
        self,
        scopes: Sequence[Scope],
        names: Sequence[str] | None = None,
        *,
        as_of: int | None = None,
        is_described: bool = False,
        limit: int = 1000,
    ) -> list[Entity]:
        found: dict[str, Entity] = {}
        which = partial(sqlite_graph.entities, names=names, as_of=as_of, is_described=is_described, limit=limit)
        for name, entity in await self._each(scopes, which):
            # The first of the scopes that describes it, or else that knows it, has its way.
            if name not in found or (entity.kind and not found[name].kind):
                found[name] = entity
        return [found[name] for name in sorted(found)[:limit]]

    async def edges(
        self,
        scopes: Sequence[Scope],
        *,
        as_of: int | None = None,
        valid_at_us: int | None = None,
        after: int = 0,
        limit: int = 100_000,
    ) -> list[tuple[int, Edge]]:
        which = Filter(as_of=as_of, valid_at_us=valid_at_us)
        found: list[tuple[int, Edge]] = []
        for key in sorted(await self._keys(scopes)):
            while len(found) < limit:
                start, size = max(after, found[-1][0] if found else 0), min(ROWS_AT_ONCE, limit - len(found))
                ask = partial(sqlite_graph.edges, key=key, which=which, after=start, limit=size)
                page = await self._database.read(ask)
                found += page
                await asyncio.sleep(0)
                if len(page) < size:
                    break
        return found

    async def neighbourhood(
        self,
        scopes: Sequence[Scope],
        names: Sequence[str],
        *,
        depth: int = 1,
        relations: Sequence[str] = (),
        direction: Direction = "both",
        as_of: int | None = None,
        valid_at_us: int | None = None,
        limit: int = 1000,
    ) -> list[tuple[int, Edge]]:
        keys, which = list(await self._keys(scopes)), Filter(as_of=as_of, valid_at_us=valid_at_us)
        walk = sqlite_graph.Walk(keys, which, relations=relations, direction=direction, limit=limit)
        frontier = {normal(name) for name in names}
        for distance in range(1, depth + 1):
            step = partial(walk.step, frontier=frontier, distance=distance)
            frontier = await self._database.read(step)
            if not frontier:
                break
        return walk.found

    async def erase(self, scope: Scope, ids: Sequence[str]) -> None:
        await self._database.transaction(lambda connection: sqlite_writing.erase(connection, scope, ids))
        await self._scrub()

    async def clear(self, scopes: Sequence[Scope] | None = None) -> None:
        if scopes is None:
            await self._database.clear()
        else:
            await self._database.transaction(lambda connection: sqlite_writing.clear(connection, scopes))
            await self._sweep()
        await self._scrub()

    async def close(self) -> None:
        self._vectors.clear()
        self._database.close()

    async def _sweep(self) -> bool:
        """Take away, bit by bit, what was cleared. Whether there was anything."""
        has_swept = False
        while await self._database.read(sqlite_writing.is_littered):
            await self._database.transaction(sqlite_writing.sweep)
            has_swept = True
            await asyncio.sleep(0)
        return has_swept

    async def _scrub(self) -> None:
        """Let nothing of what was taken away be left in memory or in the log."""
        self._vectors.clear()
        await self._database.shorten_log()

    async def _keys(self, scopes: Sequence[Scope]) -> Keys:
        return dict(await self._each(scopes, lambda _, keys: list(keys.items())))

    async def _each(self, scopes: Sequence[Scope], ask: Callable[[sqlite3.Connection, Keys], Iterable[T]]) -> list[T]:
        """What is found in these scopes, in their order, as many as will do at once."""
        wanted, found = list(dict.fromkeys(scopes)), list[T]()
        for start in range(0, len(wanted), SCOPES_AT_ONCE):
            some = wanted[start : start + SCOPES_AT_ONCE]

            def answer(connection: sqlite3.Connection, some: Sequence[Scope] = some) -> list[T]:
                return list(ask(connection, sqlite_reading.keys(connection, some)))

            found += await self._database.read(answer)
            if start:
                await asyncio.sleep(0)
        return found

    async def _entries(self, numbers: Iterable[int]) -> list[Entry]:
        """What is in these rows, in this order."""
        wanted, found = list(numbers), list[Entry]()
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            some = wanted[start : start + ROWS_AT_ONCE]
            found += await self._database.read(partial(sqlite_reading.entries, numbers=some))
            if start:
                await asyncio.sleep(0)
        return found
