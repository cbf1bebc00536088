"""Thousands of sessions that are due at once, and a tenant with many more than all others."""

import signal
from bisect import bisect_left
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.crew import crew, size

PER_S = 200.0


@pytest.mark.fault(32)
@pytest.mark.timeout(900)
async def test_workers_that_are_all_restarted_at_once_claim_no_faster_than_they_may(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Sessions wait for people, all are answered while no worker lives, and then all workers come."""
    count = size(600, 10_000)
    async with crew(cluster.url(schema="herd"), tmp_path / "crew", lease_s=10.0, claims_per_s=PER_S) as team:
        await team.start("short", count)
        workers = [await team.hire() for _ in range(2)]
        await team.until(lambda: len(team.lines("claim")) > count / 10, within_s=600)
        for worker in workers:
            worker.signal(signal.SIGKILL)
        workers = [await team.hire() for _ in range(2)]
        await team.over(within_s=600)
        for worker in workers:
            times = [line.at_s for line in team.lines("claim", by=worker)]
            most = max(bisect_left(times, start + 1.0) - number for number, start in enumerate(times))
            assert most <= 2.2 * PER_S, "a second's worth may have been saved up, and a second's worth comes in"
            assert await team.stop(worker) == 0
        assert await team.judge() == []


@pytest.mark.fault(32)
async def test_a_tenant_with_a_flood_of_sessions_does_not_keep_another_waiting(
    cluster: Cluster, tmp_path: Path
) -> None:
    flood, few = size(300, 5000), 5
    async with crew(cluster.url(schema="fair"), tmp_path / "crew", concurrency=20, pause_s=0.02) as team:
        await team.start("short", flood, tenant="hot")
        await team.start("short", few, tenant="quiet")
        worker = await team.hire()
        await team.over(("hot", "quiet"), within_s=300)
        assert await team.stop(worker) == 0
        turns = [line.facts[0] for line in team.lines("claim")]
        last = max(place for place, tenant in enumerate(turns) if tenant == "quiet")
        assert last < 4 * few, f"the last of a quiet tenant was taken as number {last}"
        assert await team.judge() == []
