"""Worker processes are killed with SIGKILL at random moments; what they acknowledged stays, nothing happens twice."""

import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.boot import WORKER_CODEC, WorkerLost, WorkerStarted, WorkerStopped
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCompleted,
    AgentStarted,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.event import Record, first_broken
from ostler.runtime.replay import replay
from tests.runtime.processes import child

ROUNDS = 50
SEED = 2026
SESSIONS = 4
"""How many are unfinished at the beginning of each round."""
LINES_MAX = 90
"""A process is killed after at most so many lines, unless it has finished everything before."""

Logs = dict[str, list[Record]]


@pytest.mark.timeout(300)
async def test_fifty_processes_killed_at_random_lose_nothing_acknowledged_and_do_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    store, effects = tmp_path / "ostler.db", tmp_path / "effects"
    effects.mkdir()
    kept: dict[tuple[str, int], str] = {}
    logs: Logs = {}
    killed = lives = 0
    while killed < ROUNDS:
        after = chance.randrange(1, LINES_MAX)
        sys.stdout.write(f"life {lives}: seed {SEED}, killed after line {after}\n")  # shown when it fails
        unfinished = sum(name.startswith("ses_") and not _has_ended(log) for name, log in logs.items())
        said, was_killed = await _live_and_die(store, effects, SESSIONS - unfinished, after)
        lives, killed = lives + 1, killed + was_killed
        kept |= _acknowledged(said)
        logs = await _logs_in_a_copy_of(store, tmp_path / "copy")
        _check_that_all_is_there(logs, kept)
    async with child("tests.runtime.mortal", store, effects, 0) as last:
        kept |= _acknowledged(await last.rest())
        assert await last.ended() == 0
    logs = await _logs_in_a_copy_of(store, tmp_path / "copy")
    _check_that_all_is_there(logs, kept)
    _check_the_sessions(logs)
    _check_the_effects(logs, effects)
    _check_the_workers(logs, lives - killed + 1)


async def _live_and_die(store: Path, effects: Path, sessions: int, after: int) -> tuple[list[str], bool]:
    """Everything that a process says which is killed when it has said `after` lines, and whether it was."""
    async with child("tests.runtime.mortal", store, effects, sessions) as mortal:
        while len(mortal.lines) < after and await mortal.line():
            pass
        if len(mortal.lines) == after:
            mortal.signal(signal.SIGKILL)
        await mortal.rest()
        assert await mortal.ended() in (0, -signal.SIGKILL)
    return mortal.lines, await mortal.ended() != 0


def _acknowledged(lines: list[str]) -> dict[tuple[str, int], str]:
    """The hash of each event that was said to be kept."""
    assert not [line for line in lines if line.startswith("trouble")]
    words = [line.split() for line in lines if line.startswith("kept ")]
    return {(name, int(seq)): digest for _, name, seq, digest in words}


async def _logs_in_a_copy_of(path: Path, folder: Path) -> Logs:
    """What a reader finds after the death; in a copy, so that the next process recovers from it by itself."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, folder)
    store = await SqliteStore.open(folder / path.name)
    logs: Logs = {}
    for record in await store.tail(limit=1_000_000):
        logs.setdefault(record.stream.name, []).append(record)
    await store.close()
    return logs


def _check_that_all_is_there(logs: Logs, kept: dict[tuple[str, int], str]) -> None:
    for name, records in logs.items():
        assert first_broken(records) is None, name
    missing = [
        (name, seq)
        for (name, seq), digest in kept.items()
        if len(logs.get(name, ())) < seq or logs[name][seq - 1].hash.hex() != digest
    ]
    assert not missing


def _events(records: list[Record]) -> list[SessionEvent]:
    return [SESSION_CODEC.decode(record.data) for record in records]


def _has_ended(records: list[Record]) -> bool:
    return isinstance(SESSION_CODEC.decode(records[-1].data), AgentCompleted)


def _check_the_sessions(logs: Logs) -> None:
    sessions = {name: records for name, records in logs.items() if name.startswith("ses_")}
    assert len(sessions) > SESSIONS
    for name, records in sessions.items():
        events = _events(records)
        starts_and_ends = [event for event in events if isinstance(event, AgentStarted | AgentCompleted)]
        assert starts_and_ends == [events[0], events[-1]], name
        begun = Counter(event.call for event in events if isinstance(event, ModelRequested | ToolRequested))
        ended = Counter(
            event.call for event in events if isinstance(event, ModelCompleted | ModelFailed | ToolCompleted)
        )
        assert begun == ended, name
        assert set(begun.values()) == {1}, name
        replay(records)


def _check_the_effects(logs: Logs, effects: Path) -> None:
    """What may not happen twice did not, and what has a good outcome did happen."""
    times = {file.name: len(file.read_text().splitlines()) for file in effects.iterdir()}
    assert max(count for name, count in times.items() if name.startswith(("pay ", "book "))) == 1
    for name, records in logs.items():
        events = _events(records) if name.startswith("ses_") else []
        tools = {event.call: event.tool for event in events if isinstance(event, ToolRequested)}
        for event in events:
            if isinstance(event, ToolCompleted) and event.ok:
                assert times[f"{tools[event.call]} {name} {event.call}"] >= 1, (name, event)
            elif isinstance(event, ToolCompleted):
                assert (tools[event.call], event.kind) == ("pay", "unknown"), (name, event)


def _check_the_workers(logs: Logs, finished: int) -> None:
    """Each that was killed was found lost, once, by one that came after it; the others said goodbye."""
    workers = [
        [WORKER_CODEC.decode(record.data) for record in log] for name, log in logs.items() if name.startswith("wrk_")
    ]
    assert {(type(life[0]), len(life)) for life in workers} == {(WorkerStarted, 2)}
    ends = Counter(type(life[-1]) for life in workers)
    assert ends[WorkerStopped] >= finished  # one may be killed when it has said goodbye, and is about to exit
    assert ends[WorkerLost] > ROUNDS // 2  # but for those killed before they had begun
