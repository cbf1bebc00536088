"""Sessions in a file, and out of it: proved before anything is written."""

from collections.abc import Callable

import pytest

from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.app.transfer import export, import_
from ostler.app.verify import rehearse, stream_ids, verify
from ostler.domain.identity import DEFAULT_TENANT, LOCAL_USER
from ostler.domain.session import commands as command
from ostler.domain.tool import ToolOutcome
from ostler.kernel.errors import Conflict, NotFound, OstlerError, StoreCorrupt, UsageError
from ostler.kernel.event import StreamId
from ostler.runtime.journal import Journal
from ostler.testing import calls
from tests.domain.session.story import TOOLS, Story

BODY = b"a long output " * 5000


class Place:
    """A store with a journal."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.blobs = MemoryBlobStore()
        self.journal = Journal(self.store)

    async def session(self, name: str, *, is_ended: bool = True) -> StreamId:
        """A session that has used a tool, whose output is kept beside its log."""
        story = Story(specs=TOOLS)
        start = command.Start(1, name, story.spec, story.model, "go", LOCAL_USER)
        session = await self.journal.start(DEFAULT_TENANT, start)
        digest = await self.blobs.put(StreamId(DEFAULT_TENANT, name), BODY)
        outcome = ToolOutcome(True, "a long", blob=digest, size=len(BODY))
        steps: list[command.SessionCommand] = [
            command.Proceed(2),
            command.ReplyReceived(3, "1", calls(("look", {}))),
            command.ToolReturned(4, "1.1", outcome),
        ]
        if is_ended:
            steps.append(command.Kill(5, LOCAL_USER))
        for step in steps:
            await self.journal.execute(session, step)
        return session.stream

    async def exported(self, *streams: StreamId) -> list[bytes]:
        return [line async for line in export(self.journal, self.blobs, streams, written_by="a test")]


async def test_what_comes_out_is_what_went_in() -> None:
    here, there = Place(), Place()
    stream = await here.session("ses_a")
    (imported,) = await import_(there.journal, there.blobs, await here.exported(stream), now_us=9)
    assert (imported.session, imported.blobs, imported.is_live) == ("ses_a", 1, False)
    before, after = await here.store.read(stream), await there.store.read(stream)
    assert [(one.data, one.hash, one.at_us) for one in after] == [(one.data, one.hash, one.at_us) for one in before]
    assert await verify(there.store, there.blobs, stream) == await verify(here.store, here.blobs, stream)
    assert await rehearse(there.journal, stream) == await rehearse(here.journal, stream)


@pytest.mark.parametrize("resume", [False, True])
async def test_a_live_session_is_due_only_if_it_is_to_be_resumed(resume: bool) -> None:
    here, there = Place(), Place()
    stream = await here.session("ses_a", is_ended=False)
    (imported,) = await import_(there.journal, there.blobs, await here.exported(stream), now_us=9, resume=resume)
    assert imported.is_live
    assert len(await there.store.claim("w/h/1/1", now_us=10, limit=9)) == resume


async def test_nothing_is_overwritten() -> None:
    here = Place()
    stream = await here.session("ses_a")
    with pytest.raises(Conflict, match="nothing is overwritten"):
        await import_(here.journal, here.blobs, await here.exported(stream), now_us=9)


def _altered(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"goal":"go"', b'"goal":"no"') for line in lines]


def _body_altered(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"body":"YSBs', b'"body":"YSBz') for line in lines]


def _without_body(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if b'"line":"blob"' not in line]


def _without_an_event(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], *lines[4:]]


def _another_version(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_altered, StoreCorrupt),
        (_body_altered, StoreCorrupt),
        (_without_body, NotFound),
        (_without_an_event, StoreCorrupt),
        (_another_version, UsageError),
        (lambda lines: lines[1:], UsageError),
        (lambda lines: [*lines, lines[0]], UsageError),
        (lambda lines: [*lines, b"{"], UsageError),
        (lambda lines: [], UsageError),
    ],
)
async def test_a_spoilt_file_is_refused_and_leaves_nothing(
    spoil: Callable[[list[bytes]], list[bytes]], error: type[OstlerError]
) -> None:
    here, there = Place(), Place()
    first, second = await here.session("ses_a"), await here.session("ses_b")
    lines = await here.exported(second, first)
    spoilt = spoil(lines)
    assert spoilt != lines
    with pytest.raises(error):
        await import_(there.journal, there.blobs, spoilt, now_us=9)
    assert await there.store.head() == 0


async def test_what_cannot_be_proved_is_not_exported() -> None:
    here = Place()
    stream = await here.session("ses_a")
    records = await here.store.read(stream)
    here.store._streams[stream].records[1] = records[0]
    with pytest.raises(StoreCorrupt):
        await here.exported(stream)
    found = await verify(here.store, here.blobs, stream)
    assert found.problems == ["event 2 was altered or is missing: its hash does not fit"]


async def test_missing_and_altered_bodies_are_found() -> None:
    here = Place()
    stream = await here.session("ses_a")
    ((key, _),) = here.blobs._bodies.items()
    here.blobs._bodies[key] = b"something else"
    assert "was altered" in (await verify(here.store, here.blobs, stream)).problems[0]
    del here.blobs._bodies[key]
    assert "is missing" in (await verify(here.store, here.blobs, stream)).problems[0]


async def test_every_stream_is_found_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostler.app.verify.PAGE", 2)
    here = Place()
    streams = [await here.session(f"ses_{number}") for number in range(5)]
    assert await stream_ids(here.store, DEFAULT_TENANT, "ses_") == streams
    assert (await verify(here.store, here.blobs, streams[0])).is_whole, "pages of a log are chained, too"
    with pytest.raises(NotFound):
        await verify(here.store, here.blobs, StreamId(DEFAULT_TENANT, "ses_none"))
