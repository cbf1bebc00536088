"""Lists of sessions are right, however far the view has read the log, and read no more than they must."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler import Runtime
from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.app.lists import session_views
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append, Row, Standing
from ostler.runtime.journal import QUARANTINED, Journal
from ostler.runtime.projector import Projector
from ostler.views.session_rows import SESSIONS
from ostler.views.sessions import SessionView, view
from tests.domain.session.story import Story
from tests.domain.session.test_replay_properties import live, recorded, stories
from tests.runtime.test_projector import history
from tests.views.test_session_rows import LONG, long_story


class Shop:
    """A store with views, what is written to it, and the lists of it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.views = MemoryViewStore()
        self.journal = Journal(self.store)
        self.read: list[tuple[str, int]] = []
        original = self.store.read

        async def read(stream: StreamId, *, after: int = 0, limit: int | None = None) -> list[Record]:
            self.read.append((stream.name, after))
            return await original(stream, after=after, limit=limit)

        self.store.read = read  # type: ignore[method-assign]

    async def write(self, records: list[Record]) -> None:
        stream, before = records[0].stream, records[0].seq - 1
        await self.store.append(Append(stream, before, records, Standing("clerk", "running", None)))

    async def project(self) -> None:
        await Projector(self.store, self.views, [SESSIONS]).catch_up()

    async def listed(self) -> list[SessionView]:
        self.read.clear()
        return await session_views(self.journal, self.views, await self.store.streams("default", prefix="ses_"))

    async def truth(self) -> list[SessionView]:
        """Each session folded from its first event."""
        found = []
        for info in await self.store.streams("default", prefix="ses_"):
            state = (await self.journal.load(info.stream)).state
            assert state is not None
            found.append(view(state))
        return found


@pytest.fixture
def shop() -> Shop:
    return Shop()


def session(name: str = "ses_1", turns: int = 3) -> list[Record]:
    story = Story().start()
    for turn in range(1, turns + 1):
        story.reply(("look", {}))
        story.returned(f"{turn}.1")
    # The name is part of the first event, too.
    (at_us, started), *others = story.log
    return recorded([(at_us, msgspec.structs.replace(started, session=name)), *others], name)


@settings(max_examples=40)
@given(st.lists(stories(), min_size=1, max_size=3), st.data(), st.integers(0, 2**32))
async def test_a_list_shows_the_sessions_as_they_are_wherever_the_view_is(
    told: list[Story], data: st.DataObject, seed: int
) -> None:
    chance, shop, later = random.Random(seed), Shop(), []
    for number, story in enumerate(told):
        live(story, data)
        records = history(recorded(story.log), "default", f"ses_{number}")
        cut = chance.randint(0, len(records))
        if records[:cut]:
            await shop.write(records[:cut])
        later.append(records[cut:])
    await shop.project()
    for records in later:
        if records:
            await shop.write(records)
    assert await shop.listed() == await shop.truth()
    await shop.project()
    assert await shop.listed() == await shop.truth()


async def test_only_what_a_row_does_not_have_is_read(shop: Shop) -> None:
    first, second, third = session("ses_1"), session("ses_2"), session("ses_3")
    await shop.write(first)
    await shop.write(second[:4])
    await shop.project()
    await shop.write(second[4:])
    await shop.write(third)
    assert await shop.listed() == await shop.truth()
    await shop.listed()
    assert shop.read == [("ses_3", 0), ("ses_2", 4)]
    await shop.project()
    await shop.listed()
    assert shop.read == []


async def test_what_is_too_long_for_a_row_is_shown_whole(shop: Shop) -> None:
    await shop.write(recorded(long_story().log))
    await shop.project()
    (seen,) = await shop.listed()
    assert (seen.goal, seen.text) == (LONG, LONG)
    assert [seen] == await shop.truth()
    await shop.listed()
    assert len(shop.read) == 2


async def test_a_session_in_quarantine_is_unreadable_whatever_its_row_says(shop: Shop) -> None:
    records = session()
    records[2] = msgspec.structs.replace(records[2], data=records[2].data + b" ")
    await shop.write(records)
    await shop.views.advance(SESSIONS.id, after=0, position=99, rows=[row_of(session())])
    (seen,) = await shop.listed()
    assert seen.reason is None, "a row that has come to the end of the log is believed"
    await shop.journal.quarantine(records[0].stream)
    (seen,) = await shop.listed()
    assert (seen.status, seen.reason) == (QUARANTINED, "unreadable")


def row_of(records: list[Record], **changes: Any) -> Row:
    row = None
    for record in records:
        row = SESSIONS.evolve(row, record).row
    assert row is not None
    return Row("default", records[0].stream.name, SESSIONS.rows.pack(msgspec.structs.replace(row, **changes)))


async def test_an_event_that_was_altered_behind_the_row_makes_the_session_unreadable(shop: Shop) -> None:
    records = session()
    await shop.write(records[:5])
    await shop.project()
    await shop.write([msgspec.structs.replace(records[5], data=records[5].data + b" "), *records[6:]])
    await shop.write(session("ses_2"))
    good, bad = await shop.listed()
    assert (good.id, good.status) == ("ses_2", "running")
    assert (bad.reason, bad.status) == ("unreadable", "running")
    await shop.project()
    assert [good, bad] == await shop.listed()


async def test_a_row_that_is_damaged_or_says_that_its_log_is_does_not_stand_in_the_way_of_a_log_that_is_whole(
    shop: Shop,
) -> None:
    records = session()
    await shop.write(records)
    unread = row_of(records, state=None, problem="It could not be read then.").body
    for after, body in enumerate((b"", b"\xc1", b"nonsense", unread)):
        rows = [Row("default", "ses_1", body)]
        await shop.views.advance(SESSIONS.id, after=after, position=after + 1, rows=rows)
        assert await shop.listed() == await shop.truth()


async def test_a_row_of_more_than_the_log_has_is_not_waited_for(shop: Shop) -> None:
    records = session()
    await shop.write(records[:4])
    await shop.views.advance(SESSIONS.id, after=0, position=1, rows=[row_of(records[:3])])
    infos = [msgspec.structs.replace(info, version=9) for info in await shop.store.streams("default")]
    assert await session_views(shop.journal, shop.views, infos) == await shop.truth()


async def test_an_empty_list_asks_for_nothing(shop: Shop) -> None:
    assert await session_views(shop.journal, shop.views, []) == []


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with Runtime.open(f"sqlite:///{tmp_path}/ostler.db", worker=False) as runtime:
        yield runtime


async def test_the_runtime_lists_by_its_views_and_they_are_in_the_file_of_the_events(runtime: Runtime) -> None:
    parts = runtime.parts
    for name in ("ses_1", "ses_2"):
        await parts.store.append(
            Append(StreamId("default", name), 0, session(name), Standing("clerk", "running", None))
        )
    before = await runtime.sessions()
    await parts.projector().catch_up()
    assert await parts.views.position(SESSIONS.id) == await parts.store.head() == 2 * len(session())
    assert await runtime.sessions() == before
    assert [seen.id for seen in before] == ["ses_2", "ses_1"]
