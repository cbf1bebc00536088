"""Real sessions of two scripted models are compared around a change, by model, by moment and by event."""

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from ostler import Agent, Runtime, tool
from ostler.app.drift import Drift, changes_of, drift, sessions_of
from ostler.app.trial import trial
from ostler.domain.model import ModelRef, ModelRequest, Reply
from ostler.domain.session.fork import Fact
from ostler.kernel.errors import ConfigurationError, Conflict, Erased, NotFound, UsageError
from ostler.kernel.event import StreamId, timestamp
from ostler.testing import Scripted, calls


@tool(effect="read")
def look() -> str:
    """Look."""
    return "seen"


@tool(effect="read")
def count() -> str:
    """Count."""
    return "three"


class Model:
    """Asks for each of its tools once, then answers; `fails` every so often. It says who served the reply."""

    def __init__(
        self, name: str, *tools: str, fails: int = 0, served: Callable[[int], str] = lambda number: ""
    ) -> None:
        self.ref = ModelRef("scripted", "scripted", name)
        self.sessions = 0
        self._tools, self._fails, self._served = tools, fails, served

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        step = int(request.key.rpartition("/")[2])
        self.sessions += step == 1
        if step <= len(self._tools):
            reply = calls((self._tools[step - 1], {}))
        elif self._fails and self.sessions % self._fails == 0:
            reply = Reply("I will not.", stop="refusal")
        else:
            reply = Reply("done")
        served, _, fingerprint = self._served(self.sessions).partition("/")
        return msgspec.structs.replace(reply, model=served or self.ref.name, fingerprint=fingerprint)

    async def close(self) -> None:
        """Nothing is held."""


def agent(model: Model | Scripted) -> Agent:
    return Agent("clerk", tools=[look, count], model=model)


async def runs(runtime: Runtime, model: Model, number: int) -> list[str]:
    """The ids of so many sessions that have ended."""
    names = []
    for _ in range(number):
        session = await runtime.start(agent(model), "Do it.")
        await session.result()
        names.append(session.id)
    return names


async def compared(runtime: Runtime, **options: str) -> Drift:
    return await drift(runtime.parts, await sessions_of(runtime.parts, "clerk"), **options)


def differing(found: Drift) -> set[str]:
    return {one.name for one in found.comparison.differing}


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime.open("memory:") as opened:
        yield opened


async def test_a_model_that_does_other_things_is_found_out_around_its_change(runtime: Runtime) -> None:
    await runs(runtime, Model("old", "look"), 25)
    first, *_ = await runs(runtime, Model("new", "look", "count", fails=1), 25)
    found = await compared(runtime)
    assert found.change is not None
    assert (found.change.kind, found.change.session) == ("recorded", first)
    assert found.change.what == "scripted:old to scripted:new"
    assert (found.before.drivers, found.after.drivers) == (("scripted:old",), ("scripted:new",))
    assert {"completed", "the model refused", "tools", "steps"} <= differing(found)
    steps = next(one for one in found.comparison.compared if one.name == "steps")
    assert (steps.before, steps.after, steps.effect) == (2, 3, 1)


async def test_a_model_that_does_the_same_is_not(runtime: Runtime) -> None:
    await runs(runtime, Model("old", "look", fails=5), 20)
    await runs(runtime, Model("new", "look", fails=5), 20)
    found = await compared(runtime)
    assert differing(found) - {"time per step"} == set()
    assert found.comparison.compared[0].detectable is not None


async def test_sides_are_named_by_model_by_moment_and_by_event(runtime: Runtime) -> None:
    old = await runs(runtime, Model("old", "look"), 6)
    new = await runs(runtime, Model("new", "count"), 7)
    sessions = await sessions_of(runtime.parts, "clerk")
    middle = timestamp(next(one.started_us for one in sessions.summaries if one.session == new[0]))
    for options in (
        {"after": "new"},
        {"before": "scripted:old"},
        {"before": "old", "after": "new"},
        {"after": new[0]},
        {"before": new[0], "after": f"{new[0]}/1"},
        {"before": middle},
        {"after": middle},
    ):
        found = await compared(runtime, **options)
        assert (found.before.sessions, found.after.sessions, found.change) == (6, 7, None), options
    with pytest.raises(UsageError, match="on both sides"):
        await compared(runtime, before="old", after=old[1])
    with pytest.raises(NotFound, match="driven by 'newer'"):
        await compared(runtime, after="newer")
    with pytest.raises(NotFound, match="has no event 99"):
        await compared(runtime, after=f"{old[0]}/99")
    with pytest.raises(UsageError, match="is no event"):
        await compared(runtime, after=f"{old[0]}/x")


