"""What settings, files and people bring reaches the gate of a running session: budgets, grants, tiers, detectors."""

from pathlib import Path

import msgspec
import pytest

from ostler import Agent, Detectors, Policy, Principal, Runtime, tool
from ostler.app import definition
from ostler.app.agents import parse
from ostler.app.identity import identity_of
from ostler.app.settings import ProjectFile, Settings, resolve
from ostler.domain.grant import Wanted
from ostler.domain.identity import LOCAL_USER, agent_id
from ostler.domain.session.events import (
    AgentStarted,
    ApprovalRequested,
    CallExamined,
    ConstraintFailed,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.errors import Conflict, DefinitionInvalid
from ostler.testing import Scripted, calls

FINN = Principal("finn", scopes=("approve",))


@tool(name="crm.read", effect="read", scopes=["crm.read"])
async def read_customer() -> str:
    """Read a customer."""
    return "Ada, ticket TCK-123456, ada@example.com"


@tool(name="pay")
async def pay(amount: int = 1) -> str:
    """Pay."""
    return "paid"


def settings(folder: Path, **project: object) -> Settings:
    file = definition.read(project, ProjectFile, source="ostler.toml")
    return resolve({"HOME": str(folder)}, folder, store=f"sqlite:///{folder / 'store.db'}", project=file)


def teller(*asked: tuple[str, dict[str, object]], rules: Policy | tuple = ()) -> Agent:
    script = [calls(one) for one in asked]
    return Agent("teller", tools=[read_customer, pay], model=Scripted(*script, "done"), rules=rules)


def of(events: list[SessionEvent], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


async def events_of(session) -> list[SessionEvent]:
    return [event for _, event in await session.facts()]


async def test_a_budget_of_calls_refuses_what_goes_beyond_it_and_counts_across_sessions(tmp_path: Path) -> None:
    agent = teller(("pay", {}), ("pay", {}))
    known = settings(tmp_path, budgets={"tenants": {"default": {"calls_per_day": 3}}})
    async with Runtime.open(known, agents=[agent]) as runtime:
        sessions = []
        for _ in range(2):
            session = await runtime.start(agent, "Pay.")
            await session.result(timeout_s=20)
            sessions.append(await events_of(session))
    assert [len(of(events, ToolRequested)) for events in sessions] == [2, 1]
    (refused,) = of(sessions[1], ConstraintFailed)
    assert refused.rule == "budget"
    assert "calls_per_day" in refused.reason


async def test_a_budget_that_asks_lets_a_person_decide_and_holds_nothing_meanwhile(tmp_path: Path) -> None:
    agent = teller(("pay", {}), ("pay", {}))
    known = settings(tmp_path, budgets={"tenants": {"default": {"calls_per_day": 1, "then": "ask"}}})
    async with Runtime.open(known, agents=[agent]) as runtime:
        session = await runtime.start(agent, "Pay twice.")
        while (await session.view()).waiting_for != "approval":
            await session.changed(after=await session.head(), timeout_s=0.05)
        await session.approve(by=FINN)
        assert (await session.result(timeout_s=20)).is_success
        events = await events_of(session)
    (asked,) = of(events, ApprovalRequested)
    assert asked.demands[0].rule.startswith("budget")
    assert len(of(events, ToolCompleted)) == 2


async def test_a_session_without_budgets_is_never_examined(tmp_path: Path) -> None:
    agent = teller(("pay", {}))
    async with Runtime.open(settings(tmp_path), agents=[agent]) as runtime:
        session = await runtime.start(agent, "Pay.")
        await session.result(timeout_s=20)
        assert of(await events_of(session), CallExamined) == []


async def test_a_grant_bounds_a_session_and_its_revocation_stops_it(tmp_path: Path) -> None:
    agent = teller(("crm.read", {}), ("pay", {}))
    async with Runtime.open(settings(tmp_path), agents=[agent]) as runtime:
        identity = identity_of(runtime.parts)
        wanted = Wanted(agent_id("teller", 1), scopes=("crm.*",), tools=("crm.*",))
        grant = await identity.lend(wanted, LOCAL_USER)
        session = await runtime.start(agent, "Read and pay.", grant=grant)
        await session.result(timeout_s=20)
        events = await events_of(session)
        assert [event.tool for event in of(events, ToolRequested)] == ["crm.read"]
        assert f"the grant {grant.id} is not for pay" in of(events, ConstraintFailed)[0].reason

        paused = await runtime.start(agent, "Read later.", grant=grant)
        await paused.pause()
        await identity.revoke(grant.id, LOCAL_USER, "a mistake")
        await paused.resume()
        await paused.result(timeout_s=20)
        (first, *_) = of(await events_of(paused), ConstraintFailed)
        assert first.rule == "examination" or "revoked" in first.reason
        with pytest.raises(DefinitionInvalid, match="was revoked"):
            await runtime.start(agent, "Again.", grant=grant)


async def test_a_call_never_runs_in_a_weaker_tier_than_its_agent_demands(tmp_path: Path) -> None:
    model = Scripted(calls(("shell.run", {"argv": ["true"]})), "done")
    text = 'name = "careful"\ntools = ["shell.run"]\n[tool."shell.run"]\nisolation = "bwrap"\n'
    carrier = Agent("careful", model=model)
    async with Runtime.open(settings(tmp_path), agents=[carrier]) as runtime:
        spec, _ = parse(text, runtime.parts.tools.specs(), source="careful.toml")
        session = await runtime.start(spec, "Run.", model=model.ref, sandbox="none", workspace=tmp_path)
        await session.result(timeout_s=20)
        events = await events_of(session)
    (outcome,) = of(events, ToolCompleted)
    assert not outcome.ok
    assert "must run in 'bwrap' at least, and would run in 'none' here" in outcome.output


def test_an_agent_cannot_ask_for_less_isolation_than_its_tool() -> None:
    strong = msgspec.structs.replace(pay.spec, isolation="bwrap")
    spec, _ = parse('name = "a"\ntools = ["pay"]\n[tool.pay]\nisolation = "none"\n', [strong], source="a.toml")
    assert spec.tools[0].isolation == "bwrap"


async def test_what_the_sandbox_holds_against_stands_in_the_log(tmp_path: Path) -> None:
    model = Scripted("done")
    async with Runtime.open(settings(tmp_path), agents=[Agent("careful", model=model)]) as runtime:
        spec, _ = parse('name = "careful"\ntools = ["shell.run"]\n', runtime.parts.tools.specs(), source="careful.toml")
        session = await runtime.start(spec, "Answer.", model=model.ref, workspace=tmp_path)
        (started,) = of(await events_of(session), AgentStarted)
    assert {"network", "write outside"} <= set(started.holds)


REDACTING = Policy("quiet", text="default allow\nREDACT output OF tool.crm.* MATCHING acme.ticket")


@pytest.mark.parametrize("declared", [True, False], ids=["in the settings", "in Python"])
async def test_detectors_of_ones_own_redact_before_anything_is_recorded(tmp_path: Path, declared: bool) -> None:
    agent = teller(("crm.read", {}), rules=REDACTING)

    def ticket(text: str):
        start = text.find("TCK-")
        return [(start, start + 10, "acme.ticket")] if start >= 0 else []

    known = settings(tmp_path, **({"detectors": {"acme.ticket": "TCK-[0-9]{6}"}} if declared else {}))
    detectors = None if declared else Detectors({"acme.ticket": ticket})
    async with Runtime.open(known, agents=[agent], detectors=detectors) as runtime:
        session = await runtime.start(agent, "Read.")
        await session.result(timeout_s=20)
        (outcome,) = of(await events_of(session), ToolCompleted)
    assert outcome.output == "Ada, ticket [redacted:acme.ticket], ada@example.com"
    assert outcome.redacted == {"acme.ticket": 1}
    assert b"TCK-123456" not in b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))


