"""What a step costs, beside the bare floor of writing the same bytes in the same number of commits.

Prints, for one session of 10 to 2,000 tool-calling steps and for 1 to 1,000 sessions at once: steps/s, CPU µs, commits
and bytes a step. The model answers at once and the tool returns 200 bytes, so that what is measured is Ostler.

The floor is a loop of hand-written SQL that makes the same bytes (JSON, SHA-256 chain) and writes them in as many
commits; `writes` is what SQLite alone takes of that. `ratio` is our CPU over the floor's.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ostler import Agent, Limits, Runtime, tool
from ostler.domain.model import AskedCall, ModelRef, ModelRequest, Reply, Usage

LONE = (10, 100, 400, 2000)
TOGETHER = (1, 100, 1000)
STEPS_TOGETHER = 20
OUTPUT = "x" * 200


@tool(effect="read")
async def lookup(sku: str) -> str:
    """Look a part up."""
    return OUTPUT


class Instant:
    """Asks for one tool call a turn, and answers after `steps` of them."""

    def __init__(self, steps: int) -> None:
        self.ref = ModelRef("scripted", "scripted", f"instant-{steps}")
        self._steps = steps
        self._call = Reply("", (AskedCall("1", "lookup", '{"sku":"A-17"}'),), "tool_calls", Usage(100, 20), "instant")
        self._answer = Reply("done", (), "end", Usage(100, 20), "instant")

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        return self._call if int(request.key.rpartition("/")[2]) <= self._steps else self._answer

    async def close(self) -> None:
        pass


FLOOR_SCHEMA = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE streams (key INTEGER PRIMARY KEY, version INTEGER);
    CREATE TABLE events (
        position INTEGER PRIMARY KEY, stream INTEGER, seq INTEGER, at INTEGER, data BLOB, hash BLOB,
        UNIQUE (stream, seq)
    );
"""
HEADER = "sessions  steps   steps/s  floor   CPU µs/step  floor  writes  ratio   commits/step   bytes/step  floor"


class Cost(msgspec.Struct):
    """Per step: CPU µs, commits, bytes on disk; and steps per second of wall time."""

    steps_per_s: float
    cpu_us: float
    commits: float
    bytes: float
    wall_s: float


class Row(msgspec.Struct):
    """`floor` makes the same bytes and writes them by hand; `writes` has them ready and only writes."""

    sessions: int
    steps: int
    ours: Cost
    floor: Cost
    writes: Cost


async def measure(path: Path, sessions: int, steps: int) -> Cost:
    agent = Agent("bench", tools=[lookup], model=Instant(steps), limits=Limits(steps=steps + 1))
    async with Runtime.open(f"sqlite:///{path}") as runtime:
        store: Any = runtime.parts.store
        warm = Agent("warm", tools=[lookup], model=Instant(1))
        await (await runtime.start(warm, "Warm up.")).result()
        empty = _size(store, path)
        commits, cpu, wall = store.commits, time.process_time(), time.perf_counter()
        started = await asyncio.gather(*(runtime.start(agent, "Count.") for _ in range(sessions)))
        await asyncio.gather(*(session.result() for session in started))
        wall, cpu, commits = time.perf_counter() - wall, time.process_time() - cpu, store.commits - commits
        grown = _size(store, path) - empty
    total = sessions * steps
    return Cost(total / wall, cpu / total * 1e6, commits / total, grown / total, wall)


def _size(store: Any, path: Path) -> int:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.stat().st_size


def floor(path: Path, steps: int, commits: int, *, makes_bytes: bool) -> Cost:
    """The events of the store at `path` written again by hand: hand-written SQL, as many commits, the same durability.

    `makes_bytes` also makes what it writes, as any such program must: each event encoded as JSON and chained by
    SHA-256. Without, the rows are ready and only SQLite works.
    """
    with contextlib.closing(sqlite3.connect(path)) as source:
        rows = source.execute("SELECT stream, seq, at, data, hash FROM events ORDER BY position").fetchall()
        streams = source.execute("SELECT key FROM streams").fetchall()
    bodies = [json.loads(row[3]) for row in rows]
    bare = path.with_suffix(".floor")
    bare.unlink(missing_ok=True)
    target = sqlite3.connect(bare, isolation_level=None)
    target.executescript(FLOOR_SCHEMA)
    target.executemany("INSERT INTO streams VALUES (?, 0)", streams)
    size = -(-len(rows) // commits)
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, len(rows), size):
        group = rows[start : start + size]
        target.execute("BEGIN IMMEDIATE")
        for place, (stream, seq, at, data, digest) in enumerate(group, start):
            if makes_bytes:
                data = json.dumps(bodies[place], separators=(",", ":")).encode()
                digest = hashlib.sha256(digest + f"{stream} {seq} {at}".encode() + data).digest()
            target.execute(
                "INSERT INTO events (stream, seq, at, data, hash) VALUES (?, ?, ?, ?, ?)",
                (stream, seq, at, data, digest),
            )
            if seq % 2:
                target.execute("UPDATE streams SET version = ? WHERE key = ?", (seq, stream))
        target.execute("COMMIT")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    target.close()
    return Cost(steps / wall, cpu / steps * 1e6, commits / steps, bare.stat().st_size / steps, wall)


def run(sessions: int, steps: int, rounds: int) -> Row:
    """Medians over `rounds`, ours and the floors' turn about."""
    ours, floors, writes = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.db"
            cost = asyncio.run(measure(path, sessions, steps))
            commits = max(1, round(cost.commits * sessions * steps))
            ours.append(cost)
            floors.append(floor(path, sessions * steps, commits, makes_bytes=True))
            writes.append(floor(path, sessions * steps, commits, makes_bytes=False))
    return Row(sessions, steps, _median(ours), _median(floors), _median(writes))


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(getattr(cost, name) for cost in costs) for name in Cost.__struct_fields__))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row; medians are printed")
    parser.add_argument("--quick", action="store_true", help="small rows only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [(1, steps) for steps in (LONE[:2] if options.quick else LONE)]
    rows += [(count, STEPS_TOGETHER) for count in (TOGETHER[:2] if options.quick else TOGETHER)]
    run(1, 10, 1)  # warm up
    if options.json:
        results = [run(sessions, steps, options.rounds) for sessions, steps in rows]
        print(json.dumps(msgspec.to_builtins(results), indent=2))
        return
    print(HEADER)
    for sessions, steps in rows:
        row = run(sessions, steps, options.rounds)
        ours, bare, writes = row.ours, row.floor, row.writes
        print(
            f"{sessions:8} {steps:6} {ours.steps_per_s:9.0f} {bare.steps_per_s:6.0f} {ours.cpu_us:13.0f} "
            f"{bare.cpu_us:6.0f} {writes.cpu_us:7.0f} {ours.cpu_us / bare.cpu_us:6.2f} {ours.commits:14.4f} "
            f"{ours.bytes:12.0f} {bare.bytes:6.0f}"
        )


if __name__ == "__main__":
    main()
