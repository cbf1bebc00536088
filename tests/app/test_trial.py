"""Decisions of the past are put to another model through the gate, and nothing that it wants is done."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from ostler import Agent, Limits, ModelRef, Rule, Runtime, Strategy, tool
from ostler.app.accounts import standings
from ostler.app.policy.files import policy_from
from ostler.app.providers import ProviderTable
from ostler.app.settings import ProjectFile, Settings, resolve
from ostler.app.strategies import StrategyTable
from ostler.app.trial import AT_ONCE, Made, Said, Trial, compared, trial
from ostler.domain.model import AskedCall, ModelRequest, ModelSettings, Price, Reply, Usage
from ostler.domain.registers import TRIALS
from ostler.domain.session.events import AgentCompleted, ModelCompleted, ToolRequested
from ostler.kernel.errors import Conflict, DefinitionInvalid, Halted, NotFound, ProviderRejected, UsageError
from ostler.runtime.replay import replay
from ostler.testing import Scripted, calls
from ostler.testing.wire import WireServer
from ostler.views.usage import USAGE, place

DONE: list[str] = []


@tool(effect="read")
def look(place: str) -> str:
    """Look."""
    return "seen"


@tool
def pay(amount: int) -> str:
    """Pay."""
    DONE.append(f"paid {amount}")
    return "paid"


@pytest.fixture(params=["memory:", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory:" else f"sqlite:///{tmp_path}/ostler.db"


OLD = (calls(("look", {"place": "shelf"}), usage=Usage(10, 5)), calls(("pay", {"amount": 5})), "bought")
MODEL = Scripted(*OLD, name="old")


def buyer(*rules: Rule, limits: Limits | None = None) -> Agent:
    return Agent("buyer", tools=[look, pay], model=MODEL, rules=rules, limits=limits or Limits())


async def recorded(runtime: Runtime, count: int = 1, agent: Agent | None = None) -> None:
    for _ in range(count):
        assert (await (await runtime.start(agent or buyer(), "Buy it.")).result()).text == "bought"
    DONE.clear()


def said(found: Trial) -> dict[int, Said]:
    return {one.seq: one.said for one in found.decisions}


async def test_a_model_that_decides_alike_agrees_in_everything_and_nothing_is_done_again(store: str) -> None:
    async with Runtime.open(store) as runtime:
        await recorded(runtime)
        found = await trial(runtime, Scripted(*OLD, name="new"), "buyer")
        assert found.counts == {"same": 3}
        assert (found.sessions, found.agreement.value, found.exact.value) == (1, 1.0, 1.0)
        assert DONE == []


async def test_every_way_to_decide_otherwise_is_told_apart(store: str) -> None:
    other = Scripted(
        calls(("look", {"place": "cellar"})),
        calls(("look", {"place": "shelf"})),
        calls(("pay", {"amount": 1})),
        name="new",
    )
    async with Runtime.open(store) as runtime:
        await recorded(runtime)
        found = await trial(runtime, other, "buyer")
        assert said(found) == {2: "arguments", 6: "tools", 10: "call"}
        assert found.agreement.value == pytest.approx(1 / 3)
        assert found.exact.value == 0
        (changed,) = (one for one in found.decisions if one.seq == 6)
        assert (changed.then.calls[0].name, changed.now and changed.now.calls[0].name) == ("pay", "look")
        assert DONE == []


THEN = Made((AskedCall("1.1", "pay", '{"amount": 5}'),), "", 0, 0)
ANSWER = Made((), "done", 0, 0)


@pytest.mark.parametrize(
    ("then", "reply", "word"),
    [
        (THEN, ModelCompleted("1", calls=(AskedCall("1.1", "pay", '{"amount":5}'),)), "same"),
        (THEN, ModelCompleted("1", calls=(AskedCall("1.1", "pay", '{"amount":6}'),)), "arguments"),
        (THEN, ModelCompleted("1", calls=(AskedCall("1.1", "pay", "{broken"),)), "arguments"),
        (THEN, ModelCompleted("1", calls=(AskedCall("1.1", "look", '{"amount":5}'),)), "tools"),
        (THEN, ModelCompleted("1", calls=THEN.calls * 2), "tools"),
        (THEN, ModelCompleted("1", "I would rather not."), "answer"),
        (THEN, ModelCompleted("1", "No.", stop="refusal"), "refusal"),
        (THEN, ModelCompleted("1", "", defect="is empty"), "unusable"),
        (ANSWER, ModelCompleted("1", "something else"), "same"),
        (ANSWER, ModelCompleted("1", calls=THEN.calls), "call"),
    ],
)
def test_a_reply_is_compared_by_what_it_would_have_led_to(then: Made, reply: ModelCompleted, word: Said) -> None:
    assert compared(then, reply) == word


async def test_a_trial_is_in_the_log_passes_the_gate_and_replays(store: str) -> None:
    async with Runtime.open(store) as runtime:
        await recorded(runtime)
        other = Scripted("x", calls(("pay", {"amount": 7})), "y", name="new")
        found = await trial(runtime, other, "buyer", limit=3)
        assert len(found.decisions) == 3
        for one in found.decisions:
            session = await runtime.session(one.trial)
            records = [record async for record in session.records(follow=False)]
            replayed = replay(records)
            assert (replayed.state.is_trial, replayed.state.model.name) == (True, "new")
            assert replayed.state.origin == one.session
            assert replayed.state.end is not None
            assert replayed.state.end.reason == "trial"
            own = [event async for event in session.events(follow=False)][one.seq :]
            assert not any(isinstance(happening.event, ToolRequested) for happening in own)
            assert isinstance(own[-1].event, AgentCompleted)
        assert DONE == []


async def test_nothing_is_tried_while_everything_is_halted(store: str) -> None:
    async with Runtime.open(store) as runtime:
        await recorded(runtime)
        other = Scripted(*OLD, name="new")
        await runtime.halt("enough")
        with pytest.raises(Halted):
            await trial(runtime, other, "buyer")
        assert other.requests == []
        await runtime.release()
        assert (await trial(runtime, other, "buyer")).counts == {"same": 3}


async def test_what_rules_say_of_models_holds_for_the_other_one(store: str) -> None:
    denied, asked = Scripted(*OLD, name="denied"), Scripted(*OLD, name="asked")
    text = 'DENY model.denied BECAUSE "not trusted"\nREQUIRE approval FOR model.asked BECAUSE "it is dear"'
    rules = policy_from(f"default allow\n{text}", "house")
    async with Runtime.open(store) as runtime:
        agent = Agent("buyer", tools=[look, pay], model=MODEL, rules=rules)
        await recorded(runtime, agent=agent)
        found = await trial(runtime, denied, "buyer")
        assert (found.counts, denied.requests) == ({"failed": 3}, [])
        assert all("not trusted" in one.problem for one in found.decisions)
        found = await trial(runtime, asked, "buyer", limit=1)
        assert (found.counts, asked.requests) == ({"failed": 1}, [])
        assert "a person would have to approve it: it is dear" in found.decisions[0].problem
        assert (await (await runtime.session(found.decisions[0].trial)).view()).status == "cancelled"


async def test_decisions_are_of_as_many_sessions_as_there_are(store: str) -> None:
    async with Runtime.open(store) as runtime:
        await recorded(runtime, 4)
        few = await trial(runtime, Scripted(*OLD, name="new"), "buyer", limit=4)
        more = await trial(runtime, Scripted(*OLD, name="new2"), "buyer", limit=6)
        assert (few.sessions, len(few.decisions)) == (4, 4)
        assert (more.sessions, len(more.decisions)) == (4, 6)
        assert {one.seq for one in few.decisions} <= {2, 6, 10}
        again = await trial(runtime, Scripted(*OLD, name="new3"), "buyer", limit=4)
        assert [(one.session, one.seq) for one in again.decisions] == [(one.session, one.seq) for one in few.decisions]


async def test_agreement_counts_every_session_once(store: str) -> None:
    """Three decisions of each of two sessions say as much as two observations, not as six."""
    async with Runtime.open(store) as runtime:
        await recorded(runtime, 2)
        found = await trial(runtime, Scripted(*OLD, name="new"), "buyer", limit=6)
        assert (found.agreement.value, len(found.decisions)) == (1.0, 6)
        assert found.agreement.low == pytest.approx(0.342, abs=0.001)


async def test_costs_and_failures_of_a_trial_are_told(store: str) -> None:
    async with Runtime.open(store) as runtime:
        await recorded(runtime)
        other = Scripted(*OLD[:1], ProviderRejected("no such model", status=404), "bought", name="new")
        found = await trial(runtime, other, "buyer")
        assert said(found) == {2: "same", 6: "failed", 10: "same"}
        (failed,) = (one for one in found.decisions if one.said == "failed")
        assert (failed.now, "no such model" in failed.problem) == (None, True)
        assert found.agreement.value == 1.0
        assert found.span_now_us is not None


async def test_trials_are_counted_apart_from_the_work_of_the_agent(store: str) -> None:
    async with Runtime.open(store) as runtime:
        await recorded(runtime)
        await trial(runtime, Scripted(*OLD, name="new"), "buyer", limit=2)
        parts = runtime.parts
        await parts.projector().catch_up()
        sums = {
            place(key)[1:]
            for key, _ in await parts.views.page(USAGE.id, "default", after="", limit=50)
            if key[0] == "["
        }
        assert sums == {("buyer@1", "scripted:old"), ("buyer@1 (trial)", "scripted:new")}
        assert [view.model for view in await runtime.sessions(agent="buyer")] == ["scripted:old"]


async def test_a_model_of_another_sort_and_an_agent_without_a_past_have_no_trial(store: str) -> None:
    async with Runtime.open(store) as runtime:
        await recorded(runtime)
        with pytest.raises(NotFound, match="no decision of nobody"):
            await trial(runtime, Scripted("x", name="new"), "nobody")
        with pytest.raises(NotFound, match="no decision of buyer") as refused:
            await trial(runtime, Scripted("x", name="text", tools="text"), "buyer")
        assert "another sort" in refused.value.hint
        with pytest.raises(NotFound):
            await trial(runtime, Scripted("x", name="late"), "buyer", since_us=runtime.parts.clock.now_us() + 1)
        with pytest.raises(NotFound):
            await trial(runtime, Scripted("x", name="other"), "buyer@2")


async def test_a_limit_of_cost_that_cannot_be_kept_is_refused_before_anything_is_asked(store: str) -> None:
    async with Runtime.open(store) as runtime:
        await recorded(runtime, agent=buyer(limits=Limits(cost_microusd=1_000_000)))
        live = ModelRef("live", "openai", "gpt", base_url="http://127.0.0.1:1/v1")
        with pytest.raises(DefinitionInvalid, match="price of openai:gpt"):
            await trial(runtime, live, "buyer")


async def test_a_trial_of_a_session_under_way_takes_what_it_has_decided(store: str) -> None:
    rule = Rule("require", "pay", because="money")
    async with Runtime.open(store) as runtime:
        session = await runtime.start(buyer(rule), "Buy it.")
        with pytest.raises(TimeoutError):
            await session.result(timeout_s=0.3)
        found = await trial(runtime, Scripted(*OLD, name="new"), "buyer")
        assert said(found) == {2: "same", 6: "same"}
        with pytest.raises(Conflict):
            await (await runtime.session(found.decisions[0].trial)).approve()


async def test_a_session_whose_strategy_chooses_is_tried_on_the_one_model_that_is_named(store: str) -> None:
    first, second = Scripted(*OLD, name="first"), Scripted(*OLD, name="second")
    async with Runtime.open(store) as runtime:
        agent = Agent("buyer", tools=[look, pay], model=Strategy("fallback", first, second))
        await recorded(runtime, agent=agent)
        new = Scripted(*OLD, name="new")
        found = await trial(runtime, new, "buyer")
        assert found.counts == {"same": 3}
        assert len(new.requests) == 3
        assert second.requests == []
        session = await runtime.session(found.decisions[0].trial)
        replayed = replay([record async for record in session.records(follow=False)])
        assert replayed.state.model.name == "new"


async def test_a_strategy_cannot_be_tried_as_if_it_were_a_model(tmp_path: Path) -> None:
    house = StrategyTable(models=("strategy:coder", "strategy:coder-tempted"))
    settings = Settings("memory:", tmp_path, strategies={"house": house})
    async with Runtime.open(settings) as runtime:
        await recorded(runtime)
        with pytest.raises(UsageError, match="asks one model") as refused:
            await trial(runtime, "route:house", "buyer")
        assert "strategy:coder-tempted" in refused.value.hint


class Silent:
    """A model that never replies."""

    def __init__(self) -> None:
        self.ref = ModelRef("scripted", "scripted", "silent")
        self.asked = asyncio.Event()

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> NoReturn:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody wakes it")

    async def close(self) -> None:
        """Nothing is held."""


async def test_a_trial_that_is_broken_off_leaves_nothing_to_be_done_and_paid_for_later(store: str) -> None:
    silent = Silent()
    async with Runtime.open(store) as runtime:
        await recorded(runtime, 3)
        running = asyncio.create_task(trial(runtime, silent, "buyer"))
        await silent.asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        trials = await runtime.parts.store.streams("default", prefix="ses_", queue=TRIALS)
        assert 1 <= len(trials) <= AT_ONCE
        assert {info.standing.status for info in trials} == {"cancelled"}


async def test_budgets_count_what_a_trial_uses_and_refuse_it_when_they_are_used_up(tmp_path: Path) -> None:
    (tmp_path / "ostler.toml").write_text('[budgets.tenants."*"]\ntokens_per_day = 100_000\n')
    settings = resolve({}, tmp_path, store="memory:")
    used = Usage(9_000, 1_000)
    async with Runtime.open(settings) as runtime:
        agent = Agent("buyer", model=MODEL, tools=[look, pay]).with_settings(ModelSettings(max_tokens=2_000))
        await recorded(runtime, agent=agent)
        greedy = Scripted(*(calls(("look", {"place": "x"}), usage=used) for _ in range(3)), name="greedy")
        tables, now_us = settings.budgets.budgets, runtime.parts.clock.now_us()
        (before,) = await standings(runtime.parts.ledger, tables, "default", now_us=now_us)
        await trial(runtime, greedy, "buyer")
        (after,) = await standings(runtime.parts.ledger, tables, "default", now_us=now_us)
        assert after.used - before.used == 3 * used.total_tokens
        for number in range(3):
            await trial(runtime, Scripted(*greedy._turns, name=f"greedy{number}"), "buyer")
        last = await trial(runtime, Scripted(*greedy._turns, name="last"), "buyer")
        assert last.counts == {"failed": 3}
        assert "tokens_per_day" in last.decisions[0].problem


async def test_over_the_wire_the_other_model_is_asked_the_very_same_at_its_own_price(tmp_path: Path) -> None:
    prices = {"house:big": Price(5_000_000, 5_000_000), "house:small": Price(1_000_000, 1_000_000)}
    used = Usage(100, 100)
    async with WireServer() as server:
        server.answers(calls(("look", {"place": "shelf"}), usage=used), Reply("bought", usage=used))
        server.answers(*[calls(("look", {"place": "shelf"}), usage=used)] * 2)
        project = ProjectFile(providers={"house": ProviderTable(f"{server.url}/v1")}, prices=prices)
        settings = resolve({"HOME": str(tmp_path)}, tmp_path, store="memory:", project=project)
        limits = Limits(cost_microusd=1_000_000)
        async with Runtime.open(settings) as runtime:
            await recorded(runtime, agent=Agent("buyer", tools=[look, pay], model="house:big", limits=limits))
            found = await trial(runtime, "house:small", "buyer")
        bodies = [asked.body for asked in server.asked]
    assert sorted(said(found).values()) == ["call", "same"]
    assert (found.cost_then_microusd, found.cost_now_microusd) == (2_000, 400)
    again = sorted(bodies[2:], key=lambda body: len(body["messages"]))
    for then, now in zip(bodies[:2], again, strict=True):
        assert (then["model"], now["model"]) == ("big", "small")
        assert (now["messages"], now["tools"]) == (then["messages"], then["tools"])