async def test_a_rule_that_names_a_detector_that_is_not_there_starts_no_session(tmp_path: Path) -> None:
    agent = teller(rules=REDACTING)
    async with Runtime.open(settings(tmp_path), agents=[agent]) as runtime:
        with pytest.raises(DefinitionInvalid, match=r"acme\.ticket"):
            await runtime.start(agent, "Read.")


async def test_who_has_told_a_session_to_do_something_cannot_approve_it(tmp_path: Path) -> None:
    agent = teller(("pay", {}), rules=Policy("asking", text="default allow\nREQUIRE approval FOR tool.pay"))
    async with Runtime.open(settings(tmp_path), agents=[agent]) as runtime:
        session = await runtime.start(agent, "Wait for what you are told.")
        await session.send("Pay.", by=FINN)
        while (await session.view()).waiting_for != "approval":
            await session.changed(after=await session.head(), timeout_s=0.05)
        with pytest.raises(Conflict, match="finn asked for it, and cannot be the one who approves it"):
            await session.approve(by=FINN)
        await session.approve(by=Principal("fay", scopes=("approve",)))
        assert (await session.result(timeout_s=20)).is_success


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"roles": ["sends_everything"]}, "sends_everything"),
        ({"destinations": ["nowhere"]}, "'nowhere' is no parameter"),
        ({"isolation": "moon"}, "moon"),
    ],
)
def test_a_tool_that_declares_what_there_is_not_is_refused(options, problem: str) -> None:
    with pytest.raises(DefinitionInvalid, match=problem):

        @tool(**options)
        def send(to: str) -> str:
            """Send."""
            return to


@pytest.mark.parametrize(("risk", "expected"), [(0.70, ToolRequested), (0.71, ConstraintFailed)])
async def test_a_table_of_thresholds_is_a_policy(tmp_path: Path, risk: float, expected: type) -> None:
    text = 'name = "bounded"\ntools = ["pay"]\n[policy]\nmax_risk_score = 0.7\ncompliance_required = true\n'
    quiet = msgspec.structs.replace(pay.spec, effect="idempotent")
    spec, _ = parse(text, [quiet], source="bounded.toml")
    carrier = Agent("bounded", tools=[pay], model=(model := Scripted(calls(("pay", {})), "done")))
    async with Runtime.open(settings(tmp_path), agents=[carrier]) as runtime:
        inputs = {"assessed_risk": risk, "compliant": True}
        session = await runtime.start(spec, "Pay.", model=model.ref, inputs=inputs)
        await session.result(timeout_s=20)
        events = await events_of(session)
        with pytest.raises(DefinitionInvalid, match=r"inputs\.compliant: is missing"):
            await runtime.start(spec, "Pay.", model=model.ref)
    assert len(of(events, expected)) == 1
