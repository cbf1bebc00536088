"""Fitness targets around what agents do: a deployment breaks something real, and the runtime notices and undoes it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler import Agent, Limits, Principal, Rule, Runtime, tool
from ostler.app.fitness import register_of
from ostler.app.settings import Settings, resolve
from ostler.domain.fitness.events import FITNESS, FITNESS_CODEC, FitnessFollowed, FitnessLowered
from ostler.domain.model import ToolMessage
from ostler.domain.session.events import (
    CallExamined,
    CompensationRequested,
    ConstraintFailed,
    FitnessCompared,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.domain.tool import CODE
from ostler.kernel.errors import FitnessFailing, Halted, NotAllowed
from ostler.kernel.event import StreamId
from ostler.runtime.replay import replay
from ostler.testing import Scripted, calls

CHECK = """
import pathlib, sys
sys.exit(0 if pathlib.Path("site/index.html").read_text().startswith("<html>") else 1)
"""
TARGET = """
- name: site-up
  command: [{python}, check.py]
  target: "== 0"
  around: [deploy]
  on_fail: {on_fail}
  weight: 2
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site that is up, with what checks it."""
    (tmp_path / "ostler.toml").write_text("")
    (tmp_path / "check.py").write_text(CHECK)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<html>one</html>")
    return tmp_path


def settings(site: Path, *, on_fail: str = "record", more: str = "") -> Settings:
    (site / "fitness.yaml").write_text(TARGET.format(python=sys.executable, on_fail=on_fail) + more)
    return resolve({"HOME": str(site)}, site, store=f"sqlite:///{site}/ostler.db")


def page(site: Path) -> str:
    return (site / "site" / "index.html").read_text()


def deployer(site: Path, model: Scripted, **options: Any) -> Agent:
    """An agent that deploys pages, and rolls back to the page before."""
    file, kept = site / "site" / "index.html", site / "kept.html"

    @tool(effect="once", compensate="rollback")
    def deploy(text: str) -> str:
        """Put this page online.

        Args:
            text: The page.
        """
        kept.write_text(file.read_text())
        file.write_text(text)
        return "release-2"

    @tool(effect="idempotent")
    def rollback(text: str, output: str = "") -> str:
        """Put the page before it online again.

        Args:
            text: The page that is to go.
            output: What deploying it brought.
        """
        file.write_text(kept.read_text())
        return f"{output} is gone"

    return Agent("deployer", tools=[deploy, rollback], model=model, **options)


BREAKS = calls(("deploy", {"text": "oops"}))
WORKS = calls(("deploy", {"text": "<html>two</html>"}))


async def events_of(session: Any) -> list[SessionEvent]:
    return [one.event async for one in session.events(follow=False)]


def only(events: list[SessionEvent], *kinds: type) -> list[Any]:
    return [event for event in events if isinstance(event, kinds)]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_deployment_that_breaks_the_site_is_noticed_attributed_undone_and_restored(site: Path) -> None:
    agent = deployer(site, Scripted(BREAKS, "I broke it, and it is as before."))
    async with Runtime.open(settings(site)) as runtime:
        session = await runtime.start(agent, "Deploy it.")
        assert str(await session.result(timeout_s=20)) == "I broke it, and it is as before."
        events = await events_of(session)
        records = await runtime.parts.journal.records(session.stream)
        told = [message.text for message in (await session.state()).transcript if hasattr(message, "text")]
    assert page(site) == "<html>one</html>"
    (examined, *_), (lowered,) = only(events, CallExamined), only(events, FitnessLowered)
    assert [(one.target, one.value, one.passed) for one in examined.fitness] == [("site-up", 0.0, True)]
    assert (lowered.call, lowered.tool, lowered.session) == ("1.1", "deploy", session.id)
    assert (lowered.before.value, lowered.after.value) == (0.0, 1.0)
    (asked,) = only(events, CompensationRequested)
    assert (asked.of, asked.asked.id, asked.asked.name) == ("1.1", "1.1.undo", "rollback")
    requested = [(event.call, event.tool, event.arguments) for event in only(events, ToolRequested)]
    assert requested[1:] == [("1.1.undo", "rollback", {"text": "oops", "output": "release-2"})]
    assert [event.is_restored for event in only(events, FitnessCompared)] == [None, True]
    assert any("has lowered the fitness target 'site-up'" in text for text in told)
    assert any("release-2 is gone" in text for text in told)
    assert any("All is as good again as before: 'site-up' is 0." in text for text in told)
    assert replay(records).state.end is not None


async def test_what_undoes_is_given_what_came_of_the_call_as_it_wants_it(site: Path) -> None:
    file = site / "site" / "index.html"

    @tool(effect="once", compensate="rollback")
    def deploy(text: str) -> dict[str, str]:
        """Put this page online."""
        kept = file.read_text()
        file.write_text(text)
        return {"before": kept}

    @tool(effect="idempotent")
    def rollback(output: dict[str, str]) -> str:
        """Put the page before it online again."""
        file.write_text(output["before"])
        return "done"

    agent = Agent("deployer", tools=[deploy, rollback], model=Scripted(BREAKS, "as before"))
    async with Runtime.open(settings(site)) as runtime:
        session = await runtime.start(agent, "Deploy it.")
        await session.result(timeout_s=20)
        events = await events_of(session)
        replay(await runtime.parts.journal.records(session.stream))
    assert [event.is_restored for event in only(events, FitnessCompared)] == [None, True]
    assert page(site) == "<html>one</html>"


async def test_a_deployment_that_works_is_measured_and_nothing_follows(site: Path) -> None:
    agent = deployer(site, Scripted(WORKS, "done"))
    async with Runtime.open(settings(site)) as runtime:
        session = await runtime.start(agent, "Deploy it.")
        await session.result(timeout_s=20)
        events = await events_of(session)
    assert page(site) == "<html>two</html>"
    assert [one.value for event in only(events, FitnessCompared) for one in event.fitness] == [0.0]
    assert only(events, FitnessLowered, CompensationRequested) == []


async def test_what_a_policy_refuses_is_not_undone_and_the_session_and_the_target_say_so(site: Path) -> None:
    rules = [Rule("deny", "rollback", name="no-way-back")]
    agent = deployer(site, Scripted(BREAKS, "It is broken."), rules=rules)
    async with Runtime.open(settings(site, on_fail="halt", more="  agent: deployer\n")) as runtime:
        session = await runtime.start(agent, "Deploy it.")

        async def is_halted() -> bool:
            return runtime.parts.governor.is_halted("default", "deployer")

        await until(is_halted)
        events = await events_of(session)
        (refused,) = only(events, ConstraintFailed)
        assert (refused.call, refused.tool, refused.rule) == ("1.1.undo", "rollback", "no-way-back")
        assert [event.is_restored for event in only(events, FitnessCompared)] == [None, False]
        assert not runtime.parts.governor.is_halted("default")
        with pytest.raises(Halted, match=r"The agent deployer was halted by fitness: .*'site-up' fails"):
            await runtime.start(agent, "Another.")
        other = Agent("other", model=Scripted("fine", name="other"))
        assert (await (await runtime.start(other, "Go.")).result(timeout_s=20)).is_success
        standings = await register_of(runtime.parts, "default").refresh()
        course = standings.courses["site-up"]
        assert (course.followed, course.changed_by) == (("halted",), session.id)
        assert course.lowered is not None
        assert (course.lowered.session, course.lowered.call, course.lowered.tool) == (session.id, "1.1", "deploy")
        assert await runtime.release("we mend it by hand", agent="deployer")
        assert str(await session.result(timeout_s=20)) == "It is broken."
    assert page(site) == "oops"


async def test_two_deployments_of_one_turn_are_undone_one_by_one(site: Path) -> None:
    turn = calls(("deploy", {"text": "oops"}), ("deploy", {"text": "<html>three</html>"}))
    async with Runtime.open(settings(site)) as runtime:
        session = await runtime.start(deployer(site, Scripted(turn, "The second works.")), "Deploy twice.")
        assert (await session.result(timeout_s=20)).is_success
        events = await events_of(session)
        state = await session.state()
    order = [event.call for event in only(events, ToolRequested)]
    assert order == ["1.1", "1.1.undo", "1.2"]
    assert page(site) == "<html>three</html>"
    tools = [message.call for message in state.transcript if isinstance(message, ToolMessage)]
    assert tools == ["1.1", "1.2"]
    after = [type(message).__name__ for message in state.transcript][1:]
    assert after == ["AssistantMessage", "ToolMessage", "ToolMessage", *["UserMessage"] * 4, "AssistantMessage"]


async def test_what_undoes_is_never_undone_itself(site: Path) -> None:
    """A rollback that is measured around, and would be worse than nothing."""

    @tool(compensate="again")
    def deploy() -> str:
        """Break it."""
        (site / "site" / "index.html").write_text("oops")
        return "done"

    @tool(compensate="deploy")
    def again() -> str:
        """Break it even more."""
        (site / "site" / "index.html").unlink()
        return "done"

    agent = Agent("deployer", tools=[deploy, again], model=Scripted(calls(("deploy", {})), "broken"))
    with_all = TARGET.replace("[deploy]", "['*']")
    (site / "fitness.yaml").write_text(with_all.format(python=sys.executable, on_fail="warn"))
    known = resolve({"HOME": str(site)}, site, store=f"sqlite:///{site}/ostler.db")
    async with Runtime.open(known) as runtime:
        session = await runtime.start(agent, "Go.")
        assert (await session.result(timeout_s=20)).is_success
        events = await events_of(session)
        assert any("'site-up' fails: 1" in error.message for _, error in runtime.troubles)
    assert [event.asked.name for event in only(events, CompensationRequested)] == ["again"]
    assert [event.is_restored for event in only(events, FitnessCompared)] == [None, False]


async def test_a_person_who_denies_the_undoing_does_not_end_the_session(site: Path) -> None:
    rules = [Rule("require", "rollback", name="ask-first")]
    agent = deployer(site, Scripted(BREAKS, "It is broken."), rules=rules)
    spec = msgspec.structs.replace(agent.spec, on_refusal="end")
    agent.spec = spec
    async with Runtime.open(settings(site)) as runtime:
        session = await runtime.start(agent, "Deploy it.")
        await until(lambda: _asks(session))
        question = (await session.state()).question
        assert question is not None
        assert question.call == "1.1.undo"
        await session.deny(reason="leave it")
        assert str(await session.result(timeout_s=20)) == "It is broken."
        events = await events_of(session)
    assert [event.is_restored for event in only(events, FitnessCompared)] == [None, False]


async def _asks(session: Any) -> bool:
    return (await session.state()).question is not None


@pytest.mark.parametrize(
    ("on_fail", "tools"), [("record", ["deploy", "rollback"]), ("warn", ["deploy", "rollback"]), ("halt", [])]
)
async def test_where_nothing_can_be_measured_only_those_go_on_that_need_not_know(
    site: Path, on_fail: str, tools: list[str]
) -> None:
    known = settings(site, on_fail=on_fail)
    assert known.fitness is not None
    known.fitness.write_text(known.fitness.read_text().replace(sys.executable, "no-such-program"))
    async with Runtime.open(known) as runtime:
        session = await runtime.start(deployer(site, Scripted(WORKS, "done")), "Deploy it.")
        await session.result(timeout_s=20)
        events = await events_of(session)
    assert [event.tool for event in only(events, ToolRequested)] == tools[:1]
    refused = only(events, ConstraintFailed)
    if tools:
        assert refused == []
    else:
        assert [(event.rule, "no-such-program cannot be started" in event.reason) for event in refused] == [
            ("fitness site-up", True)
        ]


async def test_a_target_that_is_gone_from_the_file_refuses_the_calls_of_sessions_that_know_it(site: Path) -> None:
    known = settings(site)
    agent = deployer(site, Scripted(WORKS, "I may not."))
    async with Runtime.open(known, worker=False) as runtime:
        session = await runtime.start(agent, "Deploy it.")
    assert known.fitness is not None
    known.fitness.write_text("- {name: other, command: [x], target: '== 0'}")
    async with Runtime.open(known, agents=[agent]) as runtime:
        session = await runtime.session(session.id)
        assert str(await session.result(timeout_s=20)) == "I may not."
        (refused,) = only(await events_of(session), ConstraintFailed)
    assert "no target has this name any more" in refused.reason
    known.fitness.unlink()
    agent = deployer(site, Scripted(WORKS, "I may not.", name="again"))
    async with Runtime.open(settings(site), worker=False) as runtime:
        session = await runtime.start(agent, "Deploy it.")
    async with Runtime.open(msgspec.structs.replace(known, fitness=None), agents=[agent]) as runtime:
        session = await runtime.session(session.id)
        await session.result(timeout_s=20)
        (refused,) = only(await events_of(session), ConstraintFailed)
    assert "Nobody measures site-up here" in refused.reason


async def test_while_a_target_fails_that_asks_its_tools_need_the_approval_of_a_person(site: Path) -> None:
    (site / "site" / "index.html").write_text("oops")
    async with Runtime.open(settings(site, on_fail="ask")) as runtime:
        session = await runtime.start(deployer(site, Scripted(WORKS, WORKS, "done")), "Deploy it.")
        await until(lambda: _asks(session))
        question = (await session.state()).question
        assert question is not None
        assert (question.tool, question.rule) == ("deploy", "fitness site-up")
        assert "fails: 1, and should be == 0" in question.reason
        await session.approve()
        assert (await session.result(timeout_s=20)).is_success
        assert len(only(await events_of(session), ToolCompleted)) == 2


CALM = """
- name: calm
  measure: failure_rate
  target: "< 0.5"
  min_sessions: 2
  at: [session_end]
  on_fail: {on_fail}
