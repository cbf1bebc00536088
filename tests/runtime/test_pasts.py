"""Rules about the past: of the session itself, and of all sessions of an agent, a principal or a tenant."""

import asyncio
from typing import Any

import pytest

from ostler import Agent, Limits, Policy, Principal, Runtime, tool
from ostler.domain.session.events import ConstraintFailed, SessionEvent, ToolRequested
from ostler.testing import Scripted, calls

ANNA = Principal("anna", scopes=("*",))
BERT = Principal("bert", scopes=("*",))


class Post:
    def __init__(self, rules: str, *asked: tuple[str, dict], name: str = "clerk") -> None:
        self.sent: list[str] = []

        @tool(name="send")
        async def send(to: str = "x", pieces: int = 1) -> str:
            """Send."""
            self.sent.append(to)
            return "sent"

        @tool(name="read_secret", effect="read")
        async def read_secret() -> str:
            """Read."""
            return "secret"

        script = [calls(one) for one in asked]
        self.agent = Agent(
            name,
            tools=[send, read_secret],
            rules=Policy("post", text=f"policy post version 1 default allow {rules}"),
            model=Scripted(*script, "done"),
            limits=Limits(steps=100),
        )


async def outcome(runtime: Runtime, post: Post, by: Principal = ANNA) -> list[str]:
    """Of each call of a new session, the rule that refused it, or nothing."""
    session = await runtime.start(post.agent, "go", by=by)
    await session.result(timeout_s=20)
    return verdicts([event for _, event in await session.facts()])


def verdicts(events: list[SessionEvent]) -> list[str]:
    return [event.rule if isinstance(event, ConstraintFailed) else "" for event in events if isinstance(event, ASKED)]


ASKED = (ToolRequested, ConstraintFailed)
Asked = tuple[str, dict[str, Any]]
SEND: Asked = ("send", {})
SECRET: Asked = ("read_secret", {})


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
async def test_what_a_session_did_before_forbids_what_it_does_now(store: str, tmp_path) -> None:
    post = Post("DENY tool.send IF HAPPENED(tool.read_secret) WITHIN 10m", SEND, SECRET, SEND)
    async with Runtime.open(store if store == "memory:" else tmp_path / "s.db", agents=[post.agent]) as runtime:
        assert await outcome(runtime, post) == ["", "", "post#1"]


@pytest.mark.parametrize(
    ("per", "expected"), [("principal", ["post#1"]), ("agent", ["post#1"]), ("tenant", ["post#1"])]
)
async def test_what_other_sessions_did_counts_as_well(per: str, expected: list[str]) -> None:
    rules = f"DENY tool.send IF COUNT(tool.send) WITHIN 1h PER {per} >= 2"
    post = Post(rules, SEND)
    async with Runtime.open("memory:", agents=[post.agent]) as runtime:
        assert [await outcome(runtime, post) for _ in range(3)] == [[""], [""], expected]


async def test_what_others_did_does_not_count_for_a_principal() -> None:
    post = Post("DENY tool.send IF COUNT(tool.send) WITHIN 1h PER principal >= 1", SEND)
    async with Runtime.open("memory:", agents=[post.agent]) as runtime:
        assert await outcome(runtime, post, ANNA) == [""]
        assert await outcome(runtime, post, BERT) == [""]
        assert await outcome(runtime, post, ANNA) == ["post#1"]


async def test_what_happened_before_a_runtime_was_opened_and_before_the_rule_was_there_counts(tmp_path) -> None:
    free = Post("", ("send", {"pieces": 30}), name="free")
    async with Runtime.open(tmp_path / "s.db", agents=[free.agent]) as runtime:
        await outcome(runtime, free)
    bound = Post(
        "DENY tool.send IF SUM(tool.send.args.pieces) WITHIN 1h PER tenant + args.pieces > 40",
        ("send", {"pieces": 20}),
        ("send", {"pieces": 10}),
    )
    async with Runtime.open(tmp_path / "s.db", agents=[bound.agent]) as runtime:
        assert await outcome(runtime, bound) == ["post#1", ""]


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
async def test_a_limit_of_a_tenant_holds_for_sessions_that_run_at_the_same_time(store: str, tmp_path) -> None:
    post = Post("LIMIT tool.send TO 3 PER 1h PER tenant", SEND)
    where = store if store == "memory:" else tmp_path / "s.db"
    async with Runtime.open(where, agents=[post.agent]) as runtime:
        await asyncio.gather(*[outcome(runtime, post) for _ in range(12)])
    assert len(post.sent) == 3


async def test_after_its_policies_were_moved_a_session_still_knows_what_it_did() -> None:
    post = Post("", SECRET, SEND)
    strict = Policy("strict", text="policy strict default allow DENY tool.send IF HAPPENED(tool.read_secret) WITHIN 1h")
    async with Runtime.open("memory:", agents=[post.agent]) as runtime:
        session = await runtime.start(post.agent, "go", by=ANNA)
        await session.pause(by=ANNA)
        await runtime.let_go(session.stream)
        await session.move_policy(strict, by=ANNA)
        await session.resume(by=ANNA)
        await session.result(timeout_s=20)
        events = [event for _, event in await session.facts()]
    assert verdicts(events)[-1] == "strict#1"
