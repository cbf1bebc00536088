"""A relay is a process that may die at any moment; what it hands over has no gap, whenever that is."""

import random
import signal
from pathlib import Path

import msgspec
import pytest

from ostler.adapters.store.sqlite import SqliteStore
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, Standing
from ostler.testing.contracts.event_bus import positions, without_repeats
from tests.adapters.bus.servers import NATS, REDIS, NatsStream, RedisStream, require
from tests.runtime.processes import child

EVENTS = 3000
STREAMS = 5
KILLS = 20
LINES_MAX = 14
"""Up to so many lines of a process are read before it is killed: four for each batch."""


async def write_log(path: Path) -> None:
    """A log whose streams are interleaved."""
    store = await SqliteStore.open(path)
    per_append, seqs, hashes = 10, [0] * STREAMS, [GENESIS] * STREAMS
    for number in range(EVENTS // per_append):
        which = number % STREAMS
        stream = StreamId("acme", f"ses_{which}")
        records = []
        for seq in range(seqs[which] + 1, seqs[which] + 1 + per_append):
            data = msgspec.json.encode({"type": "hay.eaten", "bale": seq})
            hashes[which] = link(hashes[which], stream, seq, seq, data)
            records.append(Record(stream, seq, seq, data, hashes[which]))
        await store.append(Append(stream, seqs[which], records, Standing("q", "running", None)))
        seqs[which] += per_append
    await store.close()


@pytest.mark.parametrize("target", ["redis", "nats"])
async def test_a_relay_that_is_killed_again_and_again_misses_nothing(target: str, tmp_path: Path) -> None:
    url = REDIS if target == "redis" else NATS
    require(url, target)
    there = RedisStream() if target == "redis" else NatsStream()
    seed = 20
    chance, path, killed = random.Random(seed), tmp_path / "ostler.db", 0
    await write_log(path)
    try:
        for _ in range(KILLS):
            async with child("tests.faults.relaying", path, url, there.name) as relay:
                said = [await relay.line() for _ in range(chance.randint(1, LINES_MAX))]
                relay.signal(signal.SIGKILL)
                killed += await relay.ended() == -signal.SIGKILL
                assert not [line for line in said if line.startswith("trouble")], said
        async with child("tests.faults.relaying", path, url, there.name) as relay:
            rest = await relay.rest()
            assert (rest[-1], await relay.ended()) == ("over", 0)
        found = await there.events()
    finally:
        await there.close()
    assert killed >= KILLS // 2, "most were killed before they were done"
    assert positions(without_repeats(found)) == list(range(1, EVENTS + 1)), f"seed {seed}"
    if target == "redis":
        assert len(found) == EVENTS, "Redis takes no repeats"
