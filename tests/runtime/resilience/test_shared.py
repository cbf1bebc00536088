"""Equal calls are made once, whatever becomes of whoever makes them."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.runtime.resilience import shared
from ostler.runtime.resilience.shared import Done, FailedElsewhere, Sharing


class World:
    """What is called: it counts, and answers when it is told to."""

    def __init__(self) -> None:
        self.sharing: Sharing[str] = Sharing(lambda made: made != "not kept")
        self.calls: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.answer: str | Exception = "seen"

    def ask(self, name: str, key: str = "k", keep_s: float = 0.0) -> "asyncio.Task[Done[str]]":
        async def call() -> str:
            self.calls[key] += 1
            await self.gate.wait()
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return asyncio.create_task(self.sharing.run(key, name, keep_s, call))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_those_who_come_while_an_equal_call_is_under_way_get_its_outcome_and_know_whose_it_is() -> None:
    world = World()
    asked = [world.ask(f"ses_{number}/1") for number in range(5)]
    await turns()
    world.gate.set()
    done = await asyncio.gather(*asked)
    assert world.calls == {"k": 1}
    assert done == [Done("seen"), *[Done("seen", "ses_0/1")] * 4]
    assert (await world.ask("ses_9/1"), world.calls["k"]) == (Done("seen"), 2)


async def test_other_calls_are_made_on_their_own() -> None:
    world = World()
    world.gate.set()
    assert list(await asyncio.gather(world.ask("a", "1"), world.ask("b", "2"))) == [Done("seen"), Done("seen")]


async def test_an_outcome_is_kept_as_long_as_it_is_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.gate.set()
    now = asyncio.get_running_loop().time()
    assert await world.ask("a", keep_s=10) == Done("seen")
    world.answer = "seen later"
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: now + 9)
    assert await world.ask("b", keep_s=10) == Done("seen", "a")
    monkeypatch.setattr(loop, "time", lambda: now + 11)
    assert await world.ask("c", keep_s=10) == Done("seen later")


async def test_nobody_gets_what_is_older_than_they_say_however_long_others_keep_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.gate.set()
    loop = asyncio.get_running_loop()
    now = loop.time()
    await world.ask("a", keep_s=3600)
    monkeypatch.setattr(loop, "time", lambda: now + 30)
    world.answer = "seen later"
    assert await world.ask("b", keep_s=0) == Done("seen later")
    assert await world.ask("c", keep_s=60) == Done("seen", "a")
    assert await world.ask("d", keep_s=20) == Done("seen later")
    assert await world.ask("e", keep_s=20) == Done("seen later", "d")


async def test_if_whoever_makes_the_call_is_cancelled_exactly_one_of_the_others_makes_it() -> None:
    world = World()
    owner, *others = [world.ask(f"ses_{number}") for number in range(4)]
    await turns()
    owner.cancel()
    await turns()
    assert world.calls == {"k": 2}
    world.gate.set()
    assert await asyncio.gather(*others) == [Done("seen"), Done("seen", "ses_1"), Done("seen", "ses_1")]
    assert world.sharing.under_way == 0


async def test_whoever_only_waits_may_be_cancelled_without_harm() -> None:
    world = World()
    owner, waiting = world.ask("a"), world.ask("b")
    await turns()
    waiting.cancel()
    await turns()
    world.gate.set()
    assert await owner == Done("seen")


async def test_a_failure_is_that_of_all_who_wait_and_is_not_kept() -> None:
    world = World()
    world.answer = OSError("down")
    owner, waiting = world.ask("a", keep_s=60), world.ask("b", keep_s=60)
    await turns()
    world.gate.set()
    with pytest.raises(OSError, match="down"):
        await owner
    with pytest.raises(FailedElsewhere) as elsewhere:
        await waiting
    assert (elsewhere.value.error, elsewhere.value.shared_with) == (world.answer, "a")
    world.answer = "up"
    assert await world.ask("c", keep_s=60) == Done("up")


async def test_what_may_not_be_kept_is_not() -> None:
    world = World()
    world.gate.set()
    world.answer = "not kept"
    assert [await world.ask(name, keep_s=60) for name in "ab"] == [Done("not kept")] * 2


async def test_only_so_many_outcomes_are_kept_and_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "KEPT_MAX", 3)
    world = World()
    world.gate.set()
    for key in "12345":
        await world.ask("a", key, 60)
    assert [(await world.ask("b", key, 60)).shared_with for key in "345"] == ["a", "a", "a"]
    assert (await world.ask("b", "1", 60)).shared_with == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.booleans()), min_size=2, max_size=12))
async def test_whoever_is_cancelled_everybody_else_is_served_and_nobody_waits_for_ever(
    asked: list[tuple[int, int, bool]],
) -> None:
    world = World()
    tasks = []
    for number, (key, after, is_cancelled) in enumerate(asked):
        tasks.append((world.ask(str(number), str(key)), is_cancelled))
        await turns(after)
    for task, is_cancelled in tasks:
        if is_cancelled:
            task.cancel()
            await turns(1)
    world.gate.set()
    async with asyncio.timeout(5):
        done = await asyncio.gather(*[task for task, _ in tasks], return_exceptions=True)
    assert all(isinstance(one, Done) for one, (_, is_cancelled) in zip(done, tasks, strict=True) if not is_cancelled)
    assert world.sharing.under_way == 0
