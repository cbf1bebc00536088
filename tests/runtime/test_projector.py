"""The projector: whatever happens to it, the rows are those that the whole log folds to, byte for byte."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_views import SqliteViewStore
from ostler.kernel.errors import StoreBusy, StoreError
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, EventStore, Row, Standing, ViewStore
from ostler.runtime import projector as module
from ostler.runtime.projector import Progress, Projector
from ostler.views.catalogue import VIEWS
from ostler.views.fold import AnyView
from ostler.views.session_rows import SESSIONS
from ostler.views.usage import USAGE
from tests.domain.session.story import Story
from tests.domain.session.test_replay_properties import live, recorded, stories

TENANTS = ("default", "rival")


def history(records: Sequence[Record], tenant: str, name: str) -> list[Record]:
    """The same events as those of another stream."""
    made: list[Record] = []
    stream, previous = StreamId(tenant, name), GENESIS
    for record in records:
        previous = link(previous, stream, record.seq, record.at_us, record.data)
        made.append(msgspec.structs.replace(record, stream=stream, hash=previous))
    return made


async def write(store: EventStore, histories: Sequence[Sequence[Record]], chance: random.Random) -> None:
    """Append these streams, mixed with one another."""
    waiting = [list(records) for records in histories if records]
    while waiting:
        records = chance.choice(waiting)
        part, records[:] = records[: (size := chance.randint(1, 4))], records[size:]
        await store.append(Append(part[0].stream, part[0].seq - 1, part, Standing("q", "s", None)))
        waiting = [records for records in waiting if records]


Rows = dict[tuple[str, str], bytes]


async def expected(store: EventStore, view: AnyView) -> Rows:
    """What the whole log folds to, in the simplest way."""
    rows: dict[tuple[str, str], Any] = {}
    sums: dict[tuple[str, str], Any] = {}
    for record in await store.tail(limit=1_000_000):
        if not view.wants(record):
            continue
        rows[record.stream], more = view.evolve(rows.get(record.stream), record)
        for name, value in more:
            key = (record.stream.tenant, name)
            sums[key] = view.add(sums[key], value) if key in sums else value
    kept = {key: view.rows.pack(row) for key, row in rows.items() if row is not None}
    return kept | {key: view.sums.pack(value) for key, value in sums.items()}


async def kept(views: ViewStore, view: AnyView) -> Rows:
    pages = [(tenant, await views.page(view.id, tenant, limit=100_000)) for tenant in TENANTS]
    return {(tenant, key): body for tenant, page in pages for key, body in page}


async def assert_whole(store: EventStore, views: ViewStore, which: Sequence[AnyView] = VIEWS) -> None:
    for view in which:
        assert await views.position(view.id) == await store.head()
        assert await kept(views, view) == await expected(store, view)


def simple(count: int, *, turns: int = 2) -> list[list[Record]]:
    """This many sessions that look a few times, for two tenants; every third one has ended."""
    made = []
    for number in range(count):
        story = Story().start(f"Do {number}.")
        for turn in range(1, turns + 1):
            story.reply(("look", {}))
            story.returned(f"{turn}.1")
        if number % 3 == 0:
            story.reply(text="done")
        made.append(history(recorded(story.log), TENANTS[number % 2], f"ses_{number:04}"))
    return made


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "ostler.db")
    yield store
    await store.close()


# The same rows, whatever happens


class Breaking(MemoryViewStore):
    """A store of views that fails now and then, before or after it has written."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance: random.Random | None = chance

    async def advance(self, view: str, *, after: int, position: int, rows: Sequence[Row] = ()) -> None:
        fate = self.chance.randrange(4) if self.chance else 0
        if fate == 1:
            raise StoreBusy()
        await super().advance(view, after=after, position=position, rows=rows)
        if fate == 2:
            raise StoreBusy("The answer was lost.")


