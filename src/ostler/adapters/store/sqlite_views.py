"""Rows of views in the SQLite file of the events that they are folded from."""

import json
import sqlite3
from collections.abc import Sequence

from ostler.adapters.store.rules import stale_view
from ostler.adapters.store.sqlite import SqliteStore
from ostler.ports import Row

POSITION = "SELECT position FROM views WHERE name = ?"
BEGIN = """
    INSERT INTO views (name, position) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position WHERE position = 0 RETURNING key
"""
MOVE = "UPDATE views SET position = ? WHERE name = ? AND position = ? RETURNING key"
PUT = """
    INSERT INTO view_rows (view, tenant, key, body) VALUES (?, ?, ?, ?)
    ON CONFLICT (view, tenant, key) DO UPDATE SET body = excluded.body
"""
TAKE = "DELETE FROM view_rows WHERE view = ? AND tenant = ? AND key = ?"
ROWS = """
    SELECT key, body FROM view_rows
    WHERE view = (SELECT key FROM views WHERE name = ?) AND tenant = ? AND key IN (SELECT value FROM json_each(?))
"""
PAGE = """
    SELECT key, body FROM view_rows
    WHERE view = (SELECT key FROM views WHERE name = ?) AND tenant = ? AND key > ? ORDER BY key LIMIT ?
"""
CLEAR = "DELETE FROM view_rows WHERE view = (SELECT key FROM views WHERE name = ?)"
FORGET = "DELETE FROM views WHERE name = ?"


class SqliteViewStore:
    """A `ViewStore` in the file of a `SqliteStore`, and in its commits."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def position(self, view: str) -> int:
        found = await self._store.fetch(POSITION, (view,))
        return int(found[0][0]) if found else 0

    async def advance(self, view: str, *, after: int, position: int, rows: Sequence[Row] = ()) -> None:
        def move(connection: sqlite3.Connection) -> None:
            query, places = (MOVE, (position, view, after)) if after else (BEGIN, (view, position))
            moved = connection.execute(query, places).fetchall()
            if not moved:
                raise stale_view(view, after=after)
            ((key,),) = moved
            kept = [(key, row.tenant, row.key, row.body) for row in rows if row.body is not None]
            connection.executemany(PUT, kept)
            connection.executemany(TAKE, [(key, row.tenant, row.key) for row in rows if row.body is None])

        await self._store.write(move)

    async def rows(self, view: str, tenant: str, keys: Sequence[str]) -> dict[str, bytes]:
        return dict(await self._store.fetch(ROWS, (view, tenant, json.dumps(list(keys)))))

    async def page(self, view: str, tenant: str, *, after: str = "", limit: int = 100) -> list[tuple[str, bytes]]:
        return await self._store.fetch(PAGE, (view, tenant, after, limit))

    async def forget(self, view: str) -> None:
        def clear(connection: sqlite3.Connection) -> None:
            connection.execute(CLEAR, (view,))
            connection.execute(FORGET, (view,))

        await self._store.write(clear)
