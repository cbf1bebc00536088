"""How calls are performed: side by side or one by one, stopped when they take too long, and never left open."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import pytest

from ostler import Agent, Runtime, Session, Tool, ToolOutcome, ToolRequest, tool
from ostler.adapters.store.memory import MemoryBlobStore
from ostler.domain.constraint.policy import Rule
from ostler.domain.model import ModelRef, ModelRequest, Reply
from ostler.domain.session.events import (
    AgentCancelled,
    AgentPaused,
    AgentResumed,
    ApprovalRequested,
    ModelFailed,
    ModelRequested,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.errors import Conflict, StoreFull, ToolTimeout
from ostler.kernel.event import StreamId
from ostler.runtime import runner
from ostler.runtime.performer import PREVIEW_BYTES
from ostler.testing import Scripted, calls
from tests.runtime.watching import events, only, reached, tag


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime.open("memory:") as opened:
        yield opened
        assert opened.troubles == []


async def run(runtime: Runtime, tools: list[Tool], *turns: Reply | str, **more: object) -> Session:
    return await runtime.start(Agent("clerk", tools=tools, model=Scripted(*turns), **more), "Go.")  # type: ignore[arg-type]


async def test_reads_of_one_turn_are_performed_at_the_same_time(runtime: Runtime) -> None:
    together = asyncio.Barrier(3)

    @tool(effect="read")
    async def look() -> str:
        """Look, but not alone."""
        async with together:
            return "seen"

    session = await run(runtime, [look], calls(("look", {}), ("look", {}), ("look", {})), "done")
    assert (await session.result()).text == "done"


async def test_calls_that_change_something_are_never_performed_at_the_same_time_as_any_other(runtime: Runtime) -> None:
    inside: list[str] = []
    overlaps: list[tuple[str, ...]] = []
    order: list[str] = []

    async def work(request: ToolRequest) -> str:
        inside.append(request.tool)
        order.append(request.tool)
        for _ in range(10):
            overlaps.append(tuple(sorted(inside)))
            await asyncio.sleep(0)
        inside.remove(request.tool)
        return "ok"

    tools: list[Tool] = [
        tool(name="look", effect="read")(work),
        tool(name="save", effect="idempotent")(work),
        tool(name="pay", effect="once")(work),
    ]
    asked = ["look", "save", "pay", "look", "look", "save"]
    session = await run(runtime, tools, calls(*[(name, {}) for name in asked]), "done")
    assert (await session.result()).is_success
    assert order == asked
    assert set(overlaps) == {("look",), ("save",), ("pay",), ("look", "look")}


async def test_a_tool_that_takes_too_long_is_stopped_and_the_session_goes_on(runtime: Runtime) -> None:
    stopped: list[str] = []

    @tool(effect="read", timeout_s=0.01)
    async def wait() -> str:
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("stopped")
        return "never"

    session = await run(runtime, [wait], calls(("wait", {})), "done")
    assert (await session.result()).text == "done"
    outcome = await only(session, ToolCompleted)
    assert (outcome.ok, outcome.kind, outcome.output) == (False, "timeout", "stopped after 0.01 s")
    assert stopped == ["stopped"]


async def test_a_tool_that_will_not_be_stopped_is_left_behind_and_the_session_goes_on(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STOP_GRACE_S", 0.01)
    released, refusals = asyncio.Event(), asyncio.Semaphore(0)

    @tool(effect="read", timeout_s=0.01)
    async def cling() -> str:
        """Cling."""
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                refusals.release()
        return "too late"

    session = await run(runtime, [cling], calls(("cling", {})), "done")
    assert (await session.result()).text == "done"
    assert (await only(session, ToolCompleted)).kind == "timeout"
    await refusals.acquire()
    released.set()
    await asyncio.gather(*[task for task in asyncio.all_tasks() if "Runner._perform" in repr(task)])
    assert (await only(session, ToolCompleted)).kind == "timeout"


async def test_a_blocking_tool_that_hangs_is_left_behind_and_the_session_goes_on(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostler.adapters.tools.thread.GRACE_S", 0.01)
    released = threading.Event()

    @tool(effect="once", timeout_s=0.01)
    def block() -> str:
        """Block."""
        released.wait()
        return "too late"

    session = await run(runtime, [block], calls(("block", {})), "done")
    assert (await session.result()).text == "done"
    assert (await only(session, ToolCompleted)).kind == "timeout"
    released.set()


async def test_a_tool_that_cancels_itself_has_failed_and_nobody_waits_for_it(runtime: Runtime) -> None:
    @tool(effect="once")
    async def give_up() -> str:
        """Give up."""
        raise asyncio.CancelledError("the connection was closed")

    session = await run(runtime, [give_up], calls(("give_up", {})), "done")
    assert (await session.result()).text == "done"
    outcome = await only(session, ToolCompleted)
    assert (outcome.kind, outcome.output) == ("permanent", "CancelledError: the connection was closed")


async def test_a_host_that_says_itself_that_a_tool_took_too_long_is_believed(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(request: ToolRequest) -> ToolOutcome:
        raise ToolTimeout("the other side was slow", hint="Try again at night.")

    monkeypatch.setattr(runtime.parts.tools, "perform", slow)
    session = await run(runtime, [_pay], calls(("pay", {})), "done")
    await session.result()
    outcome = await only(session, ToolCompleted)
    assert (outcome.kind, outcome.output) == ("timeout", "the other side was slow. Try again at night.")


class Silent:
    """A model that never answers, and notices when it is told to stop."""

    def __init__(self) -> None:
        self.ref = ModelRef("scripted", "scripted", "silent")
        self.stopped = asyncio.Event()

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()
        raise AssertionError

    async def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("ending", ["cancel", "kill"])
async def test_ending_a_session_stops_its_model_call(runtime: Runtime, ending: str) -> None:
    model = Silent()
    session = await runtime.start(Agent("clerk", model=model), "Go.")
    await reached(session, ModelRequested)
    await getattr(session, ending)()
    result = await session.result()
    await model.stopped.wait()
    assert (result.status, result.reason) == ("cancelled", "cancelled" if ending == "cancel" else "killed")
    assert (await only(session, ModelFailed)).code == ("cancelled" if ending == "cancel" else "unknown")


@pytest.mark.parametrize(("ending", "kind"), [("cancel", "cancelled"), ("kill", "unknown")])
async def test_ending_a_session_stops_its_tool_call_and_records_what_is_known_of_it(
    runtime: Runtime, ending: str, kind: str
) -> None:
    stopped = asyncio.Event()

    @tool(effect="once")
    async def wait() -> str:
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    session = await run(runtime, [wait], calls(("wait", {})))
    await reached(session, ToolRequested)
    await getattr(session, ending)()
    assert (await session.result()).status == "cancelled"
    await stopped.wait()
    assert (await only(session, ToolCompleted)).kind == kind


@pytest.mark.parametrize("ending", ["cancel", "kill"])
async def test_ending_a_session_that_waits_for_approval_performs_nothing(runtime: Runtime, ending: str) -> None:
    session = await run(runtime, [_pay], calls(("pay", {})), rules=[Rule("require", "pay")])
    await reached(session, ApprovalRequested)
    await getattr(session, ending)()
    assert (await session.result()).status == "cancelled"
    assert not [event for event in await events(session) if isinstance(event, ToolRequested)]
    with pytest.raises(Conflict, match="cancelled already"):
        await session.approve("1.1")


@tool(name="pay", effect="once")
async def _pay() -> str:
    """Pay."""
    return "paid"


async def test_a_paused_session_begins_nothing_until_it_is_resumed(runtime: Runtime) -> None:
    going, release = asyncio.Event(), asyncio.Event()

    @tool(effect="read")
    async def look() -> str:
        """Look."""
        going.set()
        await release.wait()
        return "seen"

    session = await run(runtime, [look], calls(("look", {})), "done")
    await going.wait()
    await session.pause(reason="lunch")
    release.set()
    await reached(session, ToolCompleted)
    await runtime.let_go(session.stream)
    assert (await session.view()).status == "paused"
    await session.resume()
    assert (await session.result()).text == "done"
    tags = [tag(event) for event in await events(session)]
    paused, resumed = tags.index(tag(AgentPaused("x"))), tags.index(tag(AgentResumed("x")))
    assert tags[paused + 1 : resumed] == ["tool.completed"]


async def test_output_that_is_too_large_for_the_log_is_kept_beside_it_and_begins_in_it(runtime: Runtime) -> None:
    text = "ä€😀\n" * 9_000

    @tool(effect="read")
    async def print_all() -> str:
        """Print everything."""
        return text

    session = await run(runtime, [print_all], calls(("print_all", {})), "done")
    await session.result()
    outcome = await only(session, ToolCompleted)
    assert outcome.blob is not None
    assert (outcome.ok, outcome.size) == (True, len(text.encode()))
    assert await runtime.parts.blobs.get("default", outcome.blob) == text.encode()
    assert text.startswith(outcome.output)
    assert PREVIEW_BYTES - 4 < len(outcome.output.encode()) <= PREVIEW_BYTES
    told = msgspec.json.decode((await session.state()).transcript[2].text)
    assert told["data"] == outcome.output
    assert (told["truncated"], told["bytes"], told["blob"]) == (True, outcome.size, outcome.blob)


async def test_output_that_cannot_be_kept_is_no_reason_to_lose_the_outcome(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: MemoryBlobStore, tenant: str, body: bytes) -> str:
        raise StoreFull

    monkeypatch.setattr(MemoryBlobStore, "put", full)

    @tool(effect="once")
    async def print_all() -> str:
        """Print everything."""
        return "x" * 100_000

    session = await run(runtime, [print_all], calls(("print_all", {})), "done")
    assert (await session.result()).text == "done"
    outcome = await only(session, ToolCompleted)
    assert (outcome.ok, outcome.blob) == (True, None)
    assert outcome.output.startswith("x" * PREVIEW_BYTES)
    assert outcome.output.endswith(f"[95904 of 100000 bytes could not be kept: {StoreFull().message}]")
    assert len((await session.state()).transcript[2].text) < 5_000


async def test_an_approval_that_comes_while_the_session_is_being_let_go_begins_nothing_before_it_is_held_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    letting_go, gate = asyncio.Event(), asyncio.Event()
    release = runtime.parts.store.release

    async def slow(worker: str, streams: Sequence[StreamId]) -> None:
        letting_go.set()
        await gate.wait()
        await release(worker, streams)

    monkeypatch.setattr(runtime.parts.store, "release", slow)
    session = await run(runtime, [_pay], calls(("pay", {})), "done", rules=[Rule("require", "pay")])
    await letting_go.wait()
    await session.approve("1.1")
    for _ in range(20):
        await asyncio.sleep(0)
    assert not [event for event in await events(session) if isinstance(event, ToolRequested)]
    gate.set()
    assert (await session.result()).text == "done"
    assert (await only(session, ToolCompleted)).output == "paid"


async def test_the_end_by_a_person_says_who_it_was(runtime: Runtime) -> None:
    session = await run(runtime, [_pay], calls(("pay", {})), rules=[Rule("require", "pay")])
    await reached(session, ApprovalRequested)
    await session.cancel(reason="enough")
    assert str(await session.result()) == "cancelled (cancelled): by local"
    assert (await only(session, AgentCancelled)).by == "local"
