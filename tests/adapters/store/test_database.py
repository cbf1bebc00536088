"""The file of a store: told from everything else, brought up to date, and never trusted after an I/O error."""

import resource
import sqlite3
import stat
from contextlib import closing

import pytest

from ostler.adapters.store import database
from ostler.adapters.store.database import APPLICATION_ID, MIGRATIONS, Database, connect
from ostler.kernel.errors import StoreBusy, StoreCorrupt, StoreError

INSERT = "INSERT INTO workers (name, until) VALUES (?, ?)"


@pytest.fixture
def open_database():
    opened = []

    def open_one(path):
        opened.append(Database(path))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def make_foreign(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cats (name)")
        connection.commit()


def make_foreign_with_a_log(path):
    """A database of another application whose last change is still in its write-ahead log, as after a crash."""
    with closing(sqlite3.connect(path.with_name("running"), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE cats (name)")
        for suffix in ("", "-wal"):
            path.with_name(path.name + suffix).write_bytes(path.with_name("running" + suffix).read_bytes())


def make_newer(path):
    connect(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


def make_truncated(path):
    connect(path).close()
    path.write_bytes(path.read_bytes()[:-5000])


def make_malformed(path):
    connect(path).close()
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 500 + path.read_bytes()[600:])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.write_text("name,price\nhay,4\n"), StoreCorrupt),
        (lambda path: path.write_bytes(b"SQLite format 3\0"), StoreCorrupt),
        (lambda path: path.write_bytes(b"\0" * 8192), StoreCorrupt),
        (make_foreign, StoreCorrupt),
        (make_foreign_with_a_log, StoreCorrupt),
        (make_truncated, StoreCorrupt),
        (make_malformed, StoreCorrupt),
        (make_newer, StoreError),
    ],
)
def test_what_is_no_store_of_ours_is_refused_and_not_touched(tmp_path, make, error, open_database):
    path = tmp_path / "ostler.db"
    make(path)
    before = contents(tmp_path)
    with pytest.raises(error) as refused:
        open_database(path).fetch("SELECT 1")
    assert str(path) in refused.value.message
    assert refused.value.hint
    assert contents(tmp_path) == before


@pytest.mark.parametrize("where", ["absent/ostler.db", "."])
def test_a_path_that_cannot_be_a_file_is_explained(tmp_path, where, open_database):
    with pytest.raises(StoreError, match="cannot be"):
        open_database(tmp_path / where).fetch("SELECT 1")


def test_a_new_file_is_private_and_says_what_it_is(tmp_path):
    path = tmp_path / "ostler.db"
    connection = connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4)
    assert [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()] == [0o600] * 3
    connection.close()


def test_an_empty_file_becomes_a_store(tmp_path, open_database):
    path = tmp_path / "ostler.db"
    path.touch()
    connect(path).close()
    assert open_database(path).fetch("SELECT count(*) FROM events") == [(0,)]


def test_every_older_schema_is_brought_up_to_date(tmp_path, monkeypatch, open_database):
    fresh = open_database(tmp_path / "fresh.db")
    schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    for version in range(len(MIGRATIONS) + 1):
        path = tmp_path / f"version-{version}.db"
        with monkeypatch.context() as past:
            past.setattr(database, "MIGRATIONS", MIGRATIONS[:version])
            connect(path).close()
        old = open_database(path)
        assert old.fetch(schema) == fresh.fetch(schema)
        assert old.fetch("PRAGMA user_version") == [(len(MIGRATIONS),)]
        old.close()
    fresh.close()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path, monkeypatch, open_database):
    path = tmp_path / "ostler.db"
    connect(path).close()
    broken = "CREATE TABLE extra (a);\nCREATE TABLE workers (name);\n"
    with monkeypatch.context() as future:
        future.setattr(database, "MIGRATIONS", (*MIGRATIONS, broken))
        with pytest.raises(StoreError, match="workers"):
            open_database(path).fetch("SELECT 1")
    assert open_database(path).fetch("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'") == [(0,)]


def test_a_locked_file_is_busy_at_once(tmp_path, open_database):
    held, waiting = open_database(tmp_path / "ostler.db"), open_database(tmp_path / "ostler.db")
    held.connection().execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        waiting.transaction(lambda connection: connection.execute(INSERT, ("anna", 1)))
    held.connection().execute("ROLLBACK")
    waiting.transaction(lambda connection: connection.execute(INSERT, ("anna", 1)))
    assert held.fetch("SELECT name FROM workers") == [("anna",)]


def test_a_transaction_that_fails_leaves_nothing(tmp_path, open_database):
    store = open_database(tmp_path / "ostler.db")

    def write_and_fail(connection):
        connection.execute(INSERT, ("anna", 1))
        raise KeyError("anna")

    with pytest.raises(KeyError):
        store.transaction(write_and_fail)
    assert store.fetch("SELECT name FROM workers") == []


@pytest.fixture
def small_files():
    """Sets how large a file may become; beyond it, writing fails as on a broken disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_after_an_io_error_another_handle_is_used_and_nothing_is_lost(tmp_path, small_files, open_database):
    store = open_database(tmp_path / "ostler.db")
    store.transaction(lambda connection: connection.execute(INSERT, ("anna", 1)))
    handle = store.connection()
    small_files(300_000)
    with pytest.raises(StoreError, match="disk"):
        store.transaction(lambda connection: connection.execute(INSERT, ("b" * 1_000_000, 1)))
    small_files(resource.RLIM_INFINITY)
    assert store.fetch("SELECT name FROM workers") == [("anna",)]
    assert store.connection() is not handle
    assert (tmp_path / "ostler.db-wal").stat().st_size == 0, "what was read was written anew, and the log emptied"
    store.transaction(lambda connection: connection.execute(INSERT, ("bert", 1)))
    assert store.fetch("SELECT name FROM workers") == [("anna",), ("bert",)]


def test_after_an_io_error_a_file_that_is_gone_is_not_made_anew(tmp_path, small_files, open_database):
    store = open_database(tmp_path / "ostler.db")
    store.connection()
    small_files(300_000)
    with pytest.raises(StoreError, match="disk"):
        store.transaction(lambda connection: connection.execute(INSERT, ("b" * 1_000_000, 1)))
    (tmp_path / "ostler.db").unlink()
    with pytest.raises(StoreError, match="gone"):
        store.fetch("SELECT 1")
    assert not (tmp_path / "ostler.db").exists()


def test_closing_empties_the_log_and_ends_all_use(tmp_path, open_database):
    store = open_database(tmp_path / "ostler.db")
    store.transaction(lambda connection: connection.execute(INSERT, ("anna", 1)))
    store.close()
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["ostler.db"]
    with pytest.raises(StoreError, match="closed"):
        store.fetch("SELECT 1")
