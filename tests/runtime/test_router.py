"""What is found out about candidates: the user's own function, breakers, and what earlier calls teach."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ostler import Agent, ModelWanted, Runtime, Strategy, chooser
from ostler.adapters.tools.thread import in_thread
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session.events import CallExamined, ModelRequested
from ostler.domain.strategy.choice import Needs
from ostler.kernel.errors import DefinitionInvalid, ProviderRejected
from ostler.runtime.router import Chooser, Choosers
from ostler.testing import Scripted
from tests.runtime.watching import only

WANTED = ModelWanted(
    tenant="acme",
    session="ses_1",
    agent="clerk",
    goal="Do it.",
    step=1,
    candidates=(),
    unavailable=(),
    needs=Needs(),
    cost_microusd=0,
)


async def never(wanted: ModelWanted) -> str:
    await asyncio.Event().wait()
    return "never"


async def awaited(wanted: ModelWanted) -> str:
    return f"{wanted.agent}:x"


def broken(wanted: ModelWanted) -> str:
    raise ValueError("a secret")


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (lambda wanted: "a:b", ("a:b", "")),
        (awaited, ("clerk:x", "")),
        (broken, (None, "failed (ValueError)")),
        (never, (None, "has not answered within 0.05 s")),
        (lambda wanted: None, (None, "returned NoneType, not a name")),
    ],
)
async def test_a_function_answers_or_it_is_said_why_it_does_not(function: Any, answer: tuple[str | None, str]) -> None:
    choosers = Choosers(in_thread=in_thread)
    choosers.add(Chooser(function, "pick", 0.05))
    assert await choosers.ask("pick", WANTED) == answer


async def test_a_function_that_is_not_there_or_whose_name_is_taken_is_told() -> None:
    choosers = Choosers(in_thread=in_thread)
    assert await choosers.ask("pick", WANTED) == (None, "is not known to this process")
    one = chooser(name="pick")(broken)
    choosers.add(one)
    choosers.add(one)
    with pytest.raises(DefinitionInvalid, match="more than one chooser"):
        choosers.add(chooser(name="pick")(awaited))
    with pytest.raises(DefinitionInvalid, match="must be letters"):
        chooser(name="no name")(broken)


class Fixed:
    """Chance that is always the same."""

    def chance(self, size: int) -> bytes:
        return bytes(range(size))


async def test_an_adaptive_session_learns_from_those_before_it(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/ostler.db"
    failing = Strategy("fallback", Scripted(ProviderRejected("no"), name="bad"), Scripted("yes", name="good"))
    async with Runtime.open(store) as runtime:
        for number in range(20):
            session = await runtime.start(Agent("asker", "Answer.", model=failing), f"Question {number}?")
            assert (await session.result(timeout_s=10)).text == "yes"
        await runtime.parts.projector().catch_up()

    learning = Strategy("adaptive", Scripted("from bad", name="bad"), Scripted("from good", name="good"))
    async with Runtime.open(store, worker=False) as runtime:
        runtime.parts.entropy = Fixed()
        await runtime.work(WorkerSettings(queues=("asker",)))
        session = await runtime.start(Agent("asker", "Answer.", model=learning), "And now?")
        assert (await session.result(timeout_s=10)).text == "from good"
        found, requested = await only(session, CallExamined), await only(session, ModelRequested)
    assert found.routing is not None
    assert found.routing.chance == "0001020304050607"
    assert found.routing.scores["scripted:good"] > found.routing.scores["scripted:bad"]
    assert requested.choice is not None
    assert requested.choice.because.startswith("the best draw by earlier calls: ")
