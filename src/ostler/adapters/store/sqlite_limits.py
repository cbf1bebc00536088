"""Limits in a SQLite file, for the workers of one machine; in the commits of what else they write."""

import sqlite3
from collections.abc import Sequence

from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.capacity import PATIENCE_US, Limit, Place, Seen, Wait, judge, spend

EXPIRE = "DELETE FROM limit_places WHERE name = ? AND (until <= ? OR holder = ?)"
SEEN = """
    SELECT count(*) FILTER (WHERE is_held),
        count(*) FILTER (WHERE NOT is_held AND (-priority, since, holder) < (:priority, :since, :holder)),
        coalesce((SELECT spent FROM limits WHERE name = :name), 0)
    FROM limit_places WHERE name = :name
"""
PUT = "INSERT INTO limit_places (name, holder, epoch, until, since, priority, is_held) VALUES (?, ?, ?, ?, ?, ?, ?)"
SPEND = "INSERT INTO limits (name, spent) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET spent = excluded.spent"
GIVE_BACK = "DELETE FROM limit_places WHERE holder = ? AND epoch = ? AND since = ?"


class SqliteLimiter:
    """A `Limiter` in the file of a `SqliteStore`, and in its commits."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def take(self, limits: Sequence[Limit], place: Place, *, now_us: int) -> Wait:
        def take(connection: sqlite3.Connection) -> Wait:
            seen = [_seen(connection, limit, place, now_us) for limit in limits]
            wait = judge(limits, seen, now_us)
            if wait.after_us:
                _put(connection, wait.limit, place, now_us + wait.after_us + PATIENCE_US, is_held=False)
                return wait
            for limit, found in zip(limits, seen, strict=True):
                if limit.period_us:
                    connection.execute(SPEND, (limit.name, spend(limit, found.spent_us, now_us)))
                else:
                    _put(connection, limit.name, place, place.until_us, is_held=True)
            return wait

        return await self._store.write(take)

    async def give_back(self, places: Sequence[Place]) -> None:
        rows = [place.stay for place in places]
        await self._store.write(lambda connection: connection.executemany(GIVE_BACK, rows))


def _seen(connection: sqlite3.Connection, limit: Limit, place: Place, now_us: int) -> Seen:
    connection.execute(EXPIRE, (limit.name, now_us, place.holder))
    priority, since_us, holder = place.rank
    wanted = {"name": limit.name, "priority": priority, "since": since_us, "holder": holder}
    return Seen(*connection.execute(SEEN, wanted).fetchone())


def _put(connection: sqlite3.Connection, name: str, place: Place, until_us: int, *, is_held: bool) -> None:
    row = (name, place.holder, place.epoch, until_us, place.since_us, place.priority, is_held)
    connection.execute(PUT, row)
