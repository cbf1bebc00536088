"""Recorded sessions are read, folded and decided again by today's code, for ever.

A file of `histories/` is what `ostler export` wrote once. It is never changed: when one no longer replays, the code has
broken a promise. A new kind of history gets a new file.
"""

import re
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.app.transfer import export, import_
from ostler.domain.session.events import SESSION_CODEC, SessionEvent
from ostler.kernel.errors import ReplayDiverged, StoreCorrupt
from ostler.kernel.event import Record, first_broken, link
from ostler.runtime.journal import Journal
from ostler.runtime.replay import replay, snapshot, state_after

HISTORIES = Path(__file__).parent / "histories"
NAMES = sorted(path.stem for path in HISTORIES.glob("*.jsonl"))


def lines(name: str) -> list[bytes]:
    return (HISTORIES / f"{name}.jsonl").read_bytes().splitlines()


async def imported(name: str) -> tuple[Journal, MemoryBlobStore, list[list[Record]]]:
    journal, blobs = Journal(MemoryStore()), MemoryBlobStore()
    sessions = await import_(journal, blobs, lines(name), now_us=0)
    streams = await journal.store.streams("default", limit=1000)
    assert len(streams) == len(sessions) > 0
    return journal, blobs, [await journal.records(info.stream) for info in reversed(streams)]


@pytest.mark.parametrize("name", NAMES)
async def test_a_recorded_history_is_decided_again_as_it_was(name: str) -> None:
    _, _, sessions = await imported(name)
    for records in sessions:
        assert first_broken(records) is None
        replayed = replay(records)
        assert replayed.state.end is not None
        assert 0 < replayed.decisions <= len(records)


@pytest.mark.parametrize("name", NAMES)
async def test_a_recorded_history_folds_to_the_same_bytes_every_time(name: str) -> None:
    _, _, sessions = await imported(name)
    for records in sessions:
        once, again = state_after(records), state_after(records)
        assert once is not None
        assert again is not None
        assert snapshot(once) == snapshot(again) == snapshot(replay(records).state)


@pytest.mark.parametrize("name", NAMES)
async def test_a_recorded_history_is_written_again_byte_for_byte(name: str) -> None:
    journal, blobs, sessions = await imported(name)
    for records in sessions:
        for record in records:
            assert SESSION_CODEC.encode(SESSION_CODEC.decode(record.data)) == record.data
    streams = [records[0].stream for records in sessions]
    assert [line async for line in export(journal, blobs, streams, written_by="0.1.0")] == lines(name)


def test_the_histories_show_everything_that_can_happen_in_a_session() -> None:
    shown = {
        tag.decode() for name in NAMES for tag in re.findall(rb'"event":\{"type":"([a-z.]+)"', b"\n".join(lines(name)))
    }
    assert shown == tags()


@cache
def tags() -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in SessionEvent.__args__}


def forged(records: list[Record], seq: int, **changes: Any) -> list[Record]:
    """The same history with other words in one event, and a chain that was mended by somebody who knows how."""
    previous, mended = bytes(32), []
    for record in records:
        data = record.data
        if record.seq == seq:
            data = msgspec.json.encode(msgspec.json.decode(data) | changes)
        previous = link(previous, record.stream, record.seq, record.at_us, data)
        mended.append(Record(record.stream, record.seq, record.at_us, data, previous))
    assert first_broken(mended) is None
    return mended


async def first_of(name: str) -> AsyncIterator[tuple[int, str, list[Record]]]:
    """Each event of the first session of a history: its number, its tag, and the session."""
    _, _, sessions = await imported(name)
    for record in sessions[0]:
        yield record.seq, msgspec.json.decode(record.data)["type"], sessions[0]


FORGERIES: dict[str, dict[str, Any]] = {
    "tool.requested": {"arguments": {"amount": 1_000_000}},
    "approval.requested": {"rule": "another"},
    "approval.granted": {"digest": "0" * 64},
    "constraint.failed": {"type": "tool.requested", "arguments": {}},
    "approval.denied": {"type": "approval.granted", "digest": "0" * 64},
    "agent.completed": {"answer": "something else"},
    "model.requested": {"reserved_tokens": 7},
}


@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_history_that_was_altered_with_a_mended_chain_diverges(kind: str) -> None:
    tried = 0
    async for seq, tag, records in first_of("approvals"):
        if tag == kind:
            tried += 1
            with pytest.raises(ReplayDiverged) as diverged:
                replay(forged(records, seq, **FORGERIES[kind]))
            assert diverged.value.facts["recorded"] != diverged.value.facts["decided"]
    assert tried


async def test_a_history_that_was_altered_without_mending_the_chain_is_not_taken_in() -> None:
    altered = [line.replace(b'"amount":5', b'"amount":6') for line in lines("approvals")]
    assert altered != lines("approvals")
    store = MemoryStore()
    with pytest.raises(StoreCorrupt, match="altered"):
        await import_(Journal(store), MemoryBlobStore(), altered, now_us=0)
    assert await store.head() == 0


async def test_a_history_from_which_an_event_is_missing_diverges_even_with_a_mended_chain() -> None:
    _, _, sessions = await imported("approvals")
    granted = next(record.seq for record in sessions[0] if b"approval.granted" in record.data)
    without = [record for record in sessions[0] if record.seq != granted]
    with pytest.raises(ReplayDiverged):
        replay(without)


def test_nothing_at_all_is_no_history() -> None:
    assert state_after([]) is None
    with pytest.raises(ReplayDiverged, match="nothing to replay"):
        replay([])
