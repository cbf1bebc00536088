"""The SQLite file of an index: recognised before it is touched, private, and made anew whenever it is of no use."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from ostler.kernel.errors import NotAStore, StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly

T = TypeVar("T")

APPLICATION_ID = int.from_bytes(b"Ostm")
LAYOUT_VERSION = 2
"""A file of another layout is cleared and filled again from the log: there are no migrations."""
LAYOUT = Path(__file__).with_name("layout.sql").read_text("utf-8")
IN_MEMORY = ":memory:"

RETRY_FIRST_S = 0.001
RETRY_GROWTH = 1.5
RETRY_MAX_S = 0.05

PRAGMAS = (
    # What a loss of power takes is filled again from the log.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA secure_delete = ON",
    "PRAGMA recursive_triggers = OFF",
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
)
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PROTECTED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH})


class IndexDatabase:
    """A handle onto one such file, in WAL mode, for one event loop; or onto a database in memory.

    Where no file can be written, it is a database in memory too: what it holds can be had again. A file that turns out
    to be damaged is cleared at once, and the question that found it so fails.
    """

    def __init__(self, path: Path | None, connection: sqlite3.Connection, *, busy_timeout_s: float) -> None:
        self.path = path
        self._connection = connection
        self._busy_timeout_s = busy_timeout_s
        self._is_closed = False

    @classmethod
    async def open(cls, path: str | Path, *, busy_timeout_s: float) -> "IndexDatabase":
        """Raises `NotAStore` if the file is of another application, and leaves it as it is."""
        if str(path) != IN_MEMORY:
            file = Path(path)
            with suppress(StoreReadOnly):
                connection = await _patiently(lambda: _connect(file), file, busy_timeout_s)
                return cls(file, connection, busy_timeout_s=busy_timeout_s)
        connection = sqlite3.connect(IN_MEMORY, isolation_level=None)
        _lay_out(connection)
        return cls(None, connection, busy_timeout_s=busy_timeout_s)

    async def fetch(self, query: str, parameters: Any = ()) -> list[Any]:
        """All rows of one query, which is to be a bounded one."""
        return await self._try(lambda: self._live().execute(query, parameters).fetchall())

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, which writes nothing and is bounded."""
        return await self._try(lambda: work(self._live()))

    async def transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once all that it wrote is written. Whatever is raised, nothing of it was."""

        def attempt() -> T:
            connection = self._live()
            try:
                connection.execute("BEGIN IMMEDIATE")
                outcome = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return outcome

        return await self._try(attempt)

    async def clear(self) -> None:
        """Begin with an empty layout again."""
        await self.transaction(_lay_out_anew)

    async def shorten_log(self, *, tries: int = 20) -> None:
        """Move what the log holds into the file and empty it, unless others go on reading it for long."""
        if self.path is None:
            return
        for _ in range(tries):
            with suppress(StoreBusy):
                ((busy, *_),) = await self.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
                if not busy:
                    return
            await asyncio.sleep(RETRY_MAX_S)

    def close(self) -> None:
        """Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._connection.close()

    def _live(self) -> sqlite3.Connection:
        if self._is_closed:
            raise StoreError("The index of memories is closed.")
        return self._connection

    async def _try(self, attempt: Callable[[], T]) -> T:
        try:
            return await _patiently(attempt, self.path, self._busy_timeout_s)
        except StoreCorrupt:
            self._make_anew()
            raise

    def _make_anew(self) -> None:
        self._connection.close()
        if self.path is None:
            self._connection = sqlite3.connect(IN_MEMORY, isolation_level=None)
            _lay_out(self._connection)
        else:
            _delete(self.path)
            self._connection = _connect(self.path)