async def test_too_few_sessions_are_not_compared_and_no_change_is_said_to_be_none(runtime: Runtime) -> None:
    await runs(runtime, Model("old"), 6)
    with pytest.raises(Conflict, match="has not changed"):
        await compared(runtime)
    await runs(runtime, Model("new"), 2)
    with pytest.raises(Conflict, match="Too few sessions of clerk have ended to compare: 2 since"):
        await compared(runtime)


async def test_forks_trials_other_versions_and_what_goes_on_do_not_count(runtime: Runtime) -> None:
    (first, *_) = await runs(runtime, Model("old", "look"), 3)
    session = await runtime.session(first)
    await (await session.fork(seq=3)).result()
    await trial(runtime, Scripted("x", "y", name="other"), "clerk", limit=2)
    await (await runtime.start(agent(Model("paused")), "Wait.")).pause()
    sessions = await sessions_of(runtime.parts, "clerk")
    assert {one.session for one in sessions.summaries if str(one.driver) == "scripted:old"} >= {first}
    assert len([one for one in sessions.summaries if str(one.driver) == "scripted:old"]) == 3
    assert (await sessions_of(runtime.parts, "clerk@2")).summaries == ()
    assert len((await sessions_of(runtime.parts, "clerk@1")).summaries) == len(sessions.summaries)
    now = runtime.parts.clock.now_us()
    assert (await sessions_of(runtime.parts, "clerk", since_us=now)).summaries == ()


async def test_another_version_behind_the_same_name_is_a_change_that_the_replies_show(runtime: Runtime) -> None:
    def served(number: int) -> str:
        return "m-1/fp_a" if number <= 5 else "m-1/fp_b" if number == 6 else "m-2/fp_b"

    names = await runs(runtime, Model("old", "look", served=served), 14)
    sessions = await sessions_of(runtime.parts, "clerk")
    assert [(one.kind, one.what, one.session) for one in await changes_of(runtime.parts, sessions)] == [
        ("fingerprint", "old: m-1 (fp_a) to m-1 (fp_b)", names[5]),
        ("served", "old: m-1 (fp_b) to m-2 (fp_b)", names[6]),
    ]
    around, named = await drift(runtime.parts, sessions), await drift(runtime.parts, sessions, after="m-2")
    for found in (around, named):
        assert (found.before.sessions, found.after.sessions) == (6, 8)
        assert (found.before.versions, found.after.versions) == (("m-1 (fp_a)", "m-1 (fp_b)"), ("m-2 (fp_b)",))
    assert around.change is not None
    assert around.change.kind == "served"


async def test_a_version_that_changes_within_a_session_is_seen(runtime: Runtime) -> None:
    replies = iter(["m-1", "m-2"])
    await runs(runtime, Model("old", "look", served=lambda number: next(replies)), 1)
    (change,) = await changes_of(runtime.parts, await sessions_of(runtime.parts, "clerk"))
    assert (change.kind, change.what) == ("served", "old: m-1 to m-2")


async def test_a_session_whose_log_cannot_be_read_is_counted_as_such(runtime: Runtime) -> None:
    (first, *_) = await runs(runtime, Model("old"), 2)
    erased = (await runtime.session(first)).stream
    journal = runtime.parts.journal
    facts = journal.facts

    async def read(stream: StreamId) -> list[Fact]:
        if stream == erased:
            raise Erased(f"The content of {first} was erased.")
        return await facts(stream)

    journal.facts = read  # type: ignore[method-assign]
    sessions = await sessions_of(runtime.parts, "clerk")
    assert (len(sessions.summaries), sessions.unreadable, sessions.is_cut) == (1, 1, False)


async def test_a_missing_library_is_named(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    await runs(runtime, Model("old"), 5)
    await runs(runtime, Model("new"), 5)
    monkeypatch.setattr("ostler.app.drift.STATISTICS", "library_that_is_not_there:Significance")
    with pytest.raises(ConfigurationError, match="library_that_is_not_there is not installed") as refused:
        await compared(runtime)
    assert "ostler[statistics]" in refused.value.hint