@settings(max_examples=50)
@given(st.lists(stories(), min_size=1, max_size=4), st.data(), st.integers(0, 2**32))
async def test_any_log_in_any_batches_with_any_crashes_folds_to_the_same_rows(
    told: list[Story], data: st.DataObject, seed: int
) -> None:
    chance = random.Random(seed)
    histories = []
    for number, story in enumerate(told):
        live(story, data)
        histories.append(history(recorded(story.log), chance.choice(TENANTS), f"ses_{number}"))
    store, views = MemoryStore(), Breaking(chance)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "BATCH_MAX", chance.randint(1, 9))
        patched.setattr(module, "PAGE", chance.randint(1, 9))
        patched.setattr(module, "ROWS_MAX", chance.randint(0, 3))
        projectors = [Projector(store, views, VIEWS) for _ in range(2)]
        for part in range(3):
            await write(store, histories[part::3], chance)
            for _ in range(chance.randint(0, 6)):
                number = chance.randrange(2)
                if chance.random() < 0.3:
                    projectors[number] = Projector(store, views, VIEWS)
                try:
                    await projectors[number].catch_up()
                except StoreBusy:
                    continue
        views.chance = None
        for projector in projectors:
            await projector.catch_up()
    await assert_whole(store, views)


async def test_two_projectors_at_once_count_every_event_once(
    sqlite: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_MAX", 7)
    other = await SqliteStore.open(tmp_path / "ostler.db")
    both = [Projector(store, SqliteViewStore(store), VIEWS) for store in (sqlite, other)]
    await write(sqlite, simple(30), random.Random(1))
    await asyncio.gather(*(projector.catch_up() for projector in both))
    await assert_whole(sqlite, SqliteViewStore(sqlite))
    await other.close()


async def test_whoever_was_overtaken_reads_again_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    store, views = MemoryStore(), MemoryViewStore()
    ours, theirs = Projector(store, views, VIEWS), Projector(store, views, VIEWS)
    histories = simple(12)
    for part in range(4):
        await write(store, histories[part::4], random.Random(part))
        await (ours if part % 2 else theirs).catch_up()
        await (theirs if part % 2 else ours).catch_up()
        await assert_whole(store, views)


async def test_building_anew_gives_the_same_bytes(sqlite: SqliteStore) -> None:
    views = SqliteViewStore(sqlite)
    projector = Projector(sqlite, views, VIEWS)
    histories = simple(20)
    for part in range(5):
        await write(sqlite, histories[part::5], random.Random(part))
        await projector.catch_up()
    before = [await kept(views, view) for view in VIEWS]
    assert all(before)
    await Projector(sqlite, views, [USAGE]).rebuild()
    await Projector(sqlite, views, [SESSIONS]).rebuild()
    assert [await kept(views, view) for view in VIEWS] == before
    await write(sqlite, [history(records, "default", "ses_more") for records in simple(1)], random.Random(9))
    await projector.catch_up()
    await assert_whole(sqlite, views)


async def test_a_view_that_others_forget_meanwhile_is_built_anew(sqlite: SqliteStore) -> None:
    views = SqliteViewStore(sqlite)
    projector = Projector(sqlite, views, VIEWS)
    histories = simple(6)
    await write(sqlite, histories[:3], random.Random(1))
    await projector.catch_up()
    await views.forget(USAGE.id)
    await write(sqlite, histories[3:], random.Random(2))
    await projector.catch_up()
    await projector.catch_up()
    await assert_whole(sqlite, views)


FOLDING = """
import asyncio, sys
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_views import SqliteViewStore
from ostler.runtime import projector
from ostler.views.catalogue import VIEWS

projector.BATCH_MAX = 5

async def main():
    store = await SqliteStore.open(sys.argv[1])
    told = lambda progress: print(progress.position, flush=True)
    await projector.Projector(store, SqliteViewStore(store), VIEWS, progress=told).catch_up()

asyncio.run(main())
"""


async def test_a_projector_that_is_killed_leaves_rows_that_another_goes_on_from(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    await write(sqlite, simple(40), random.Random(1))
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    views = SqliteViewStore(sqlite)
    for _ in range(4):
        command = [sys.executable, "-c", FOLDING, str(tmp_path / "ostler.db")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
        assert process.stdout is not None
        for _ in range(chance.randint(1, 8)):
            await process.stdout.readline()
        process.kill()
        await process.communicate()
    assert await views.position(VIEWS[0].id) > 0
    await Projector(sqlite, views, VIEWS).catch_up()
    for view in VIEWS:
        assert await kept(views, view) == await expected(sqlite, view), f"seed {seed}"


# Damage


async def test_what_cannot_be_read_is_noted_and_everything_else_goes_on() -> None:
    store, views = MemoryStore(), MemoryViewStore()
    whole, altered, foreign = simple(3)
    altered[2] = msgspec.structs.replace(altered[2], data=altered[2].data + b" ")
    data = b'{"type":"agent.promoted"}'
    digest = link(foreign[1].hash, foreign[2].stream, 3, foreign[2].at_us, data)
    foreign[2] = msgspec.structs.replace(foreign[2], data=data, hash=digest)
    worker = [Record(StreamId("default", "wrk_1"), 1, 1, b'{"type":"worker.started"}', b"")]
    await write(store, [altered, worker, foreign, whole], random.Random(1))
    await Projector(store, views, VIEWS).catch_up()
    await assert_whole(store, views)
    problems = {key[1]: SESSIONS.rows.unpack(body).problem[:40] for key, body in (await kept(views, SESSIONS)).items()}
    assert problems == {
        "ses_0000": "",
        "ses_0001": "Event 3 of ses_0001 was altered or is mi",
        "ses_0002": "The log holds an event 'agent.promoted' ",
    }
    sums = [USAGE.sums.unpack(body) for key, body in (await kept(views, USAGE)).items() if key[1].startswith("[")]
    assert sum(tally.unreadable for tally in sums) == 1


# Following the log


class Following:
    """A projector that runs, and those who wait until it has come to the end of the log."""

    def __init__(self, store: EventStore, views: ViewStore, **more: Any) -> None:
        self._store = store
        self._views = views
        self._has_moved = asyncio.Event()
        projector = Projector(store, views, VIEWS, lag_s=0, progress=lambda _: self._has_moved.set(), **more)
        self.running = asyncio.create_task(projector.run())

    async def at_the_end(self) -> None:
        async with asyncio.timeout(20):
            while {await self._views.position(view.id) for view in VIEWS} != {await self._store.head()}:
                await self._has_moved.wait()
                self._has_moved.clear()

    async def stop(self) -> None:
        self.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.running


async def test_it_follows_the_log_until_it_is_cancelled(sqlite: SqliteStore) -> None:
    views = SqliteViewStore(sqlite)
    following = Following(sqlite, views)
    for number, records in enumerate(simple(3)):
        await write(sqlite, [records], random.Random(number))
        await following.at_the_end()
    await following.stop()
    await assert_whole(sqlite, views)


async def test_events_that_come_together_share_commits(sqlite: SqliteStore) -> None:
    views = SqliteViewStore(sqlite)
    await write(sqlite, simple(10), random.Random(1))
    before = sqlite.commits
    await Projector(sqlite, views, VIEWS).catch_up()
    assert sqlite.commits - before <= 2 * len(VIEWS)
    before = sqlite.commits
    await Projector(sqlite, views, VIEWS).catch_up()
    assert sqlite.commits == before


async def test_a_store_that_fails_is_told_of_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store, views, troubles = MemoryStore(), Breaking(random.Random(3)), []
    await write(store, simple(20), random.Random(1))
    monkeypatch.setattr(module, "BATCH_MAX", 3)
    monkeypatch.setattr(module, "STAND_BY_S", 0)
    following = Following(store, views, trouble=lambda stream, error: troubles.append(error))
    await following.at_the_end()
    await following.stop()
    assert troubles
    assert {type(error) for error in troubles} == {StoreBusy}
    await assert_whole(store, views)


# Bounds and versions


async def test_it_remembers_no_more_rows_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_MAX", 5)
    monkeypatch.setattr(module, "BATCH_MAX", 10)
    store, views = MemoryStore(), MemoryViewStore()
    await write(store, simple(40), random.Random(1))
    most = 0

    def watch(_: Progress) -> None:
        nonlocal most
        for projection in projector._projections:
            most = max(most, len(projection._rows._rows), len(projection._sums._rows))

    projector = Projector(store, views, VIEWS, progress=watch)
    await projector.catch_up()
    assert most == 5
    await assert_whole(store, views)


async def test_a_batch_of_large_events_holds_fewer_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 20_000)
    store, views = MemoryStore(), MemoryViewStore()
    await write(store, simple(40), random.Random(1))
    story = Story().start("Much. " * 1_000)
    for turn in range(1, 40):
        story.reply(("look", {}), text="much " * 1_000)
        story.returned(f"{turn}.1", "much " * 1_000)
    await write(store, [history(recorded(story.log), "default", "ses_large")], random.Random(1))
    batches: list[list[Record]] = []
    original = store.tail

    async def tail(*, after: int = 0, limit: int = 1000) -> list[Record]:
        page = await original(after=after, limit=limit)
        if after == await views.position(SESSIONS.id):
            batches.append([])
        batches[-1] += page
        return page

    monkeypatch.setattr(store, "tail", tail)
    monkeypatch.setattr(module, "PAGE", 5)
    await Projector(store, views, [SESSIONS]).catch_up()
    sizes = [sum(len(record.data) for record in batch) for batch in batches]
    assert max(map(len, batches)) > 20 > min(map(len, batches[:-1]))
    assert all(20_000 <= size < 60_000 for size in sizes[:-1])
    await assert_whole(store, views, [SESSIONS])


async def test_what_older_versions_of_a_fold_have_left_is_cleared_away_by_the_new_one() -> None:
    store, views = MemoryStore(), MemoryViewStore()
    await write(store, simple(3), random.Random(1))
    await Projector(store, views, VIEWS).catch_up()
    newer = USAGE._replace(version=3)
    await Projector(store, views, [newer]).catch_up()
    assert await kept(views, newer) == await expected(store, newer)
    assert (await views.position("usage@1"), await kept(views, USAGE)) == (0, {})
    assert await views.position(SESSIONS.id) == await store.head()


async def test_progress_is_told_from_the_first_event_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_MAX", 10)
    told: list[Progress] = []
    store = MemoryStore()
    await write(store, simple(10), random.Random(1))
    await Projector(store, MemoryViewStore(), [USAGE], progress=told.append).catch_up()
    assert [progress.position for progress in told] == sorted({progress.position for progress in told})
    head = await store.head()
    assert told[-1] == Progress("usage", head, head, head)


async def test_a_log_whose_last_positions_were_given_to_nobody_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    await write(store, simple(2), random.Random(1))
    last = await store.head()

    async def head() -> int:
        return last + 5

    monkeypatch.setattr(store, "head", head)
    views = MemoryViewStore()
    assert await Projector(store, views, VIEWS).catch_up() == last + 5
    assert await views.position(USAGE.id) == last


async def test_a_damaged_row_is_an_error_that_says_what_to_do() -> None:
    store, views = MemoryStore(), MemoryViewStore()
    records = simple(1)[0]
    await write(store, [records[:3]], random.Random(1))
    await Projector(store, views, VIEWS).catch_up()
    position = await views.position(SESSIONS.id)
    damage = [Row("default", "ses_0000", b"\xc1")]
    await views.advance(SESSIONS.id, after=position, position=position, rows=damage)
    await write(store, [records[3:]], random.Random(1))
    with pytest.raises(StoreError) as caught:
        await Projector(store, views, VIEWS).catch_up()
    assert "ostler views rebuild" in caught.value.hint
    await Projector(store, views, VIEWS).rebuild()
    await assert_whole(store, views)
