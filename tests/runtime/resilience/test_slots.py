"""Places for calls: never waited for, never more than there are, and none is ever lost."""

import asyncio
import random

import pytest

from ostler.domain.resilience.pressure import Pressure
from ostler.kernel.errors import OstlerError, Shed
from ostler.runtime.resilience.slots import Slots


def slots(most: int = 10, warn_at: float = 0.8, kept: float = 0.2) -> tuple[Slots, list[OstlerError]]:
    warned: list[OstlerError] = []
    return Slots("calls", most, Pressure(kept=kept, warn_at=warn_at), warned.append), warned


def test_whoever_comes_when_all_places_are_taken_is_shed_and_told_how_many_there_are() -> None:
    made, _ = slots(kept=0)
    for _ in range(10):
        made.take(0)
    with pytest.raises(Shed) as shed:
        made.take(0)
    assert (shed.value.depth, shed.value.capacity, shed.value.retryable) == (10, 10, True)
    made.give_back()
    made.take(0)
    assert made.depth == 10


def test_a_share_is_kept_for_sessions_of_higher_priority() -> None:
    made, _ = slots()
    for _ in range(8):
        made.take(0)
    for priority in (0, -5):
        with pytest.raises(Shed, match="8 calls under way, of 8"):
            made.take(priority)
    made.take(1)
    made.take(1)
    with pytest.raises(Shed, match="of 10"):
        made.take(1000)


def test_however_few_there_are_there_is_one_for_everybody() -> None:
    made, _ = slots(1, kept=0.9)
    made.take(-1000)
    assert made.depth == 1


def test_half_of_two_places_is_no_reason_to_warn() -> None:
    made, warned = slots(2, kept=0)
    made.take(0)
    assert not warned
    made.take(0)
    assert len(warned) == 1


def test_a_warning_is_given_on_the_edge_and_again_only_after_half_has_gone() -> None:
    made, warned = slots(kept=0)
    for _ in range(3):
        while made.depth < 10:
            made.take(0)
        for _ in range(5):
            made.give_back()
    assert len(warned) == 1
    assert "Of calls, 8 are under way in this process, and 10 may be." in warned[0].message
    while made.depth > 4:
        made.give_back()
    while made.depth < 10:
        made.take(0)
    assert len(warned) == 2


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_place_is_lost_however_calls_are_cancelled(chain_of_one_place_each, seed: int) -> None:
    """Ten thousand calls are stopped at any point: before they begin, on their way, at their end."""
    chain, ask = chain_of_one_place_each
    chance = random.Random(seed)
    running: list[asyncio.Task[None]] = []
    for _ in range(3_400):
        running.append(asyncio.create_task(ask(chance.randrange(4))))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if len(running) > 20:
            running.pop(chance.randrange(len(running))).cancel()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert (chain.model_slots.depth, chain.tool_slots.depth) == (0, 0)
    assert chain.under_way == 0
