"""Sessions that bring down whatever worker runs them: they are put aside, and all others go on."""

import asyncio
from pathlib import Path

import pytest

from ostler.domain.scheduling import ATTEMPTS_MAX
from tests.faults.crew import Crew, crew

RATE = 8.0
"""How much faster the workers' clocks go, so that nobody waits for the rests between attempts."""


async def _keep_hiring(team: Crew) -> None:
    """Whenever a worker dies, another one takes its place."""
    while True:
        worker = await team.hire(rate=RATE)
        await worker.ended()


@pytest.mark.fault(25)
@pytest.mark.parametrize("story", ["die", "limp"], ids=["at once", "after some progress"])
async def test_a_session_that_workers_die_of_is_tried_a_few_times_and_parked_and_the_others_end(
    tmp_path: Path, story: str
) -> None:
    async with crew(f"sqlite:///{tmp_path}/ostler.db", tmp_path / "crew", lease_s=60.0, pause_s=0.02) as team:
        (poison,) = await team.start(story)
        others = await team.start("clerk", 15)
        hiring = asyncio.create_task(_keep_hiring(team))

        async def is_parked() -> bool:
            return (await team.statuses())[poison] == "paused"

        try:
            await team.until(is_parked)
            await team.over()
        finally:
            hiring.cancel()
            await asyncio.wait([hiring])
        statuses = await team.statuses()
        assert {statuses[stream] for stream in others} == {"completed"}
        attempts = [line.facts[3] for line in team.lines("claim") if line.facts[1] == poison.name]
        assert max(attempts) <= ATTEMPTS_MAX + 1
        deaths = [line for line in team.lines("begin") if line.facts[0] == "die"]
        assert len(deaths) <= 2 * ATTEMPTS_MAX
        assert [line.facts[2] for line in team.lines("trouble") if "parked" in line.facts[2]], "nobody was told"
        for worker in team.workers.values():
            await team.stop(worker)
        # A call of it is still open, for which it would be due if it had not been parked.
        parked = f"I10: {poison.name}: needs a worker, and is in no queue"
        assert await team.judge(are_over=False) in ([parked], [])
