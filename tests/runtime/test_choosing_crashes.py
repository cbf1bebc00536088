"""A worker of a session with several models dies before and after every outside call; the next one finishes."""

import pytest

from ostler.adapters.store.memory import MemoryStore
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import ModelRef, ModelRequest, Reply
from ostler.domain.session import commands as command
from ostler.domain.session.events import SESSION_CODEC, AgentCompleted, CallRetried, ModelCompleted, ModelRequested
from ostler.domain.strategy.card import Card
from ostler.domain.strategy.choice import StrategySpec
from ostler.kernel.errors import ProviderOverloaded
from ostler.runtime.journal import Journal
from ostler.runtime.replay import replay
from ostler.testing import Scripted, calls
from tests.runtime import test_crash_anywhere as crashing
from tests.runtime.crash import LEASE_S, Clock, Fuse, World, clerk

CARDS = tuple(Card(f"scripted:{name}", ModelRef("scripted", "scripted", name)) for name in ("a", "b"))


def script() -> Scripted:
    """Its first model is too busy for the first and the last request."""

    def begin(request: ModelRequest) -> Reply:
        if request.model.name == "a":
            raise ProviderOverloaded("busy")
        return calls(("pay", {}))

    def end(request: ModelRequest) -> Reply:
        begin(request)
        return Reply("all done")

    return Scripted(begin, calls(("look", {})), end)


async def life_and_death(fuse: Fuse) -> tuple[World, list[object]]:
    """One session, with a first worker that dies if the fuse says so, and a second one that comes after it."""
    world, clock, store = World(), Clock(), MemoryStore()
    start = command.Start(
        clock.now_us(),
        crashing.STREAM.name,
        clerk(world),
        CARDS[0].model,
        "Go.",
        LOCAL_USER,
        strategy=StrategySpec("fallback"),
        candidates=CARDS,
    )
    await Journal(store).start(crashing.STREAM.tenant, start)
    await crashing.lead(store, world, clock, fuse)
    if fuse.blown.is_set():
        clock.us += int(LEASE_S * 2_000_000)
        await crashing.lead(store, world, clock, Fuse())
    records = await store.read(crashing.STREAM)
    replay(records)
    return world, [SESSION_CODEC.decode(record.data) for record in records]


async def test_a_crash_at_any_outside_call_loses_no_choice_and_does_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crashing, "script", script)
    undisturbed = Fuse()
    await life_and_death(undisturbed)
    assert len(undisturbed.moments) > 20
    for moment in range(1, len(undisturbed.moments) + 1):
        fuse = Fuse(moment)
        world, events = await life_and_death(fuse)
        where = f"crash {fuse.moments[-1]} (moment {moment})"
        assert events[-1] == AgentCompleted("all done"), where
        assert len([effect for effect in world.done if effect.startswith("pay")]) <= 1, where
        requested = [event for event in events if isinstance(event, ModelRequested)]
        assert len(requested) == len([event for event in events if isinstance(event, ModelCompleted)]) == 3, where
        assert all(event.choice is not None for event in requested), where
        failed = [event.choice for event in events if isinstance(event, CallRetried) and event.choice is not None]
        assert [choice.model for choice in failed] == ["scripted:b", "scripted:b"], where
