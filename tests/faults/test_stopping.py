"""Workers that are told to stop: what they hold is free at once, for others that need not wait for any lease."""

import secrets
import signal
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.crew import crew

LEASE_S = 600.0


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ostler.db"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.url(schema=f"stopping_{secrets.token_hex(4)}")


@pytest.mark.fault(31)
@pytest.mark.parametrize("signals", [1, 2], ids=["with grace", "told twice"])
async def test_a_worker_that_is_told_to_stop_leaves_its_sessions_to_others_at_once(
    url: str, tmp_path: Path, signals: int
) -> None:
    """One has a call of ten minutes under way; told once it waits a second for it, told twice not at all."""
    async with crew(url, tmp_path / "crew", lease_s=LEASE_S, pause_s=0.1) as team:
        leaving = await team.hire(host="leaving", grace_s=1.0 if signals == 1 else 600.0)
        await team.start("nap 600")
        await team.start("clerk", 10)
        await team.until(lambda: [line for line in team.lines("begin") if line.facts[0] == "nap"])
        for _ in range(signals):
            leaving.signal(signal.SIGTERM)
            if signals == 2 and "stopping" not in leaving.lines:
                await leaving.until("stopping")
        await leaving.until("stopped")
        assert await leaving.ended() == 0
        staying = await team.hire()
        await team.over()
        assert await team.stop(staying) == 0
        assert await team.judge() == []
        assert {line.process for line in team.lines("kept")} >= {team.name_of(staying)}


@pytest.mark.fault(31)
async def test_a_worker_that_is_killed_after_its_grace_is_missed_when_its_lease_runs_out(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with crew(cluster.url(schema="container"), tmp_path / "crew", lease_s=1.5, pause_s=0.1) as team:
        leaving = await team.hire(host="container", grace_s=600.0)
        await team.start("nap 600")
        await team.start("clerk", 10)
        await team.until(lambda: [line for line in team.lines("begin") if line.facts[0] == "nap"])
        leaving.signal(signal.SIGTERM)
        leaving.signal(signal.SIGKILL)
        staying = await team.hire()
        await team.over()
        assert await team.stop(staying) == 0
        assert await team.judge() == []
