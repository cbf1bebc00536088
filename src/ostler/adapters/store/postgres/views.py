"""Rows of views in the database of the events that they are folded from."""

from collections.abc import Sequence
from typing import Any

from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.rules import stale_view
from ostler.ports import Row

POSITION = "SELECT position FROM @schema.views WHERE name = $1"
BEGIN = """
    INSERT INTO @schema.views AS view (name, position) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position WHERE view.position = 0 RETURNING key
"""
MOVE = "UPDATE @schema.views SET position = $2 WHERE name = $1 AND position = $3 RETURNING key"
PUT = """
    INSERT INTO @schema.view_rows (view, tenant, key, body)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bytea[])
    ON CONFLICT (view, tenant, key) DO UPDATE SET body = excluded.body
"""
TAKE = """
    DELETE FROM @schema.view_rows AS row USING unnest($2::text[], $3::text[]) AS given (tenant, key)
    WHERE row.view = $1 AND (row.tenant, row.key) = (given.tenant, given.key)
"""
ROWS = """
    SELECT key, body FROM @schema.view_rows
    WHERE view = (SELECT key FROM @schema.views WHERE name = $1) AND tenant = $2 AND key = ANY ($3::text[])
"""
PAGE = """
    SELECT key, body FROM @schema.view_rows
    WHERE view = (SELECT key FROM @schema.views WHERE name = $1) AND tenant = $2 AND key > $3 ORDER BY key LIMIT $4
"""
FORGET = "DELETE FROM @schema.views WHERE name = $1 RETURNING key"
CLEAR = "DELETE FROM @schema.view_rows WHERE view = $1"


class PostgresViewStore:
    """A `ViewStore` beside a `PostgresStore`."""

    def __init__(self, store: PostgresStore) -> None:
        self._server = store.server

    async def position(self, view: str) -> int:
        found = await self._server.fetch(self._server.sql(POSITION), view)
        return int(found[0][0]) if found else 0

    async def advance(self, view: str, *, after: int, position: int, rows: Sequence[Row] = ()) -> None:
        sql = self._server.sql

        async def move(connection: Any) -> None:
            query, places = (MOVE, (view, position, after)) if after else (BEGIN, (view, position))
            moved = await connection.fetch(sql(query), *places)
            if not moved:
                raise stale_view(view, after=after)
            key = moved[0][0]
            kept = [row for row in rows if row.body is not None]
            gone = [row for row in rows if row.body is None]
            if kept:
                columns = [[row.tenant for row in kept], [row.key for row in kept], [row.body for row in kept]]
                await connection.fetch(sql(PUT), key, *columns)
            if gone:
                await connection.fetch(sql(TAKE), key, [row.tenant for row in gone], [row.key for row in gone])

        await self._server.patiently(lambda: self._server.transact(move))

    async def rows(self, view: str, tenant: str, keys: Sequence[str]) -> dict[str, bytes]:
        return dict(await self._server.fetch(self._server.sql(ROWS), view, tenant, list(keys)))

    async def page(self, view: str, tenant: str, *, after: str = "", limit: int = 100) -> list[tuple[str, bytes]]:
        return [
            (key, body) for key, body in await self._server.fetch(self._server.sql(PAGE), view, tenant, after, limit)
        ]

    async def forget(self, view: str) -> None:
        async def clear(connection: Any) -> None:
            for (key,) in await connection.fetch(self._server.sql(FORGET), view):
                await connection.fetch(self._server.sql(CLEAR), key)

        await self._server.patiently(lambda: self._server.transact(clear))
