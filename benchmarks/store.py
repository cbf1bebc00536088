"""How near the group commit of a store comes to raw batched inserts of the same rows into the same store.

`python -m benchmarks.store` measures SQLite, `--url postgresql://…/postgres` a PostgreSQL server, in a database of its
own. Many appenders, each with a stream of its own, append as soon as their last append is durable. The same rows are
then written by hand, in as many commits: the floor has no streams to look after, nobody to answer, nothing to check.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.__main__ import FLOOR_SCHEMA
from benchmarks.peers.floor import COLUMNS, POSTGRES_SCHEMA, Groups
from benchmarks.peers.gauge import postgres_database
from benchmarks.peers.load import english
from ostler.app.bootstrap import connect
from ostler.app.settings import resolve
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append, Standing

EVENTS = 2
"""Events of one append, as in a step of a session."""
HASH_BYTES = 32
EACH = 50
ROUNDS = 3
STANDING = Standing("bench", "running", 1)


class Rate(msgspec.Struct):
    """Events per second of the store and of each way to write them raw, all in commits of `in_commit` events."""

    kind: str
    appenders: int
    events: int
    in_commit: float
    store: float
    raw: dict[str, float]


def appends(appenders: int, each: int) -> list[list[Append]]:
    """What every appender appends, in order."""
    _, texts = english()

    def records(stream: StreamId, first: int) -> list[Record]:
        return [
            Record(
                stream,
                seq,
                1,
                json.dumps({"type": "bench", "text": texts[seq % len(texts)]}).encode(),
                bytes(HASH_BYTES),
            )
            for seq in range(first + 1, first + EVENTS + 1)
        ]

    return [
        [
            Append(stream, number * EVENTS, records(stream, number * EVENTS), STANDING if number == 0 else None)
            for number in range(each)
        ]
        for stream in (StreamId("local", f"bench_{name}") for name in range(appenders))
    ]


async def append_all(url: str, work: Sequence[Sequence[Append]]) -> tuple[float, int]:
    """Events per second, and commits."""
    parts = await connect(resolve({}, Path.cwd(), store=url))
    store: Any = parts.store

    async def one(todo: Sequence[Append]) -> None:
        for append in todo:
            await store.append(append)

    try:
        commits, began = store.commits, time.perf_counter()
        await asyncio.gather(*(one(todo) for todo in work))
        seconds = time.perf_counter() - began
        return sum(map(len, work)) * EVENTS / seconds, store.commits - commits
    finally:
        await parts.close()


def rows(work: Sequence[Sequence[Append]], commits: int) -> Groups:
    """The same events in so many groups, everybody's first append before anybody's second."""
    turns = [append for turn in zip(*work, strict=True) for append in turn]
    streams = {stream: key for key, stream in enumerate(dict.fromkeys(append.stream for append in turns), 1)}
    events = [(streams[append.stream], record) for append in turns for record in append.records]
    ready = [
        (position, stream, record.seq, record.at_us, record.data, record.hash)
        for position, (stream, record) in enumerate(events, 1)
    ]
    size = -(-len(ready) // commits)
    return [ready[start : start + size] for start in range(0, len(ready), size)]


def insert_sqlite(path: Path, groups: Groups) -> float:
    """Events per second of `executemany`, with the durability of our store."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as target:
        target.executescript(FLOOR_SCHEMA)
        began = time.perf_counter()
        for group in groups:
            target.execute("BEGIN IMMEDIATE")
            target.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", group)
            target.execute("COMMIT")
        return sum(map(len, groups)) / (time.perf_counter() - began)


async def insert_postgres(url: str, groups: Groups) -> dict[str, float]:
    """Events per second of `executemany`, of one INSERT of many rows, and of COPY."""
    import asyncpg  # an extra, needed only here

    connection = await asyncpg.connect(url)
    marks = ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))
    types = ("bigint", "bigint", "bigint", "bigint", "bytea", "bytea")
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, 1))

    async def one_by_one(group: list[tuple[Any, ...]]) -> None:
        await connection.executemany(f"INSERT INTO events VALUES ({marks})", group)

    async def together(group: list[tuple[Any, ...]]) -> None:
        await connection.execute(
            f"INSERT INTO events SELECT * FROM unnest({arrays})", *map(list, zip(*group, strict=True))
        )

    async def copy(group: list[tuple[Any, ...]]) -> None:
        await connection.copy_records_to_table("events", records=group, columns=COLUMNS)

    async def rate(write: Callable[[list[tuple[Any, ...]]], Awaitable[None]]) -> float:
        await connection.execute(f"DROP TABLE IF EXISTS events; {POSTGRES_SCHEMA}; CHECKPOINT")
        began = time.perf_counter()
        for group in groups:
            await write(group)
        return sum(map(len, groups)) / (time.perf_counter() - began)

    try:
        return {
            "executemany": await rate(one_by_one),
            "insert of many rows": await rate(together),
            "copy": await rate(copy),
        }
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def empty_store(url: str) -> AsyncIterator[str]:
    """The URL of a store that is not there yet, and of which nothing stays."""
    if url.startswith("postgresql:"):
        async with postgres_database(url.partition("?")[0], "bench_store") as database:
            yield database.url
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/bench.db"


async def measure(url: str, appenders: int, *, each: int = EACH, rounds: int = ROUNDS) -> Rate:
    """Medians, the store and the floors turn about."""
    ours, batches, raw = [], [], list[dict[str, float]]()
    work = appends(appenders, each)
    total = appenders * each * EVENTS
    for _ in range(rounds):
        async with empty_store(url) as store:
            rate, commits = await append_all(store, work)
            ours.append(rate)
            batches.append(total / commits)
            groups = rows(work, commits)
            if store.startswith("postgresql:"):
                raw.append(await insert_postgres(store, groups))
            else:
                raw.append(
                    {"executemany": insert_sqlite(Path(store.removeprefix("sqlite:///")).with_suffix(".raw"), groups)}
                )
    rates = {name: statistics.median(one[name] for one in raw) for name in raw[0]}
    kind = "postgres" if url.startswith("postgresql:") else "sqlite"
    return Rate(kind, appenders, total, statistics.median(batches), statistics.median(ours), rates)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.store", description=__doc__)
    parser.add_argument(
        "--url", default=os.environ.get("OSTLER_BENCH_STORE", "sqlite:"), help="sqlite: or a server's URL"
    )
    parser.add_argument("--appenders", type=int, action="append", help="how many at once (may be repeated)")
    parser.add_argument("--each", type=int, default=EACH, help="appends of each of them")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = [
        asyncio.run(measure(options.url, appenders, each=options.each, rounds=options.rounds))
        for appenders in options.appenders or (50, 200, 1000)
    ]
    if options.json:
        print(json.dumps(msgspec.to_builtins(rates), indent=2))
        return
    for rate in rates:
        raw = ", ".join(f"{name} {value:,.0f} ({rate.store / value:.0%})" for name, value in rate.raw.items())
        print(
            f"{rate.appenders:5} appenders, {rate.in_commit:6.1f} events a commit: {rate.store:9,.0f} events/s; "
            f"raw: {raw}"
        )


if __name__ == "__main__":
    main()
