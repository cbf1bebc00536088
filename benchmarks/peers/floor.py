"""The floor: the rows that Ostler wrote for the same work, written again by hand into the same store and no more.

`variant` is the path of the SQLite file from which the rows are taken, and `tool` the number of commits.
"""

import contextlib
import sqlite3
from typing import Any

from benchmarks.__main__ import FLOOR_SCHEMA
from benchmarks.peers.load import ANSWER, Bench, run

POSTGRES_SCHEMA = """
    CREATE TABLE events (
        position bigint PRIMARY KEY, stream bigint, seq bigint, at bigint, data bytea, hash bytea, UNIQUE (stream, seq)
    )
"""
COLUMNS = ["position", "stream", "seq", "at", "data", "hash"]
Groups = list[list[tuple[Any, ...]]]


def groups(path: str, commits: int) -> Groups:
    """The events of the store at `path`, in so many groups."""
    with contextlib.closing(sqlite3.connect(path)) as source:
        rows = source.execute(f"SELECT {', '.join(COLUMNS)} FROM events ORDER BY position").fetchall()
    size = -(-len(rows) // commits)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def write_sqlite(bench: Bench, ready: Groups) -> None:
    target = sqlite3.connect(bench.task.store.removeprefix("sqlite:///"), isolation_level=None)
    target.executescript(FLOOR_SCHEMA)
    with bench.measured():
        for group in ready:
            target.execute("BEGIN IMMEDIATE")
            target.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", group)
            target.execute("COMMIT")
    target.close()


async def write_postgres(bench: Bench, ready: Groups) -> None:
    import asyncpg  # an extra, needed only here

    connection = await asyncpg.connect(bench.task.store)
    await connection.execute(POSTGRES_SCHEMA)
    insert = f"INSERT INTO events VALUES ({', '.join(f'${number}' for number in range(1, len(COLUMNS) + 1))})"
    with bench.measured():
        for group in ready:
            if len(group) > 8:
                await connection.copy_records_to_table("events", records=group, columns=COLUMNS)
            else:
                await connection.executemany(insert, group)
    await connection.close()


async def peer(bench: Bench) -> None:
    ready = groups(bench.task.variant, int(bench.task.tool))
    if bench.task.store.startswith("sqlite:"):
        write_sqlite(bench, ready)
    else:
        await write_postgres(bench, ready)
    for goal in bench.goals:
        bench.judge(goal, [bench.find(f"{goal}.{number}") for number in range(1, bench.task.steps + 1)], ANSWER)


if __name__ == "__main__":
    run(peer)