async def _patiently(attempt: Callable[[], T], path: Path | None, timeout_s: float) -> T:
    """What `attempt` returns once it no longer finds the file busy; the loop goes on meanwhile."""
    loop = asyncio.get_running_loop()
    end, delay_s = loop.time() + timeout_s, RETRY_FIRST_S
    while True:
        try:
            return attempt()
        except sqlite3.Error as error:
            found = _translated(error, path)
            if not isinstance(found, StoreBusy) or loop.time() >= end:
                raise found from error
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * RETRY_GROWTH, RETRY_MAX_S)


def _translated(error: sqlite3.Error, path: Path | None) -> StoreError:
    where = path or "The index in memory"
    match _code(error):
        case code if code in _BUSY:
            return StoreBusy(hint=f"Find out what holds {where} for so long: a backup, a debugger, a stopped process?")
        case sqlite3.SQLITE_FULL:
            return StoreFull(hint=f"Make space on the disk of {where}; work goes on by itself.")
        case code if code in _DAMAGED:
            return StoreCorrupt(
                f"{where} was damaged ({error}), and has been cleared.", hint="Ask again: it is filled from the log."
            )
        case code if code in _PROTECTED:
            return StoreReadOnly(f"{where} cannot be written to: {error}.", hint="Check the path and its rights.")
        case _:
            return StoreError(f"{where}: {error}.")


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to the index at `path`, which is made, or made anew, as needed."""
    if not _is_index(path):
        _delete(path)
    _create_private(path)
    try:
        return _connect_as_it_is(path)
    except sqlite3.Error as error:
        if _code(error) not in _DAMAGED:
            raise
    _delete(path)
    _create_private(path)
    return _connect_as_it_is(path)


def _connect_as_it_is(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        if _pragma(connection, "application_id") == 0:
            # Before the WAL is there, so that the file itself says what it is from its first byte on.
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _pragma(connection, "journal_mode = WAL")
        for pragma in PRAGMAS:
            connection.execute(pragma)
        _lay_out(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_index(path: Path) -> bool:
    """Whether there is an index at `path`, or nothing yet. What is no database at all is put aside.

    Raises `NotAStore` if it is a database of another application or a directory. SQLite itself looks, as at a read-only
    medium, for closing the file would drop the locks that other connections of this process have on it
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    if path.is_dir():
        raise NotAStore(f"{path} cannot be an index: it is a directory.", hint="Name a file in it.")
    if not path.exists() or path.stat().st_size == 0:
        return True
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            application = _pragma(connection, "application_id")
    except sqlite3.DatabaseError as error:
        if _code(error) == sqlite3.SQLITE_NOTADB:
            path.replace(path.with_name(path.name + ".unknown"))
            return True
        if _code(error) == sqlite3.SQLITE_CORRUPT:
            return False
        raise
    if application != APPLICATION_ID:
        raise NotAStore(
            f"{path} is not an index of memories: it is a database of another application.",
            hint="Name another file; this one was not touched.",
        )
    return True


def _create_private(path: Path) -> None:
    """What agents remember is for the eyes of their owner. The files that SQLite puts beside it take its rights."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreReadOnly(
            f"{path} cannot be made: {error.strerror}.", hint="Check the path and its rights."
        ) from error


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _lay_out(connection: sqlite3.Connection) -> None:
    """Make the tables, if those that are there are of another layout or none, all or nothing."""
    if _pragma(connection, "user_version") == LAYOUT_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again, because another process may have been faster.
        if _pragma(connection, "user_version") != LAYOUT_VERSION:
            _lay_out_anew(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _lay_out_anew(connection: sqlite3.Connection) -> None:
    _drop_everything(connection)
    for statement in _statements(LAYOUT):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")


def _drop_everything(connection: sqlite3.Connection) -> None:
    """Virtual tables first: the tables that they keep go with them."""
    tables = (
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' AND sql {} 'CREATE VIRTUAL*'"
    )
    for which in ("GLOB", "NOT GLOB"):
        for (name,) in connection.execute(tables.format(which)).fetchall():
            connection.execute(f'DROP TABLE IF EXISTS "{name}"')


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(connection: sqlite3.Connection, pragma: str) -> Any:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def _code(error: sqlite3.Error) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
