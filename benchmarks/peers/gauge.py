"""What a run takes of the store, read from outside: bytes, commits, and the CPU of a PostgreSQL server."""

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema')
"""
WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
SETTINGS = ("server_version", "fsync", "synchronous_commit", "wal_compression", "autovacuum")


class Mark(msgspec.Struct, frozen=True):
    """Where a store stood at a moment: bytes of its tables, bytes of its WAL, CPU seconds, commits; None is unknown."""

    disk: int
    wal: int | None = None
    cpu_s: float | None = None
    commits: int | None = None


class Gauge(Protocol):
    """A store for one run, and where it stands."""

    url: str

    async def mark(self) -> Mark: ...


class NoStore:
    url = ""

    async def mark(self) -> Mark:
        return Mark(0)


class SqliteFile:
    """A file that is not there yet. What was written to it is counted by those who write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    async def mark(self) -> Mark:
        """Its size when all of the WAL has been brought into it."""
        if not self.path.exists():
            return Mark(0)
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Mark(self.path.stat().st_size)


class PostgresDatabase:
    """A database of its own on a server of which nothing else is asked meanwhile."""

    def __init__(self, url: str, connection: Any) -> None:
        self.url = url
        self._connection = connection

    async def mark(self) -> Mark:
        """The server's CPU is that of its first process and of all its children, those that have ended too."""
        backend = await self._connection.fetchval("SELECT pg_backend_pid()")
        return Mark(
            await self._connection.fetchval(SIZE),
            await self._connection.fetchval(WAL),
            server_cpu_s(backend),
            await self._connection.fetchval(COMMITS),
        )


@contextlib.asynccontextmanager
async def postgres_database(server: str, name: str) -> AsyncIterator[PostgresDatabase]:
    """A database of this process, made now and dropped afterwards; the server has written back all that was before."""
    import asyncpg  # an extra, needed only here

    name = f"{name}_{os.getpid()}"
    admin = await asyncpg.connect(server)
    url = f"{server.rpartition('/')[0]}/{name}"
    try:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.execute(f'CREATE DATABASE "{name}"')
        connection = await asyncpg.connect(url)
        try:
            await admin.execute("CHECKPOINT")
            yield PostgresDatabase(url, connection)
        finally:
            await connection.close()
    finally:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()


async def postgres_settings(server: str) -> dict[str, str]:
    """The settings of the server that bear on what is measured."""
    import asyncpg

    connection = await asyncpg.connect(server)
    try:
        return {name: await connection.fetchval(f"SHOW {name}") for name in SETTINGS}
    finally:
        await connection.close()


def server_cpu_s(backend: int) -> float | None:
    """None if the server is not on this machine."""
    try:
        first = int(_stat(backend)[1])
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        fields = _stat(first)
    except FileNotFoundError:
        return None
    ticks = sum(int(field) for field in fields[11:15])  # its own, and of children that it has seen end
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            child = _stat(pid)
            if int(child[1]) == first:
                ticks += int(child[11]) + int(child[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
