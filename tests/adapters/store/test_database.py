"""The file of a store: told from everything else, brought up to date, and never trusted after an I/O error."""

import os
import resource
import sqlite3
import stat
import subprocess
from contextlib import closing

import pytest

from ostler.adapters.store import database
from ostler.adapters.store.database import APPLICATION_ID, MIGRATIONS, Database, connect
from ostler.kernel.errors import NotAStore, NotFound, StoreBusy, StoreCorrupt, StoreError, StoreReadOnly, UsageError

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
    return {path.name: path.is_file() and path.read_bytes() for path in directory.iterdir()}


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
        (lambda path: path.write_text("name,price\nhay,4\n"), NotAStore),
        (lambda path: path.write_bytes(b"SQLite format 3\0"), NotAStore),
        (lambda path: path.write_bytes(b"\0" * 8192), NotAStore),
        (lambda path: path.mkdir(), NotAStore),
        (make_foreign, NotAStore),
        (make_foreign_with_a_log, NotAStore),
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


def test_another_kind_of_file_is_a_mistake_of_usage_and_damage_is_not():
    assert issubclass(NotAStore, UsageError)
    assert not issubclass(StoreCorrupt, UsageError)


@pytest.mark.parametrize("where", ["absent/ostler.db", "file/ostler.db", "link"])
def test_a_path_that_cannot_be_a_file_is_explained(tmp_path, where, open_database):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(StoreError, match="cannot be"):
        open_database(tmp_path / where).fetch("SELECT 1")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.touch()], ids=["no file", "an empty file"])
def test_what_is_not_to_be_made_is_not_found_and_not_made(tmp_path, make):
    path = tmp_path / "ostler.db"
    make(path)
    before = contents(tmp_path)
    with pytest.raises(NotFound, match=f"no store at {path}"):
        Database(path, create=False).fetch("SELECT 1")
    assert contents(tmp_path) == before


def test_a_store_that_is_there_needs_no_making(tmp_path):
    connect(tmp_path / "ostler.db").close()
    store = Database(tmp_path / "ostler.db", create=False)
    assert store.fetch("SELECT count(*) FROM events") == [(0,)]
    store.close()


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


@pytest.fixture
def protected(tmp_path):
    """A folder `store`; what is yielded makes it read-only, or (False) writable again, however one may do that here."""
    folder = tmp_path / "store"
    folder.mkdir()
    if os.geteuid() != 0:

        def protect(how=True):
            for path in (folder, *folder.iterdir()):
                path.chmod((0o500 if path.is_dir() else 0o400) | (0 if how else 0o200))

        yield protect
        protect(False)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("root can only be kept from writing by a mount, and may not mount here")
    yield lambda how=True: subprocess.run(["mount", "-o", f"remount,{'ro' if how else 'rw'}", str(folder)], check=True)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def add(name):
    return lambda connection: connection.execute(INSERT, (name, 1))


@pytest.mark.parametrize("suffixes", [[""], ["", "-wal", "-shm"]], ids=["after a clean end", "as after a crash"])
def test_a_store_that_is_protected_is_read_and_says_why_it_is_not_written(tmp_path, protected, suffixes):
    path = tmp_path / "store" / "ostler.db"
    running = Database(tmp_path / "running.db")
    running.transaction(add("anna"))
    if len(suffixes) == 1:
        running.close()
    for suffix in suffixes:
        path.with_name(path.name + suffix).write_bytes((tmp_path / f"running.db{suffix}").read_bytes())
    running.close()
    protected()
    before = contents(path.parent)
    store = Database(path)
    for _ in range(2):
        assert store.fetch("SELECT name FROM workers") == [("anna",)]
        with pytest.raises(StoreReadOnly, match="can be read, but not be written to"):
            store.transaction(add("bert"))
    assert contents(path.parent) == before
    protected(False)
    store.transaction(add("bert"))
    assert store.fetch("SELECT name FROM workers") == [("anna",), ("bert",)]
    store.close()


def test_what_others_write_is_seen_by_those_who_can_only_read(tmp_path, protected):
    path = tmp_path / "store" / "ostler.db"
    connect(path).close()
    protected()
    reader = Database(path)
    assert reader.fetch("SELECT count(*) FROM workers") == [(0,)]
    protected(False)
    writer = Database(path)
    for name in ("anna", "bert"):
        writer.transaction(add(name))
        assert reader.fetch("SELECT max(name) FROM workers") == [(name,)]
    writer.close()
    reader.close()


def test_an_older_store_that_cannot_be_brought_up_to_date_says_so(tmp_path, protected, monkeypatch):
    path = tmp_path / "store" / "ostler.db"
    with monkeypatch.context() as past:
        past.setattr(database, "MIGRATIONS", MIGRATIONS[:-1])
        connect(path).close()
    protected()
    with pytest.raises(StoreReadOnly, match="older Ostler"):
        Database(path).fetch("SELECT 1")
