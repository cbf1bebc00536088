"""Workers on one PostgreSQL are killed at random moments, and others take over what they held."""

import asyncio
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ostler.domain.identity import LOCAL_USER
from ostler.domain.session import commands as command
from ostler.kernel.errors import Conflict, UsageError
from ostler.kernel.event import StreamId
from tests.faults.cluster import Cluster
from tests.faults.crew import LONG, Crew, crew, size, some_time
from tests.faults.invariants import Line
from tests.runtime.processes import Child

SEED = 2026
LEASE_S = 1.5
SWEEP_S = 0.25
ALLOWED_S = 10.0
"""How much later than lease and sweep a busy machine may take over. It is no promise, only not for ever."""


@pytest.mark.fault(1, 2, 3)
@pytest.mark.timeout(1800)
async def test_workers_killed_at_random_moments_leave_nothing_undone_and_nothing_done_twice(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Half of them are on a host of their own, so that only their leases tell that they are dead."""
    chance = random.Random(SEED)
    kills, sessions = size(8, 50), size(200, 2000)
    async with crew(cluster.url(schema="kills"), tmp_path / "crew", lease_s=LEASE_S, sweep_s=SWEEP_S) as team:
        living = [await _hire(team, number, chance) for number in range(4 if LONG else 2)]
        streams: list[StreamId] = []
        for number in range(kills):
            streams += await team.start("clerk", sessions // kills)
            asked = await team.start("asking", 2)
            streams += asked
            await some_time(chance.random() * 0.5)
            victim = living.pop(chance.randrange(len(living)))
            sys.stdout.write(f"kill {number} of seed {SEED}: {team.name_of(victim)}\n")  # shown when it fails
            victim.signal(signal.SIGKILL)
            await asyncio.gather(*(_meddle(team, stream, chance.random()) for stream in asked))
            living.append(await _hire(team, len(team.workers), chance))
        await _answer_all(team, streams)
        await team.over(within_s=600)
        for worker in living:
            assert await team.stop(worker) == 0
        assert await team.judge() == []
        late = _took_over_after(team.lines())
        assert late, "nobody took anything over"
        slowest = max(late)
        sys.stdout.write(
            f"{len(late)} sessions of the dead were taken over, the last {slowest:.2f} s after its last beat\n"
        )
        assert slowest <= LEASE_S + SWEEP_S + ALLOWED_S


async def _hire(team: Crew, number: int, chance: random.Random) -> Child:
    host = f"host-{number}" if number % 2 else ""
    return await team.hire(host=host, pause_s=0.05, seed=chance.randrange(1000))


async def _meddle(team: Crew, stream: StreamId, dice: float) -> None:
    """A person approves or cancels while workers die."""

    def decide(now: int) -> command.SessionCommand:
        return command.Cancel(now, LOCAL_USER) if dice < 0.3 else command.Approve(now, "1.1", LOCAL_USER)

    with suppress(Conflict, UsageError):  # too early, or too late: it was refused, and so is not acknowledged
        await team.tell(stream, decide)


async def _answer_all(team: Crew, streams: list[StreamId]) -> None:
    """Until nobody waits for an answer any more."""

    async def is_answered() -> bool:
        infos = await team.store.streams("default", prefix="ses_", statuses=("waiting",), limit=10_000)
        for info in infos:
            await _meddle(team, info.stream, 1.0)
        started = await team.store.streams("default", prefix="ses_", statuses=("queued", "running"), limit=1)
        return not infos and not started

    await team.until(is_answered, within_s=600)


def _took_over_after(lines: list[Line]) -> list[float]:
    """For each session that went from a dead worker to another: seconds from the dead one's last sign of life."""
    beats: dict[str, float] = {}
    holders: dict[str, str] = {}
    late = []
    for line in lines:
        if line.what == "beat":
            beats[line.process] = line.at_s
        elif line.what == "claim":
            before = holders.get(line.facts[1])
            if before not in (None, line.process) and line.facts[3] > 1:
                late.append(line.at_s - beats[before])
            holders[line.facts[1]] = line.process
    return late
