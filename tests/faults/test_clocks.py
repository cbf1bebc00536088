"""Clocks that are wrong, and clocks that jump while sessions run."""

import itertools
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from ostler.domain.session.events import SESSION_CODEC, SessionEvent
from ostler.kernel.event import Record
from ostler.views.calls import calls
from tests.faults.cluster import Cluster
from tests.faults.crew import clock_off, crew
from tests.faults.test_zombies import begun

HOUR_S = 3600.0


@pytest.mark.fault(16)
async def test_workers_whose_clocks_are_hours_apart_agree_on_leases(cluster: Cluster, tmp_path: Path) -> None:
    """Of three workers one is an hour ahead, one an hour behind, one five minutes; the server's clock counts."""
    async with crew(cluster.url(schema="skewed"), tmp_path / "crew", lease_s=2.0, pause_s=0.2) as team:
        workers = [
            await team.hire(env=clock_off(offset_s=off_s), concurrency=20, host=f"host{off_s:g}")
            for off_s in (HOUR_S, -HOUR_S, 300.0)
        ]
        await team.start("clerk", 40)
        await team.start("nap 3", 6)
        await team.over()
        assert {line.facts[2] for line in team.lines("claim")} == {1}, "somebody living was taken for dead"
        assert len({line.process for line in team.lines("claim")}) == 3
        before = len(team.lines("begin"))
        await team.start("clerk", 40)
        await team.until(lambda: len(team.lines("begin")) > before + 50)
        victim = team.workers[team.lines("begin")[-1].process]
        victim.signal(signal.SIGKILL)
        workers.remove(victim)
        await team.over()
        assert max(line.facts[2] for line in team.lines("claim")) > 1, "the dead one was never missed"
        for worker in workers:
            assert await team.stop(worker) == 0
        assert await team.judge() == []
        log = await team.store.tail(limit=100_000)
        assert log[-1].at_us - log[0].at_us < HOUR_S / 2 * 1e6, "the log has one time"


@pytest.mark.fault(16)
async def test_a_clock_that_jumps_during_sessions_makes_timers_fire_once_and_nothing_last_less_than_no_time(
    tmp_path: Path,
) -> None:
    """The clock of the only worker jumps an hour ahead, two hours back, and a day ahead."""
    told = tmp_path / "clock"
    told.write_text("+0")
    async with crew(f"sqlite:///{tmp_path}/ostler.db", tmp_path / "crew", lease_s=3.0, pause_s=0.1) as team:
        await team.hire(env=clock_off(told_by=told))
        for jump in ("+3600", "-3600", "+86400"):
            before = len(team.lines("begin"))
            await team.start("clerk", 15)
            await team.start("nap 0.2", 5)
            await team.until(begun(team, before + 10))
            told.write_text(jump)
        await team.over()
        for worker in team.workers.values():
            assert await team.stop(worker) == 0
        assert await team.judge() == []
        log = await team.store.tail(limit=100_000)
        assert any(_goes_back(log)), "no clock has jumped"
        sessions: dict[str, list[tuple[int, SessionEvent]]] = defaultdict(list)
        for record in log:
            if record.stream.name.startswith("ses_"):
                sessions[record.stream.name].append((record.at_us, SESSION_CODEC.decode(record.data)))
        took = [one.took_us for facts in sessions.values() for one in calls(facts) if one.took_us is not None]
        assert took
        assert min(took) >= 0, "a call cannot have taken less than no time"


def _goes_back(log: list[Record]) -> list[bool]:
    return [later.at_us < earlier.at_us for earlier, later in itertools.pairwise(log)]
