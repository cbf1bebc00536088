"""Fitness targets around what agents do: a deployment breaks something real, and the runtime notices and undoes it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ostler import Agent, Principal, Rule, Runtime, tool
from ostler.app.fitness import register_of
from ostler.app.settings import Settings, resolve
from ostler.domain.fitness.events import FITNESS, FitnessFollowed, FitnessMeasured
from ostler.domain.session.events import (
    CallExamined,
    CompensationRequested,
    ConstraintFailed,
    FitnessCompared,
    FitnessLowered,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.errors import FitnessFailing, Halted, NotAllowed
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
        while not await condition():
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
