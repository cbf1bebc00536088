"""The schema of the store and its migrations, made so that old and new workers can run side by side.

A migration is `NNN_name.pre.sql` or `NNN_name.post.sql`. `pre` only adds: code that does not know of it goes on as
before, so that it is applied as soon as the first new worker connects. `post` takes away what only older code needs:
it is applied by hand, when no older worker lives.
"""

import re
from pathlib import Path

import asyncpg
import msgspec

from ostler.adapters.store.postgres.server import Server
from ostler.kernel.errors import Conflict, NotAStore, NotFound, StoreError

MIGRATION_TIMEOUT_S = 3600.0
SQL = Path(__file__).with_name("sql")

_NAME = re.compile(r"\d{3}_\w+\.(pre|post)\.sql")

_BOOK = """
    CREATE SCHEMA IF NOT EXISTS @schema;
    CREATE TABLE IF NOT EXISTS @schema.migrations (
        name text PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now()
    );
"""


class Migration(msgspec.Struct, frozen=True):
    """One script; `is_additive` if older code may go on beside it."""

    name: str
    is_additive: bool
    script: str


def migrations(folder: Path = SQL) -> list[Migration]:
    """Every migration that this code knows, in order."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        assert match is not None, f"{path.name} is not named like a migration"
        found.append(Migration(path.stem, match[1] == "pre", path.read_text("utf-8")))
    return found


class Schema:
    """What a server has of the store's schema, and what is still to be done."""

    def __init__(self, server: Server, known: list[Migration]) -> None:
        self._server = server
        self._known = known

    async def pending(self) -> list[Migration] | None:
        """Migrations that were not applied yet; None if there is no store. Raises `StoreError` if it is not for
        this code any more."""
        return await self._server.patiently(lambda: self._server.transact(self._pending))

    async def prepare(self, *, create: bool) -> None:
        """Make the store if there is none, and apply everything up to the first migration that takes something away.

        Raises `NotFound` if there is none and it is not to be made.
        """
        pending = await self.pending()
        if pending is None and not create:
            raise NotFound(f"There is no store at {self._server.address}.", hint="Start a session there to make one.")
        if pending is None or (pending and pending[0].is_additive):
            await self._server.patiently(lambda: self._server.transact(self._apply_additive))

    async def finish(self, *, living: int) -> list[str]:
        """Apply everything, also what takes something away; returns the names of what was applied.

        `living` is how many workers run on this store: raises `Conflict` if there is any, unless all that is pending
        only adds.
        """
        pending = await self.pending() or []
        if living and any(not migration.is_additive for migration in pending):
            raise Conflict(
                f"{living} workers run on {self._server.address}, and may need what would be taken away.",
                hint="Stop those that run older code, then try again.",
            )
        await self._server.patiently(lambda: self._server.transact(self._apply_all))
        return [migration.name for migration in pending]

    async def _pending(self, connection: asyncpg.Connection) -> list[Migration] | None:
        schema = self._server.address.schema
        names = {
            row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
        }
        if not names:
            return None
        if "migrations" not in names:
            raise NotAStore(
                f"The schema {schema!r} holds something else; it was not touched.",
                hint="Name another with `?schema=…` in the URL of the store.",
            )
        applied = {row[0] for row in await connection.fetch(self._server.sql("SELECT name FROM @schema.migrations"))}
        unknown = applied - {migration.name for migration in self._known}
        for name in sorted(unknown):
            if name.endswith(".post"):
                raise StoreError(
                    f"{self._server.address} is for newer Ostlers only since {name}.", hint="Upgrade this one."
                )
        return [migration for migration in self._known if migration.name not in applied]

    async def _apply_additive(self, connection: asyncpg.Connection) -> None:
        await self._begin(connection)
        for migration in await self._pending(connection) or []:
            if not migration.is_additive:
                break
            await self._apply(connection, migration)

    async def _apply_all(self, connection: asyncpg.Connection) -> None:
        await self._begin(connection)
        for migration in await self._pending(connection) or []:
            await self._apply(connection, migration)

    async def _begin(self, connection: asyncpg.Connection) -> None:
        """One at a time, whoever else wants to."""
        lock = "SELECT pg_advisory_xact_lock(hashtextextended('ostler schema ' || $1, 0))"
        await connection.execute(lock, self._server.address.schema)
        await connection.execute(self._server.sql(_BOOK))

    async def _apply(self, connection: asyncpg.Connection, migration: Migration) -> None:
        # Whoever waits for a table keeps everybody waiting who comes after: better to let go and try again.
        await connection.execute("SET LOCAL lock_timeout = '1s'")
        await connection.execute(self._server.sql(migration.script), timeout=MIGRATION_TIMEOUT_S)
        await connection.execute(self._server.sql("INSERT INTO @schema.migrations (name) VALUES ($1)"), migration.name)
