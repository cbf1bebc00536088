"""Workers at work on a PostgreSQL server that crashes again and again: nothing acknowledged is lost or done twice."""

import asyncio
import random
import sys
from pathlib import Path

import pytest

from ostler.domain.session.events import SESSION_CODEC, AgentCompleted
from tests.faults.cluster import Cluster, reachable
from tests.faults.crew import Crew, crew, size, some_time

SEED = 2026


@pytest.mark.fault(8)
@pytest.mark.timeout(900)
async def test_a_server_that_is_stopped_immediately_again_and_again_loses_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    async with crew(cluster.url(schema="immediate"), tmp_path / "crew", lease_s=3.0, pause_s=0.05) as team:
        for _ in range(2):
            await team.hire()
        for number in range(size(5, 30)):
            starting = asyncio.create_task(team.start("clerk", 15))
            await some_time(chance.random() * 0.6)
            sys.stdout.write(f"crash {number} of seed {SEED}\n")  # shown when it fails
            await asyncio.to_thread(cluster.stop, "immediate")
            await asyncio.to_thread(cluster.start)
            await reachable(cluster)
            await starting
        assert await _what_is_wrong(team) == []


@pytest.mark.fault(8)
async def test_workers_go_on_after_a_server_that_was_away_for_longer_than_they_wait(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with crew(cluster.url(schema="long"), tmp_path / "crew", patience_s=0.5, lease_s=1.5, pause_s=0.1) as team:
        await team.hire()
        await team.start("clerk", 20)
        await team.until(lambda: len(team.lines("begin")) > 20)
        await asyncio.to_thread(cluster.stop, "immediate")
        await team.until(
            lambda: len([line for line in team.lines("trouble") if line.facts[1] == "store_unreachable"]) > 3
        )
        await asyncio.to_thread(cluster.start)
        assert await _what_is_wrong(team) == []


async def _what_is_wrong(team: Crew) -> list[str]:
    """With the log, when every session has come to its end and all workers, who live, have been told to stop."""
    await team.over()
    records = [record for record in await team.store.tail(limit=1_000_000) if record.stream.name.startswith("ses_")]
    ends = [record for record in records if isinstance(SESSION_CODEC.decode(record.data), AgentCompleted)]
    assert len(ends) == len({record.stream for record in records})
    for worker in team.workers.values():
        assert await team.stop(worker) == 0
    return await team.judge()
