"""Workers that stand still for longer than their lease, and come back: what they held is somebody else's by then."""

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ostler.adapters.store.postgres.server import IDLE_TIMEOUT_S
from tests.faults.cluster import Cluster
from tests.faults.crew import Crew, crew, size
from tests.faults.invariants import begun_after_being_taken
from tests.runtime.processes import Child

LEASE_S = 1.0


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ostler.db"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.url(schema=f"zombies_{request.node.originalname[5:25]}")


async def freeze(team: Crew, worker: Child) -> None:
    """Stop it where it is until all that it held is in other hands, or over; or until it is clear that it cannot be.

    On SQLite it may have been stopped in the middle of a commit, and then holds the file's lock; so nobody can.
    """
    worker.signal(signal.SIGSTOP)

    async def has_nothing() -> bool:
        infos = await team.store.streams("default", prefix="ses_", statuses=("queued", "running"), limit=100_000)
        return not [info for info in infos if info.worker and f"/{worker.pid}/" in info.worker]

    with suppress(TimeoutError):
        await team.until(has_nothing, within_s=6)


def begun(team: Crew, count: int) -> Callable[[], bool]:
    return lambda: len(team.lines("begin")) > count


@pytest.mark.fault(12)
async def test_a_worker_that_was_frozen_does_nothing_with_what_others_have_taken(url: str, tmp_path: Path) -> None:
    """Whoever of two workers has just begun something is stopped, and woken when the other has taken over."""
    async with crew(url, tmp_path / "crew", lease_s=LEASE_S, pause_s=0.2, patience_s=60) as team:
        for _ in range(2):
            await team.hire()
        for _ in range(size(3, 20)):
            before = len(team.lines("begin"))
            await team.start("clerk", 20)
            await team.until(begun(team, before + 30))
            worker = team.workers[team.lines("begin")[-1].process]
            await freeze(team, worker)
            worker.signal(signal.SIGCONT)
        await team.over()
        for worker in team.workers.values():
            assert await team.stop(worker) == 0
        assert await team.judge() == []
        assert max(line.facts[2] for line in team.lines("claim")) > 1, "nobody took anything over"


@pytest.mark.fault(15)
async def test_a_worker_that_a_tool_held_up_begins_nothing_of_what_others_have_taken(url: str, tmp_path: Path) -> None:
    async with crew(url, tmp_path / "crew", lease_s=LEASE_S, pause_s=0.1) as team:
        held_up = await team.hire()
        await team.start("clerk", 25)
        await team.until(lambda: len(team.lines("claim", by=held_up)) >= 25)
        other = await team.hire()
        await team.start(f"hog {LEASE_S + IDLE_TIMEOUT_S + 1}", 1)  # longer than whatever it holds while it stands
        await team.until(lambda: [line for line in team.lines("begin") if line.facts[0] == "hog"])
        await team.over()
        for worker in (held_up, other):
            assert await team.stop(worker) == 0
        assert await team.judge() == []
        assert begun_after_being_taken(team.lines()) == []
        assert max(line.facts[2] for line in team.lines("claim")) > 1, "nobody took anything over"
