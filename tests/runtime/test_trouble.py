"""What a worker does when the store is damaged, full, or written to by others at the same time."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ostler import Agent, Rule, Runtime, Session, tool
from ostler.domain.agent import AgentSpec
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCancelled,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    CancelRequested,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.errors import Conflict, OstlerError, StoreCorrupt, StoreFull
from ostler.kernel.event import GENESIS, Event, Record, StreamId, first_broken, link
from ostler.ports import Append, Standing
from ostler.testing import Scripted, calls
from tests.runtime.processes import child
from tests.runtime.watching import events, only, reached


@tool(effect="once")
async def pay(amount: int = 0) -> str:
    """Pay."""
    return "paid"


ASKING = Agent("asking", tools=[pay], model=Scripted(calls(("pay", {})), "done"), rules=[Rule("require", "pay")])
PAYING = Agent("paying", tools=[pay], model=Scripted(calls(("pay", {})), "done", name="paying"))


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/ostler.db"


async def trouble(runtime: Runtime) -> AsyncIterator[tuple[str, OstlerError]]:
    """Every trouble that the runtime reports from now on."""
    told: asyncio.Queue[tuple[str, OstlerError]] = asyncio.Queue()
    runtime.on_trouble = lambda name, error: told.put_nowait((name, error))
    while True:
        yield await told.get()


# Damage


CHANGES = {
    "other words": "UPDATE events SET data = CAST(replace(data, 'Pay.', 'Pal.') AS BLOB) WHERE position = 1",
    "another type": "UPDATE events SET data = replace(data, 'Pay.', 'Pal.') WHERE position = 1",
    "another time": "UPDATE events SET at = at + 1 WHERE position = 1",
    "no beginning": "UPDATE events SET seq = 7 WHERE position = 1",
}


@pytest.mark.parametrize("how", CHANGES)
async def test_a_damaged_session_is_set_aside_untouched_and_the_others_run(tmp_path: Path, how: str) -> None:
    async with Runtime.open(url(tmp_path), worker=False) as runtime:
        damaged = await runtime.start(PAYING, "Pay.")
        whole = await runtime.start(PAYING, "Pay.")
    with sqlite3.connect(tmp_path / "ostler.db") as connection:
        connection.execute(CHANGES[how])
    connection.close()
    found: list[tuple[str, OstlerError]] = []
    for _ in range(2):
        async with Runtime.open(url(tmp_path), agents=[PAYING]) as runtime:
            assert (await (await runtime.session(whole.id)).result()).is_success
            await set_aside(runtime, damaged.stream)
            found = runtime.troubles
            assert await runtime.parts.store.read(damaged.stream, after=7) == []
    assert found == [], "once set aside, nobody comes across it again"


async def set_aside(runtime: Runtime, stream: StreamId) -> None:
    """Wait until a session is in quarantine."""
    async with asyncio.timeout(30):
        async for _ in turns():
            if await runtime.parts.store.streams(stream.tenant, prefix=stream.name, statuses=["quarantined"]):
                return


async def turns() -> AsyncIterator[None]:
    """Turns of the event loop, for what can only be seen by looking again."""
    while True:
        await asyncio.sleep(0)
        yield


NONSENSE: dict[str, list[Event]] = {
    "it does not begin with a start": [ApprovalGranted("1.1", "anna", "0")],
    "an outcome of no call": [ToolCompleted("1.1")],
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_a_session_that_makes_no_sense_is_set_aside_once_and_not_tried_for_ever(
    tmp_path: Path, what: str
) -> None:
    async with Runtime.open(url(tmp_path), worker=False) as runtime:
        stream = StreamId(DEFAULT_TENANT, "ses_nonsense")
        previous, records = GENESIS, []
        for seq, event in enumerate(NONSENSE[what], 1):
            data = SESSION_CODEC.encode(event)  # type: ignore[arg-type]
            previous = link(previous, stream, seq, seq, data)
            records.append(Record(stream, seq, seq, data, previous))
        await runtime.parts.store.append(Append(stream, 0, records, Standing(PAYING.spec.name, "running", 0)))
        whole = await runtime.start(PAYING, "Pay.")
    async with Runtime.open(url(tmp_path), agents=[PAYING]) as runtime:
        assert (await (await runtime.session(whole.id)).result()).is_success
        await set_aside(runtime, stream)
    assert [name for name, _ in runtime.troubles] == ["ses_nonsense"]
    assert isinstance(runtime.troubles[0][1], StoreCorrupt)


# A full disk


class Disk:
    """The room that a SQLite store has, through the limit that the library itself keeps."""

    def __init__(self, runtime: Runtime) -> None:
        self._store: Any = runtime.parts.store

    def is_full(self) -> None:
        ((pages,),) = self._store._database.fetch("PRAGMA page_count")
        self._store._database.fetch(f"PRAGMA max_page_count = {pages}")

    def has_room(self) -> None:
        self._store._database.fetch("PRAGMA max_page_count = 1000000")


async def test_an_outcome_is_kept_while_the_disk_is_full_and_recorded_when_there_is_room(tmp_path: Path) -> None:
    going, release, times = asyncio.Event(), asyncio.Event(), []

    @tool(effect="once")
    async def work() -> str:
        """Work."""
        times.append("worked")
        going.set()
        await release.wait()
        return "x" * 20_000

    agent = Agent("worker", tools=[work], model=Scripted(calls(("work", {})), "done"))
    async with Runtime.open(url(tmp_path)) as runtime:
        disk, troubles = Disk(runtime), trouble(runtime)
        told = asyncio.ensure_future(anext(troubles))
        session = await runtime.start(agent, "Go.")
        await going.wait()
        kept = await runtime.parts.store.read(session.stream)
        disk.is_full()
        release.set()
        name, error = await told
        assert (name, type(error)) == (session.id, StoreFull)
        assert "Make space on the disk" in error.hint
        assert await runtime.parts.store.read(session.stream) == kept, "what was acknowledged is still there"
        disk.has_room()
        assert (await session.result()).text == "done"
        assert (await only(session, ToolCompleted)).output == "x" * 20_000
        assert times == ["worked"]


async def test_nothing_is_performed_whose_intent_cannot_be_written(tmp_path: Path) -> None:
    times: list[int] = []

    @tool(effect="once")
    async def work(text: str) -> str:
        """Work."""
        times.append(len(text))
        return "worked"

    class Model(Scripted):
        """Fills the disk before it answers."""

        async def complete(self, request: Any, on_text: Any) -> Any:
            if request.key.endswith("/1"):
                disk.is_full()
            return await super().complete(request, on_text)

    agent = Agent("worker", tools=[work], model=Model(calls(("work", {"text": "x" * 20_000})), "done"))
    async with Runtime.open(url(tmp_path)) as runtime:
        disk, troubles = Disk(runtime), trouble(runtime)
        told = asyncio.ensure_future(anext(troubles))
        session = await runtime.start(agent, "Go.")
        assert isinstance((await told)[1], StoreFull)
        assert times == []
        disk.has_room()
        assert (await session.result()).text == "done"
    assert times == [20_000]


async def test_a_start_on_a_full_disk_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with Runtime.open(url(tmp_path)) as runtime:
        disk = Disk(runtime)
        disk.is_full()
        with pytest.raises(StoreFull):
            await runtime.start(AgentSpec("clerk", instructions="x" * 50_000), "Go.", model="strategy:coder")
        assert await runtime.sessions() == []
        disk.has_room()
        assert (await (await runtime.start(PAYING, "Pay.")).result()).is_success


# Others


@asynccontextmanager
async def two_runtimes(folder: Path) -> AsyncIterator[tuple[Runtime, Runtime]]:
    """One that runs sessions, and one that only steers, each with a connection of its own to the same file."""
    async with Runtime.open(url(folder), agents=[ASKING]) as runs, Runtime.open(url(folder), worker=False) as steers:
        yield runs, steers


async def outcomes(*wishes: Any) -> list[bool]:
    """Which of several wishes, made at the same time, were granted; the others met a conflict."""
    results = await asyncio.gather(*wishes, return_exceptions=True)
    for result in results:
        assert result is None or isinstance(result, str | Conflict), result
    return [not isinstance(result, Conflict) for result in results]


@pytest.mark.parametrize("order", range(6))
async def test_of_an_approval_a_denial_and_a_cancellation_at_the_same_time_one_decides(
    tmp_path: Path, order: int
) -> None:
    async with two_runtimes(tmp_path) as (runs, steers):
        for number in range(5):
            here = await runs.start(ASKING, "Pay.")
            await reached(here, ApprovalRequested)
            there = await steers.session(here.id)
            wishes: list[Any] = [here.approve("1.1"), there.deny("1.1"), (here, there)[number % 2].cancel()]
            turned = wishes[order % 3 :] + wishes[: order % 3]
            granted = await outcomes(*(turned if order < 3 else reversed(turned)))
            assert any(granted)
            await _check_that_one_decided(here)


async def _check_that_one_decided(session: Session) -> None:
    await session.result()
    happened = await events(session)
    answers = [event for event in happened if isinstance(event, ApprovalGranted | ApprovalDenied)]
    cancelled = [event for event in happened if isinstance(event, CancelRequested)]
    assert len(answers) <= 1
    assert len(answers) + len(cancelled) >= 1
    was_paid = [event for event in happened if isinstance(event, ToolRequested)]
    assert not was_paid or isinstance(answers[0], ApprovalGranted)
    if cancelled:
        in_time = [event for event in happened if not isinstance(event, ApprovalRejected)]
        assert isinstance(in_time[-1], AgentCancelled)
        after = happened[happened.index(cancelled[0]) :]
        assert not [event for event in after if isinstance(event, ToolRequested | ApprovalGranted | ApprovalDenied)]
    assert first_broken(await session._journal.records(session.stream)) is None


async def test_one_process_approves_and_another_one_goes_on(tmp_path: Path) -> None:
    async with (
        child("tests.runtime.clerking", tmp_path / "ostler.db") as works,
        Runtime.open(url(tmp_path), worker=False) as runtime,
    ):
        await works.until("ready")
        session = await runtime.start(ASKING, "Pay.")
        await reached(session, ApprovalRequested)
        await session.approve()
        assert (await session.result()).text == "done"
        assert await works.until("paid") == f"paid {session.id}/1.1"
        await works.tell("stop")
        assert await works.ended() == 0
