"""One SQLite file: recognised before it is touched, migrated, and written to in transactions that never wait."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from ostler.kernel.errors import NotAStore, NotFound, StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreReadOnly

T = TypeVar("T")

Access = Literal["write", "read", "frozen"]
"""What a connection is good for. A frozen one must be made anew for each query, for it would notice no change."""

APPLICATION_ID = int.from_bytes(b"Ostl")
MIGRATIONS = tuple(path.read_text("utf-8") for path in sorted(Path(__file__).with_name("sql").glob("*.sql")))
"""Scripts that lead from version n to n + 1 of the schema. The version of a file is how many it has seen."""

_RIGHTS = "Check the path and its rights."
_ANOTHER = "Name another file; this one was not touched."
_OF_THE_STORE = frozenset(
    {
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
_PROTECTED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY})
"""Codes that come of a place where nothing may be written; the store in it may be read all the same."""

PRAGMAS = (
    # A commit is on the disk when it returns, and readers never wait for the writer.
    "PRAGMA synchronous = FULL",
    # A log that is short is soon begun again from its start, and a commit that overwrites what is on the disk costs the
    # file system half of one that makes a file longer.
    "PRAGMA wal_autocheckpoint = 300",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
)


class Database:
    """A handle onto one SQLite file, in WAL mode, for one event loop.

    A store that cannot be written to, because the disk is full or protected, can be read: it is then that one most
    needs to. Each transaction tries again whether it can be written to by now.

    No method waits for a lock: `StoreBusy` is raised at once. A handle that has met an I/O error is never used again,
    because a later fsync on it may succeed without having written what an earlier one could not.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Without `create`, a file that is not there is `NotFound`."""
        self.path = path
        self.opened = 0
        self._create = create
        self._connection: sqlite3.Connection | None = None
        self._access: Access = "write"
        self._is_closed = False
        self._is_suspect = False

    def fetch(self, query: str, parameters: Any = ()) -> list[Any]:
        """All rows of one query, which is to be a bounded one."""
        try:
            return self.connection().execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._judged(error) from error

    def transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once all that it wrote is durable. Whatever is raised, nothing of it was written.

        Raises a `StoreError` if the store cannot do it now, and what `work` raises as it is.
        """
        connection = self.connection(to_write=True)
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcome = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self._undo(connection)
            if isinstance(error, sqlite3.Error) and is_of_the_store(error):
                raise self._judged(error) from error
            raise
        return outcome

    def change_mark(self) -> tuple[int, int]:
        """Another value whenever somebody else, in this process or another, has committed something."""
        ((version,),) = self.fetch("PRAGMA data_version")
        return self.opened, version

    def connection(self, *, to_write: bool = False) -> sqlite3.Connection:
        """The handle, opened if there is none that will do."""
        if self._connection is not None and (self._access == "frozen" or (to_write and self._access != "write")):
            self._drop()
        if self._connection is None:
            if self._is_closed:
                raise StoreError(f"The store {self.path} is closed.")
            if self.opened and not self.path.exists():
                raise StoreError(f"The store {self.path} is gone.", hint="Somebody moved or deleted the file.")
            try:
                self._connection, self._access = self._open(to_write)
            except sqlite3.Error as error:
                raise translated(error, self.path) from error
            self._is_suspect = False
            self.opened += 1
        return self._connection

    def shorten_log(self) -> None:
        """Move what the log holds into the file and empty it, as far as nobody else is reading it."""
        with suppress(StoreBusy):
            self.fetch("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Move what the log holds into the file, as far as nobody else is reading it. Idempotent."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            # Nothing is lost if it fails: what the log holds stays there, for whoever opens the store next.
            with closing(connection), suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _open(self, to_write: bool) -> tuple[sqlite3.Connection, Access]:
        try:
            return connect(self.path, create=self._create, is_suspect=self._is_suspect), "write"
        except sqlite3.Error as error:
            # What a suspect handle reads may never reach the disk, so that nobody may rely on it.
            if self._is_suspect or not (_is_full(error) or _primary_code(error) in _PROTECTED):
                raise
            found = connect_to_read(self.path)
            if found is None:
                raise
            if not to_write:
                return found
            found[0].close()
            raise _refusal_to_write(error, self.path) from error

    def _judged(self, error: sqlite3.Error) -> StoreError:
        if _primary_code(error) == sqlite3.SQLITE_IOERR:
            self._discard()
        elif _primary_code(error) == sqlite3.SQLITE_READONLY:
            self._drop()  # it stays as it was opened, even when the file can be written to again
        return translated(error, self.path)

    def _undo(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                # Closing it rolls back as well, and then nothing more is believed of this handle.
                self._discard()

    def _discard(self) -> None:
        self._is_suspect = True
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def connect(path: Path, *, create: bool = True, is_suspect: bool = False) -> sqlite3.Connection:
    """A connection to a store at `path`, which is made (if `create`) or brought up to date as needed.

    `is_suspect` says that an earlier handle met an I/O error. Raises `sqlite3.Error`, `NotAStore` if the file is
    anything else, which is left as it is, and `NotFound` if there is none that may be made.
    """
    _recognise(path, create=create)
    _create_private(path)
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        if _pragma(connection, "application_id") == 0:
            # Before the WAL is there, so that the file itself says what it is from its first byte on.
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        if _pragma(connection, "journal_mode = WAL") != "wal":
            raise StoreError(
                f"The file system of {path} cannot share memory between processes, which the store needs.",
                hint="Put the store on a local disk, not on a network share.",
            )
        for pragma in PRAGMAS:
            connection.execute(pragma)
        migrate(connection, path)
        if is_suspect:
            _make_durable(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path) -> tuple[sqlite3.Connection, Access] | None:
    """A connection to the store at `path` that writes nothing at all; None if there is no such way to it.

    With a log beside it the file is read as its writers would see it. Without one it can be read as if nobody could
    ever change it, which must be found out anew for each query.
    """
    wal = path.with_name(path.name + "-wal")
    ways: list[tuple[str, Access]] = [("mode=ro", "read")]
    if not wal.exists() or wal.stat().st_size == 0:
        ways.append(("mode=ro&immutable=1", "frozen"))
    for way, access in ways:
        connection = _connect_as(path, way)
        try:
            connection.execute("SELECT max(position) FROM events")
            _refuse_older(connection, path)
        except sqlite3.Error:
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            return connection, access
    return None


def _refuse_older(connection: sqlite3.Connection, path: Path) -> None:
    if _known_version(connection, path) < len(MIGRATIONS):
        raise StoreReadOnly(
            f"{path} was written by an older Ostler, and cannot be brought up to date: it cannot be written to.",
            hint="Copy it, with the files beside it, to where it can, or read it with that Ostler.",
        )


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, all or nothing. Raises `StoreError` if it is newer than this code."""
    if _known_version(connection, path) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again, because another process may have been faster.
        version = _known_version(connection, path)
        for script in MIGRATIONS[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """What an error of SQLite means to those who use the store."""
    match _primary_code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return StoreBusy(hint=f"Find out what holds {path} for so long: a backup, a debugger, a stopped process?")
        case _ if _is_full(error):
            return StoreFull(hint=f"Make space on the disk of {path}; work goes on by itself.")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreCorrupt(f"{path} is not an intact store: {error}.", hint="Restore it from a backup.")
        case sqlite3.SQLITE_READONLY:
            return _refusal_to_write(error, path)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreError(f"{path} cannot be opened: {error}.", hint=_RIGHTS)
        case sqlite3.SQLITE_IOERR:
            return StoreError(f"The disk of {path} failed: {error}.", hint="Check the disk and the system's log.")
        case _:
            return StoreError(f"{path}: {error}.")


def is_of_the_store(error: sqlite3.Error) -> bool:
    """Whether it says how the store is, rather than that what was asked of it makes no sense."""
    return _primary_code(error) in _OF_THE_STORE


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def _refusal_to_write(error: sqlite3.Error, path: Path) -> StoreError:
    """What to tell those who want to write to a store that can only be read."""
    if _is_full(error):
        return translated(error, path)
    return StoreReadOnly(
        f"{path} can be read, but not be written to: {error}.",
        hint="Check the rights of the file and of its folder, and whether its disk is mounted read-only.",
    )


def _recognise(path: Path, *, create: bool) -> None:
    """Raises `NotAStore` unless there is a store at `path`, or nothing yet; in this case `NotFound` unless `create`.

    SQLite itself looks, as at a read-only medium: it takes no lock, writes nothing, not even beside the file, and
    closing the file does not drop the locks that other connections of this process have on it (as closing a file
    opened by ourselves would: https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    try:
        status = path.stat() if path.exists() else None
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}.", hint=_RIGHTS) from error
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise NotAStore(f"{path} cannot be a store: it is a directory.", hint="Name a file in it.")
    if status is None or status.st_size == 0:
        if create:
            return
        raise NotFound(f"There is no store at {path}.", hint="Check the path; starting a session makes a store.")
    try:
        with closing(_connect_as(path, "mode=ro&immutable=1")) as connection:
            application = _pragma(connection, "application_id")
            _known_version(connection, path)
    except sqlite3.DatabaseError as error:
        wal = path.with_name(path.name + "-wal")
        if _primary_code(error) == sqlite3.SQLITE_CORRUPT and wal.exists() and wal.stat().st_size:
            # A crash while the log was being moved into the file looks like this, and the log can mend it.
            return
        if _primary_code(error) == sqlite3.SQLITE_NOTADB:
            raise NotAStore(f"{path} is not an Ostler store: {error}.", hint=_ANOTHER) from error
        raise
    if application != APPLICATION_ID:
        raise NotAStore(f"{path} is not an Ostler store: it is a database of another application.", hint=_ANOTHER)


def _connect_as(path: Path, way: str) -> sqlite3.Connection:
    """A connection by a URI with these parameters (https://www.sqlite.org/c3ref/open.html)."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?{way}", uri=True, isolation_level=None, timeout=0)


def _known_version(connection: sqlite3.Connection, path: Path) -> int:
    version: int = _pragma(connection, "user_version")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer Ostler (schema {version}, this one knows {len(MIGRATIONS)}).",
            hint="Upgrade this Ostler.",
        )
    return version


def _create_private(path: Path) -> None:
    """What agents did is for the eyes of their owner. The files that SQLite puts beside it take its rights."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror}.", hint=_RIGHTS) from error


def _make_durable(connection: sqlite3.Connection) -> None:
    """Write everything that can be read anew: after a failed fsync, what was read may be in memory only."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreBusy()


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(connection: sqlite3.Connection, pragma: str) -> Any:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def _primary_code(error: sqlite3.Error) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
