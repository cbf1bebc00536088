"""The benchmark of many workers measures what it says."""

from benchmarks.workers import run, table
from tests.servers import POSTGRES, need


async def test_more_workers_run_the_same_sessions_and_their_cpu_is_told_apart():
    need(POSTGRES)
    one, two = await run(POSTGRES, sessions=10, steps=3, workers=(1, 2))
    assert (one.workers, two.workers) == (1, 2)
    for result in (one, two):
        assert result.wall_s > 0
        assert result.workers_cpu_s >= 0
        assert result.server_cpu_s >= 0
    assert len(table([one, two]).splitlines()) == 4
