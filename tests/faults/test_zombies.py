"""Workers that stand still for longer than their lease, and come back: what they held is somebody else's by then."""

import signal
from pathlib import Path

import pytest

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
    """Stop it where it is, until all that it held is in other hands, or over."""
    worker.signal(signal.SIGSTOP)
    name = team.name_of(worker)
    held = {line.facts[1]: line.facts[2] for line in team.lines("claim", by=worker)}

    async def has_nothing() -> bool:
        infos = await team.store.streams("default", prefix="ses_", statuses=("queued", "running"), limit=100_000)
        mine = [worker for worker, _ in await team.store.workers() if f"/{workers_pid(team, name)}/" in worker]
        return not [info for info in infos if info.worker in mine and info.stream.name in held]

    await team.until(has_nothing)


def workers_pid(team: Crew, name: str) -> int:
    return team.workers[name].pid


@pytest.mark.fault(12)
async def test_a_worker_that_was_frozen_does_nothing_with_what_others_have_taken(url: str, tmp_path: Path) -> None:
    """Two workers are stopped in turn, at any moment, and woken when the other has taken over."""
    async with crew(url, tmp_path / "crew", lease_s=LEASE_S, pause_s=0.2, patience_s=60) as team:
        workers = [await team.hire() for _ in range(2)]
        frozen = {team.name_of(worker): 0.0 for worker in workers}
        for number in range(size(2, 12)):
            await team.start("clerk", 20)
            worker = workers[number % 2]
            before = len(team.lines("claim", by=worker))
            await team.until(lambda worker=worker, before=before: len(team.lines("claim", by=worker)) > before)
            await team.until(lambda number=number: len(team.lines("begin")) > 40 * (number + 1))
            await freeze(team, worker)
            frozen[team.name_of(worker)] += 1
            worker.signal(signal.SIGCONT)
        await team.over()
        for worker in workers:
            assert await team.stop(worker) == 0
        assert await team.judge() == []
        epochs = [line.facts[2] for line in team.lines("claim")]
        assert max(epochs) > 1, "nobody took anything over"


@pytest.mark.fault(15)
async def test_a_worker_that_a_tool_held_up_begins_nothing_of_what_others_have_taken(url: str, tmp_path: Path) -> None:
    async with crew(url, tmp_path / "crew", lease_s=LEASE_S, pause_s=0.1) as team:
        held_up = await team.hire()
        await team.start("clerk", 25)
        await team.until(lambda: len(team.lines("claim", by=held_up)) >= 25)
        other = await team.hire()
        await team.start(f"hog {LEASE_S * 3}", 1)
        await team.until(lambda: [line for line in team.lines("begin") if line.facts[0] == "hog"])
        await team.over()
        for worker in (held_up, other):
            assert await team.stop(worker) == 0
        assert await team.judge() == []
        assert begun_after_being_taken(team.lines()) == []
        assert max(line.facts[2] for line in team.lines("claim")) > 1, "nobody took anything over"
