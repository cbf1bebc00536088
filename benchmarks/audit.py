"""What proofs cost: adding to the tree, signing for a log, taking it along, verifying it.

`python -m benchmarks.audit` fills a store with 100,000 events in sessions of 100. All times are of the CPU.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ostler.app.audit.checkpoint import sign_checkpoint
from ostler.app.audit.export import cut_by_checkpoints, export
from ostler.app.audit.lines import read_lines
from ostler.app.audit.note import SigningKey
from ostler.app.audit.proof import prove
from ostler.app.audit.tree import Tree
from ostler.app.audit.verify import Verifier, verify, verify_store
from ostler.app.bootstrap import Parts, connect
from ostler.app.settings import Settings
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.kernel.merkle import Frontier, leaf_hash
from ostler.ports import Append, Standing

TENANT = "default"
KEY = SigningKey("benchmark", bytes(32))
DATA = msgspec.json.encode({"type": "tool.completed", "call": "c" * 20, "output": "x" * 500})
SESSION = 100
"""Events of a session."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--store", metavar="URL", help="an empty store, instead of a SQLite file of its own")
    options = parser.parse_args()
    append(options.events)
    with tempfile.TemporaryDirectory() as folder:
        url = options.store or f"sqlite:///{folder}/ostler.db"
        asyncio.run(prove_all(url, options.events, Path(folder) / "audit.jsonl"))
    print(f"{'peak memory':32}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:10.0f} MB")


def append(events: int) -> None:
    tree, began = Frontier(), time.process_time()
    for _ in range(events):
        tree.add(leaf_hash(GENESIS))
    print(f"{'append to the tree':32}{(time.process_time() - began) / events * 1e6:10.1f} µs")


async def prove_all(url: str, events: int, file: Path) -> None:
    parts = await connect(Settings(url, Path()))
    await fill(parts, events)
    tree = Tree(parts.store, parts.views)
    with timed("first checkpoint"):
        await checkpoint(parts, tree)
    await append_session(parts, events)
    with timed(f"checkpoint {SESSION} events later"):
        await checkpoint(parts, Tree(parts.store, parts.views))
    with timed("export of everything"):
        await write(parts, tree, file)
    with timed("verification of that file"), file.open("rb") as lines:
        assert all(check.outcome != "fails" for check in verify(read_lines(lines), Verifier()))
    with timed("verification of the store"):
        await verify_store(parts.store, tree, TENANT, Verifier(is_store=True))
    with timed("proof of one event"):
        await prove(parts.store, tree, stream(events // 2), 7)
    await parts.close()


async def fill(parts: Parts, events: int) -> None:
    for first in range(0, events, SESSION):
        await append_session(parts, first)


async def append_session(parts: Parts, first: int) -> None:
    records, previous = [], GENESIS
    for seq in range(1, SESSION + 1):
        previous = link(previous, stream(first), seq, seq, DATA)
        records.append(Record(stream(first), seq, seq, DATA, previous))
    await parts.store.append(Append(stream(first), 0, records, Standing("clerk", "completed", None)))


def stream(first: int) -> StreamId:
    return StreamId(TENANT, f"ses_{first:012}")


async def checkpoint(parts: Parts, tree: Tree) -> None:
    await tree.catch_up()
    await sign_checkpoint(parts.store, tree, parts.clock, KEY, tenant=TENANT, by="benchmark")


async def write(parts: Parts, tree: Tree, file: Path) -> None:
    await tree.catch_up()
    cut = await cut_by_checkpoints(parts.store, tree, TENANT, from_us=None, to_us=None)
    with file.open("wb") as lines:
        async for line in export(parts.store, tree, cut, written_by="benchmark"):
            lines.write(msgspec.json.encode(line) + b"\n")


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.process_time()
    yield
    print(f"{what:32}{(time.process_time() - began) * 1e3:10.1f} ms")


if __name__ == "__main__":
    main()