"""


FAILING = Agent("clerk", model=Scripted(calls(("nothing", {})), name="a"), limits=Limits(steps=1))


async def standing(runtime: Runtime, name: str) -> Any:
    return (await register_of(runtime.parts, "default").refresh()).courses.get(name)


async def failed_twice(site: Path, on_fail: str) -> Settings:
    """The settings of a project in which two sessions have failed."""
    known = settings(site, more=CALM.format(on_fail=on_fail))
    async with Runtime.open(known) as runtime:
        for _ in range(2):
            assert not (await (await runtime.start(FAILING, "Fail.")).result(timeout_s=20)).is_success
    return known


async def test_at_the_end_of_sessions_it_is_measured_in_the_background(site: Path) -> None:
    async with Runtime.open(await failed_twice(site, "warn"), worker=False) as runtime:
        course = await standing(runtime, "calm")
        assert (course.last.found.value, course.last.because, course.followed) == (1.0, "session_end", ("warned",))


async def test_no_session_starts_with_another_model_while_a_target_forbids_it(site: Path) -> None:
    changed = Agent("clerk", model=Scripted("done", name="b"))
    async with Runtime.open(await failed_twice(site, "veto")) as runtime:
        with pytest.raises(FitnessFailing, match=r"clerk gets no other model while the fitness target 'calm' fails: 1"):
            await runtime.start(changed, "Go.")
        assert await runtime.parts.changes.all("default") == []
        with pytest.raises(NotAllowed, match="eve lacks the scope 'govern'"):
            await runtime.start(changed, "Go.", by=Principal("eve"), despite="I want it")
        ada = Principal("ada", scopes=("govern",))
        session = await runtime.start(changed, "Go.", by=ada, despite="it mends that")
        assert (await session.result(timeout_s=20)).is_success
        records = await runtime.parts.store.read(StreamId("default", FITNESS))
        events = [FITNESS_CODEC.decode(record.data) for record in records]
        followed = [event for event in events if isinstance(event, FitnessFollowed)]
        assert [(one.what, one.by, one.reason) for one in followed] == [
            ("warned", "", ""),
            ("vetoed", "local", ""),
            ("overridden", "ada", "it mends that"),
        ]


async def test_an_agent_that_is_halted_is_held_by_no_worker_and_others_are(site: Path) -> None:
    agents = [Agent(name, model=Scripted("done", name=name)) for name in ("one", "two")]
    async with Runtime.open(settings(site), worker=False) as office:
        sessions = [await office.start(agent, "Go.") for agent in agents]
        assert await office.halt("we look at it", agent="one")
        assert not await office.halt("again", agent="one")
        async with Runtime.open(settings(site), agents=agents) as runtime:
            assert (await (await runtime.session(sessions[1].id)).result(timeout_s=20)).is_success
            assert (await (await runtime.session(sessions[0].id)).state()).steps == 0
            assert await office.release(agent="one")
            assert not await office.release(agent="one")
            assert (await (await runtime.session(sessions[0].id)).result(timeout_s=20)).is_success


async def test_workers_that_share_a_store_measure_by_schedule_once(site: Path) -> None:
    (site / "check.py").write_text("open('looked', 'a').write('x')")
    known = settings(site, more="  every: 1m\n")
    async with Runtime.open(known, agents=[FAILING]) as one, Runtime.open(known, agents=[FAILING]) as other:

        async def is_measured() -> bool:
            return await standing(one, "site-up") is not None

        await until(is_measured)
        for runtime in (one, other):
            keeper = runtime.parts.keeper
            assert keeper is not None
            await keeper._measure_due(f"not {runtime}", "default")
    assert (site / "looked").read_text() == "x"


async def test_what_a_program_calls_is_undone_before_the_program_goes_on(site: Path) -> None:
    program = "deploy(text='oops')\nrollback(text='oops again')\n'both'"
    agent = deployer(site, Scripted(calls((CODE, {"code": program})), "done"))
    async with Runtime.open(settings(site)) as runtime:
        code = next(spec for spec in runtime.parts.tools.specs() if spec.name == CODE)
        agent.spec = msgspec.structs.replace(agent.spec, tools=(*agent.spec.tools, code))
        session = await runtime.start(agent, "Run it.")
        assert (await session.result(timeout_s=20)).is_success
        events = await events_of(session)
        replay(await runtime.parts.journal.records(session.stream))
    order = [event.call for event in only(events, ToolRequested)]
    assert order == ["1.1", "1.1.1", "1.1.1.undo", "1.1.2"]
    assert [event.ok for event in only(events, ToolCompleted)] == [True] * 4


async def test_a_session_that_is_cancelled_undoes_nothing_and_its_targets_are_measured_then(site: Path) -> None:
    slow = CHECK.replace("import pathlib, sys", "import pathlib, sys, time\ntime.sleep(pathlib.Path('slow').exists())")
    (site / "check.py").write_text(slow)

    @tool
    def deploy() -> str:
        """Break it, and make measuring slow."""
        (site / "site" / "index.html").write_text("oops")
        (site / "slow").touch()
        return "done"

    agent = Agent("deployer", tools=[deploy], model=Scripted(calls(("deploy", {})), "done"))
    async with Runtime.open(settings(site, on_fail="halt", more="  agent: deployer\n")) as runtime:
        session = await runtime.start(agent, "Go.")

        async def is_deployed() -> bool:
            return bool((await session.state()).measuring)

        await until(is_deployed)
        await session.cancel()
        assert (await session.result(timeout_s=20)).status == "cancelled"

        async def is_halted() -> bool:
            return runtime.parts.governor.is_halted("default", "deployer")

        await until(is_halted)
        course = await standing(runtime, "site-up")
        assert (course.last.because, course.last.session) == ("session_end", session.id)
