"""Sessions that wait cost a worker nothing. `python -m benchmarks.idle` shows the same of 100,000, with times."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.idle import CLERK, Worker, fill
from ostler import Agent, Runtime
from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.identity import LOCAL_USER
from ostler.domain.session.events import ToolRequested
from ostler.kernel.event import Record, StreamId
from ostler.testing import Scripted
from tests.runtime.watching import events

SESSIONS = 5_000


async def test_a_worker_never_looks_at_sessions_that_wait_and_wakes_the_one_that_may_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ostler.db"
    names = await fill(path, SESSIONS)
    read: set[str] = set()
    original = SqliteStore.read

    async def reading(self: SqliteStore, stream: StreamId, **more: Any) -> list[Record]:
        read.add(stream.name)
        return await original(self, stream, **more)

    monkeypatch.setattr(SqliteStore, "read", reading)
    async with Runtime.open(f"sqlite:///{path}", agents=[CLERK]) as runtime:
        awake = await runtime.start(Agent("awake", model=Scripted("done", name="awake")), "Go.")
        await awake.result()
        assert {name for name in read if name.startswith("ses_")} == {awake.id}
        chosen = await runtime.session(names[SESSIONS // 2])
        before = await runtime.parts.store.head()
        await chosen.approve("1.1")
        assert (await chosen.result()).text == "done"
        assert {name for name in read if name.startswith("ses_")} == {awake.id, chosen.id}
        tail = await runtime.parts.store.tail(after=before)
        assert {record.stream.name for record in tail} == {chosen.id}
        assert len([event for event in await events(chosen) if isinstance(event, ToolRequested)]) == 1
        waiting = await runtime.parts.store.streams(LOCAL_USER.tenant, statuses=["waiting"], limit=2 * SESSIONS)
        assert len(waiting) == SESSIONS - 1


async def test_a_worker_is_no_larger_for_the_sessions_that_wait(tmp_path: Path) -> None:
    names = await fill(tmp_path / "full.db", SESSIONS)
    sizes = []
    for store in ("empty.db", "full.db"):
        worker = await Worker.on(tmp_path / store)
        sizes.append(int((await worker.says("memory"))[0]))
        if store == "full.db":
            assert await worker.approve(names[0]) > 0
        await worker.leave()
    assert sizes[1] - sizes[0] < 10 * 1024, "10 MB; loading them all would take more than 50"
