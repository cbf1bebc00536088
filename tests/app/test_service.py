"""The runtime as people use it from Python: start, watch, steer, stop, and go on after a restart."""

import asyncio
from pathlib import Path

import pytest

from ostler import Agent, Limits, ModelRef, Price, Principal, Result, Rule, Runtime, Session, tool
from ostler.app.agents import builtin
from ostler.domain.model import ModelRequest, UserMessage
from ostler.domain.screening.screen import GOAL_BYTES_MAX
from ostler.domain.session.events import (
    AgentCompleted,
    AgentForked,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.errors import (
    ConfigurationError,
    Conflict,
    DefinitionInvalid,
    NotAStore,
    NotFound,
    SandboxUnavailable,
    UsageError,
)
from ostler.ports import Standing
from ostler.testing import Scripted, calls
from tests.runtime.watching import events, only, reached, tag


@tool(effect="read")
async def stock(sku: str) -> int:
    """How many pieces of a part are on the shelf.

    Args:
        sku: the part's number, such as A-17
    """
    return {"A-17": 12}.get(sku, 0)


@tool
def order(sku: str, pieces: int = 1) -> str:
    """Order pieces of a part."""
    return f"{pieces} {sku} ordered"


def clerk() -> Agent:
    script = Scripted(calls(("stock", {"sku": "A-17"})), "There are 12 A-17 left.", name="clerk")
    return Agent("clerk", "You answer questions about the stock.", tools=[stock], model=script)


def buyer() -> Agent:
    script = Scripted(calls(("order", {"sku": "B-3", "pieces": 4})), "done", name="buyer")
    return Agent(
        "buyer", "You buy parts.", tools=[order], model=script, rules=[Rule("require", "order", because="money")]
    )


@pytest.fixture(params=["memory:", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory:" else f"sqlite:///{tmp_path}/deep/er/ostler.db"


async def test_a_session_is_started_watched_and_its_result_read(store: str) -> None:
    async with Runtime.open(store) as runtime:
        session = await runtime.start(clerk(), "How many A-17 are left?")
        seen = [(happening.seq, tag(happening.event)) async for happening in session.events()]
        result = await session.result()
    assert [number for number, _ in seen] == list(range(1, 9))
    assert [name for _, name in seen] == [
        *("agent.started", "model.requested", "model.completed", "tool.requested", "tool.completed"),
        *("model.requested", "model.completed", "agent.completed"),
    ]
    assert result == Result(session.id, "completed", "final_answer", "There are 12 A-17 left.")
    assert (str(result), result.is_success) == ("There are 12 A-17 left.", True)
    assert runtime.troubles == []


async def test_a_question_is_approved_from_code_and_exactly_what_was_asked_is_done(store: str) -> None:
    async with Runtime.open(store) as runtime:
        session = await runtime.start(buyer(), "Buy B-3.")
        question = await reached(session, ApprovalRequested)
        assert (await session.view()).approval is not None
        assert (await session.view()).waiting_for == "approval"
        assert await session.approve(by=Principal("anna", scopes=("approve",)), reason="fine") == question.call
        assert (await session.result()).text == "done"
        granted = await only(session, ApprovalGranted)
        assert (granted.by, granted.reason, granted.digest) == ("anna", "fine", question.digest)
        assert (await only(session, ToolRequested)).arguments == {"sku": "B-3", "pieces": 4}
        assert (await only(session, ToolCompleted)).output == "4 B-3 ordered"


async def test_a_denied_call_is_never_performed_and_the_agent_is_told(store: str) -> None:
    async with Runtime.open(store) as runtime:
        session = await runtime.start(buyer(), "Buy B-3.")
        await reached(session, ApprovalRequested)
        await session.deny(by=Principal("anna", scopes=("approve",)), reason="too dear")
        assert (await session.result()).text == "done"
        assert (await only(session, ApprovalDenied)).by == "anna"
        assert not [event for event in await events(session) if isinstance(event, ToolRequested)]
        assert "anna denied it: too dear" in (await session.state()).transcript[2].text


async def test_approving_what_nobody_asks_is_a_conflict(store: str) -> None:
    async with Runtime.open(store) as runtime:
        session = await runtime.start(clerk(), "How many?")
        await session.result()
        with pytest.raises(Conflict, match="waits for no approval"):
            await session.approve()


async def test_a_session_goes_on_when_its_store_is_opened_again(tmp_path: Path) -> None:
    url, going, release, times = f"sqlite:///{tmp_path}/ostler.db", asyncio.Event(), asyncio.Event(), []

    @tool(effect="once")
    async def work() -> str:
        """Work."""
        times.append("worked")
        going.set()
        await release.wait()
        return "worked"

    def worker() -> Agent:
        return Agent("worker", tools=[work], model=Scripted(calls(("work", {})), calls(("work", {})), "done"))

    async with Runtime.open(url) as runtime:
        session = await runtime.start(worker(), "Work.")
        await going.wait()
        release.set()
    seen = len(times)
    async with Runtime.open(url) as runtime:
        unknown = await runtime.session(session.id)
        assert (await unknown.view()).status == "running"
        bystander = await runtime.start(clerk(), "How many?")
        await bystander.result()
        assert len(times) == seen, "whoever does not know the agent does not touch its sessions"
    async with Runtime.open(url, agents=[worker()]) as runtime:
        assert (await (await runtime.session(session.id)).result()).text == "done"
        state = await (await runtime.session(session.id)).state()
    assert times == ["worked", "worked"]
    assert state.tool_calls == 2


async def test_a_tool_that_this_process_does_not_have_is_an_outcome_that_the_agent_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ostler.db"
    async with Runtime.open(url, worker=False) as runtime:
        session = await runtime.start(clerk(), "How many?")
    toolless = Agent("clerk", model=clerk().model)
    async with Runtime.open(url, agents=[toolless]) as runtime:
        again = await runtime.session(session.id)
        assert (await again.result()).is_success
        outcome = await only(again, ToolCompleted)
    assert (outcome.ok, outcome.kind) == (False, "not_found")
    assert "no implementation of the tool 'stock'" in outcome.output


async def test_a_result_that_is_not_there_in_time_is_a_timeout_and_the_session_waits_on(store: str) -> None:
    async with Runtime.open(store) as runtime:
        session = await runtime.start(buyer(), "Buy B-3.")
        await reached(session, ApprovalRequested)
        with pytest.raises(TimeoutError):
            await session.result(timeout_s=0)
        await session.approve()
        assert (await session.result(timeout_s=60)).is_success


async def test_events_can_be_watched_from_anywhere_by_several_at_once(store: str) -> None:
    async with Runtime.open(store) as runtime:
        session = await runtime.start(buyer(), "Buy B-3.")

        async def watch(after: int) -> list[int]:
            return [happening.seq async for happening in session.events(after=after)]

        watching = [asyncio.ensure_future(watch(after)) for after in (0, 0, 3)]
        await reached(session, ApprovalRequested)
        await session.approve()
        whole, same, part = await asyncio.gather(*watching)
        assert whole == same == list(range(1, len(whole) + 1))
        assert part == whole[3:]
        assert await watch(len(whole)) == [], "nothing comes after the end, and nobody waits for it"


async def test_what_is_said_to_a_session_reaches_its_agent(store: str) -> None:
    def answer(request: ModelRequest) -> str:
        return " ".join(message.text for message in request.messages if isinstance(message, UserMessage))

    agent = Agent(
        "listener",
        tools=[order],
        model=Scripted(calls(("order", {"sku": "x"})), answer),
        rules=buyer().spec.policy.rules,
    )
    async with Runtime.open(store) as runtime:
        session = await runtime.start(agent, "One.")
        await reached(session, ApprovalRequested)
        await session.send("Two.")
        await session.deny()
        assert (await session.result()).text == "One. Two."


async def test_a_fork_goes_its_own_way_and_leaves_its_origin_alone(store: str) -> None:
    async with Runtime.open(store) as runtime:
        session = await runtime.start(clerk(), "How many?")
        await session.result()
        before = await events(session)
        fork = await session.fork(seq=3)
        assert (await fork.result()).text == "There are 12 A-17 left."
        assert (await only(fork, AgentForked)).origin == session.id
        assert (await fork.view()).origin == session.id
        assert await events(session) == before
        with pytest.raises(Conflict, match="under way"):
            await session.fork(seq=4)


async def test_a_session_is_found_by_its_id_or_by_a_beginning_that_only_it_has(store: str) -> None:
    async with Runtime.open(store) as runtime:
        first = await runtime.start(clerk(), "One?")
        await first.result()
        assert (await runtime.session(first.id)).id == first.id
        assert (await runtime.session(first.id[4:12])).id == first.id
        second = await runtime.start(Agent("other", model=Scripted("x", name="other")), "Two?")
        await second.result()
        with pytest.raises(Conflict, match="beginning of more than one session"):
            await runtime.session("ses_0")
        assert (await runtime.session(second.id)).id == second.id
        with pytest.raises(NotFound, match="no session ses_zzz"):
            await runtime.session("ses_zzz")
        with pytest.raises(NotFound):
            await runtime.session(first.id, tenant="another")


async def test_sessions_are_listed_newest_first_and_by_what_is_asked_of_them(store: str) -> None:
    async with Runtime.open(store) as runtime:
        done = await runtime.start(clerk(), "How many?")
        await done.result()
        waiting = await runtime.start(buyer(), "Buy.")
        await reached(waiting, ApprovalRequested)
        await runtime.let_go(waiting.stream)
        assert [(view.id, view.status) for view in await runtime.sessions()] == [
            (waiting.id, "waiting"),
            (done.id, "completed"),
        ]
        assert [view.id for view in await runtime.sessions(statuses=["completed"])] == [done.id]
        assert [view.id for view in await runtime.sessions(agent="buyer")] == [waiting.id]
        assert [view.id for view in await runtime.sessions(limit=1)] == [waiting.id]
        assert await runtime.sessions(tenant="another") == []


async def test_a_start_that_makes_no_sense_is_refused_and_leaves_nothing(store: str, tmp_path: Path) -> None:
    file, agent = tmp_path / "file", clerk()
    file.write_text("")
    async with Runtime.open(store) as runtime:
        with pytest.raises(DefinitionInvalid, match="goal: is empty"):
            await runtime.start(agent, "  ")
        with pytest.raises(DefinitionInvalid, match="goal: has 262145 bytes"):
            await runtime.start(agent, "x" * (GOAL_BYTES_MAX + 1))
        for folder in (file, tmp_path / "none"):
            with pytest.raises(UsageError, match="is not a folder"):
                await runtime.start(agent, "Go.", workspace=folder)
        with pytest.raises(ConfigurationError, match="does not name a model"):
            await runtime.start(agent, "Go.", model="gpt")
        dear = Agent("dear", model=ModelRef("live", "openai", "gpt-x"), limits=Limits(cost_microusd=5))
        with pytest.raises(DefinitionInvalid, match="price of openai:gpt-x"):
            await runtime.start(dear, "Go.")
        assert await runtime.sessions() == []


async def test_a_workspace_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    async with Runtime.open("memory:") as runtime:
        with pytest.raises(UsageError, match="cannot be read: Permission denied"):
            await runtime.start(clerk(), "Go.", workspace=tmp_path)
        assert await runtime.sessions() == []


async def test_the_model_of_a_session_can_be_chosen_when_it_starts_and_is_kept(store: str) -> None:
    price = Price(1_000_000, 1_000_000)
    async with Runtime.open(store) as runtime:
        ref = ModelRef("scripted", "scripted", "clerk", price=price)
        session = await runtime.start(clerk(), "How many?", model=ref)
        assert (await session.state()).model == ref
        assert (await session.result()).is_success
        named = await runtime.choose_model(clerk(), "strategy:coder")
        assert (named.model.kind, named.because) == ("strategy", "named by the caller")
        assert (await runtime.choose_model(clerk())).because == "an object of the agent's"


async def test_a_runtime_that_is_not_open_says_how_to_open_it() -> None:
    runtime = Runtime.open("memory:")
    with pytest.raises(UsageError) as closed:
        await runtime.start(clerk(), "Go.")
    assert "async with" in closed.value.hint


@pytest.mark.parametrize("url", ["mysql://x", "sqlite:", "sqlite:///", "sqlite://relative.db", "nonsense", ""])
async def test_a_store_that_is_not_known_is_refused_with_those_that_are(url: str) -> None:
    with pytest.raises(ConfigurationError) as unknown:
        async with Runtime.open(url):
            pass
    assert "sqlite:////absolute/path.db" in unknown.value.hint


async def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes\n" * 100)
    with pytest.raises(NotAStore):
        async with Runtime.open(f"sqlite:///{path}"):
            pass
    assert path.read_text() == "not a database, but somebody's notes\n" * 100
    assert list(tmp_path.iterdir()) == [path]


async def test_a_runtime_without_a_worker_starts_watches_and_steers_and_runs_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ostler.db"
    async with Runtime.open(url, worker=False) as steers:
        session = await steers.start(buyer(), "Buy.")
        assert [tag(event) for event in await events(session)] == ["agent.started"]
        async with Runtime.open(url, agents=[buyer()]):
            await reached(session, ApprovalRequested)
            await session.approve()
            assert (await session.result()).is_success


async def test_a_session_that_is_not_in_the_queue_as_it_should_be_is_put_there_by_resume(store: str) -> None:
    async with Runtime.open(store, worker=False) as runtime:
        session = await runtime.start(clerk(), "How many?")
        await stand(runtime, session, Standing("clerk", "quarantined", None))
        await session.resume()
        (info,) = await runtime.parts.store.streams("default", prefix=session.id)
        assert info.standing.status == "queued"
        assert info.standing.due_us is not None


async def stand(runtime: Runtime, session: Session, standing: Standing) -> None:
    await runtime.parts.journal.quarantine(session.stream)
    (info,) = await runtime.parts.store.streams("default", prefix=session.id)
    assert info.standing == standing


async def test_the_end_of_a_session_is_its_last_event(store: str) -> None:
    async with Runtime.open(store) as runtime:
        session = await runtime.start(clerk(), "How many?")
        await session.result()
        assert isinstance((await events(session))[-1], AgentCompleted)


@tool
async def pay_once() -> str:
    """Pay."""
    return "paid"


async def test_waiting_for_a_session_that_nobody_here_can_run_is_told_instead_of_done(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ostler.db'}"
    model = Scripted(calls(("pay_once", {})), name="asking")
    asking = Agent("asking", tools=[pay_once], rules=[Rule("require", "pay_once")], model=model)
    async with Runtime.open(url) as runtime:
        started = await runtime.start(asking, "Pay.")
        async for happening in started.events():
            if isinstance(happening.event, ApprovalRequested):
                break
    async with Runtime.open(url) as stranger:
        session = await stranger.session(started.id)
        await session.approve()
        with pytest.raises(Conflict, match="does not know its agent 'asking'"):
            await session.result()


def test_a_runtime_that_is_opened_without_async_says_how_it_is_done() -> None:
    with pytest.raises(UsageError, match="async with"), Runtime.open("memory:"):
        raise AssertionError("it was entered")


async def test_an_agent_that_runs_commands_is_not_started_where_they_cannot_be_isolated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with Runtime.open("memory:") as runtime:
        found = builtin("coder", list(runtime.parts.tools.specs()))
        assert found is not None
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SandboxUnavailable):
            await runtime.start(found[0], "Make the tests pass.", workspace=tmp_path)
        assert await runtime.sessions() == []
