"""The past judged by other rules: what really happened in sessions is what the rules of then say again."""

from typing import Any

import msgspec
import pytest

from ostler import Agent, MemorySettings, Principal, Runtime, tool
from ostler.app.policy.backtest import backtest
from ostler.app.policy.explain import explain_event
from ostler.domain.constraint.compile import policy_of
from ostler.domain.constraint.policy import Policy
from ostler.domain.session.events import SESSION_CODEC, ConstraintFailed, ToolRequested
from ostler.kernel.errors import NotFound, UsageError
from ostler.testing import Scripted, calls

RULES = """
policy clerk version 1
default allow
DENY tool.rob BECAUSE "it is not ours"
DENY tool.pay IF args.amount > 100
REQUIRE approval FOR tool.pay IF args.amount > 50
DENY tool.pay IF COUNT(tool.pay) WITHIN 1h >= 2
DENY tool.send IF HAPPENED(tool.look) WITHIN 1h UNLESS args.to FROM user
LIMIT tool.look TO 2 PER 1h PER tenant
"""
EVERYTHING: list[tuple[str, dict[str, Any]]] = [
    ("pay", {"amount": 5}),
    ("rob", {}),
    ("pay", {"amount": 500}),
    ("pay", {"amount": 6}),
    ("pay", {"amount": 7}),
    ("look", {}),
    ("send", {"to": "ann"}),
    ("send", {"to": "bob"}),
    ("pay", {"amount": "much"}),
]


@tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


@tool
def rob() -> str:
    """Rob."""
    return "robbed"


@tool(effect="read")
def look() -> str:
    """Look."""
    return "seen"


@tool
def send(to: str) -> str:
    """Send."""
    return f"sent to {to}"


def clerk(policy: Policy) -> Agent:
    model = Scripted(*[calls(one) for one in EVERYTHING], "done", name="clerk")
    agent = Agent("clerk", "You work.", tools=[pay, rob, look, send], model=model)
    agent.spec = msgspec.structs.replace(agent.spec, policy=policy)
    return agent


async def worked(runtime: Runtime, sessions: int = 2) -> None:
    agent = clerk(policy_of(RULES, "clerk"))
    for _ in range(sessions):
        session = await runtime.start(agent, "Send it to ann.")
        assert (await session.result()).status == "completed"


async def test_the_rules_that_were_in_force_change_nothing():
    async with Runtime.open("memory:") as runtime:
        await worked(runtime)
        found = await backtest(runtime.parts.store, policy_of(RULES, "clerk"))
    assert found.changes == {}
    assert found.calls == found.same > 2 * len(EVERYTHING)


async def test_what_the_runtime_asks_for_by_itself_changes_nothing_where_people_would_have_to_approve_it():
    policy = policy_of("policy clerk version 1\ndefault allow\nREQUIRE approval FOR tool.memory.*")
    agent = Agent("clerk", "You work.", model=Scripted("done", name="clerk")).with_settings(MemorySettings())
    agent.spec = msgspec.structs.replace(agent.spec, policy=policy)
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        await (await runtime.start(agent, "go")).result()
        found = await backtest(runtime.parts.store, policy)
        assert (found.calls, found.changes) == (3, {})
        denying = policy_of("policy clerk version 2\ndefault allow\nDENY tool.memory.recall")
        assert (await backtest(runtime.parts.store, denying)).changes == {"require to deny": 1, "require to allow": 1}


async def test_other_rules_are_shown_with_the_calls_that_they_would_have_judged_otherwise():
    async with Runtime.open("memory:") as runtime:
        await worked(runtime, 1)
        other = RULES.replace("DENY tool.rob", "REQUIRE approval FOR tool.rob").replace(">= 2", ">= 1")
        found = await backtest(runtime.parts.store, policy_of(other, "clerk"))
    assert found.changes == {"deny to require": 1, "allow to deny": 1}
    robbed, paid = found.changed
    assert (robbed.tool, robbed.rule, robbed.new_rule) == ("rob", "clerk#1", "clerk#1")
    assert (paid.tool, paid.then, paid.now, paid.new_rule) == ("pay", "allow", "deny", "clerk#4")


async def test_questions_across_sessions_are_answered_from_the_whole_log():
    async with Runtime.open("memory:") as runtime:
        await worked(runtime, 2)
        new = policy_of("default allow\nDENY tool.look IF COUNT(tool.look) WITHIN 1h PER tenant >= 1", "other")
        found = await backtest(runtime.parts.store, new, since_us=0)
    looked = [one for one in found.changed if one.tool == "look"]
    assert [(one.then, one.now) for one in looked] == [("allow", "deny")]


async def test_what_is_judged_can_be_narrowed_down():
    async with Runtime.open("memory:") as runtime:
        await worked(runtime, 1)
        store, policy, now_us = runtime.parts.store, policy_of(RULES, "clerk"), runtime.parts.clock.now_us()
        assert (await backtest(store, policy, agent="clerk@1")).calls > 0
        assert (await backtest(store, policy, agent="other")).calls == 0
        assert (await backtest(store, policy, tenant="other")).calls == 0
        assert (await backtest(store, policy, since_us=now_us + 1)).calls == 0


async def test_a_fork_is_counted_from_where_it_begins():
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(clerk(policy_of(RULES, "clerk")), "Send it to ann.")
        await session.result()
        before = (await backtest(runtime.parts.store, policy_of(RULES, "clerk"))).calls
        fork = await session.fork(seq=3)
        await fork.cancel()
        found = await backtest(runtime.parts.store, policy_of(RULES, "clerk"))
    assert found.changes == {}
    assert found.calls <= before + 1


async def test_an_event_is_explained_by_the_rules_of_then_and_by_others():
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(clerk(policy_of(RULES, "clerk")), "Send it to ann.", by=Principal("local"))
        await session.result()
        store = runtime.parts.store
        events = [(record.seq, SESSION_CODEC.decode(record.data)) for record in await store.read(session.stream)]
        for seq, event in events:
            if isinstance(event, ToolRequested):
                (found,) = await explain_event(store, session.stream, seq)
                assert (found.verdict.effect, found.verdict.rule) == ("allow", event.rule)
            if isinstance(event, ConstraintFailed) and event.kind == "blocked":
                (found,) = await explain_event(store, session.stream, seq)
                assert (found.verdict.effect, found.verdict.rule) == ("deny", event.rule)
                (other,) = await explain_event(store, session.stream, seq, policy_of("default allow", "open"))
                assert other.verdict.effect == "allow"
        with pytest.raises(UsageError, match="tells of no judgement"):
            await explain_event(store, session.stream, 1)
        with pytest.raises(NotFound, match="has no event 1000"):
            await explain_event(store, session.stream, 1000)
