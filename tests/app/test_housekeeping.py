"""What is removed is gone and known to have been there; what is erased says nothing and can still be proved."""

import sqlite3
from contextlib import closing

import msgspec
import pytest

from ostler import Agent, Runtime, tool
from ostler.app.housekeeping import Housekeeping
from ostler.app.transfer import import_
from ostler.app.verify import stream_ids, verify
from ostler.domain.housekeeping import SessionErased, SessionsRemoved
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.kernel.errors import Conflict, Erased, NotFound, StaleWrite
from ostler.ports import Row
from ostler.testing import Scripted, calls
from ostler.views.session_rows import SESSIONS
from tests.servers import fresh_schema

SECRET = "the colic of the bay mare"
LATER_US = 2**60


@tool(effect="read")
async def examine(horse: str) -> str:
    """Examine a horse."""
    return f"{SECRET}: " + "very long notes " * 20_000


VET = Agent(
    "vet", tools=[examine], model=Scripted(calls(("examine", {"horse": SECRET}), text=SECRET), f"It is {SECRET}.")
)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ostler.db"
    else:
        with fresh_schema() as schema:
            yield schema


def housekeeping(runtime):
    parts = runtime.parts
    return Housekeeping(parts.journal, parts.blobs, parts.views, parts.clock, tenant="default", by="the keeper")


async def finished(runtime, by=LOCAL_USER):
    session = await runtime.start(VET, f"Find out about {SECRET}.", by=by)
    await session.result()
    while not await is_at_rest(runtime, session):
        await runtime.let_go(session.stream)
    return session


async def is_at_rest(runtime, session):
    (info,) = await runtime.parts.store.streams("default", prefix=session.id)
    return info.worker is None


async def blob_of(runtime, session):
    (blob,) = [event.blob for _, event in await session.facts() if getattr(event, "blob", None)]
    return blob


async def test_removed_sessions_are_gone_with_their_bodies_and_can_be_imported_again(url, tmp_path):
    archive = tmp_path / "old.jsonl"
    async with Runtime.open(url, agents=[VET]) as runtime:
        old, other = await finished(runtime), await finished(runtime)
        blob = await blob_of(runtime, old)
        await runtime.parts.projector().catch_up()
        keeping = housekeeping(runtime)
        infos = [info async for info in keeping.ended_before(LATER_US)]
        assert [info.stream for info in infos] == [other.stream, old.stream]
        assert [info async for info in keeping.ended_before(0)] == []
        before = await old.facts()
        done = await keeping.remove(infos, because="old", archive=archive, written_by="a test")
        assert done.sessions == [old.id]  # the newest session of a store stays
        assert [view.id for view in await runtime.sessions()] == [other.id]
        with pytest.raises(NotFound):
            await runtime.session(old.id)
        assert await runtime.parts.blobs.get("default", blob)  # the other session has it, too
        ((_, note),) = await keeping.history()
        assert isinstance(note, SessionsRemoved)
        assert (note.sessions[0].session, note.by, note.archive) == (old.id, "the keeper", "old.jsonl")
        parts = runtime.parts
        with archive.open("rb") as lines:
            await import_(parts.journal, parts.blobs, lines, now_us=parts.clock.now_us())
        assert await (await runtime.session(old.id)).facts() == before
        with pytest.raises(Conflict):
            await keeping.remove(infos, because="old", archive=archive, written_by="a test")


async def test_a_session_that_goes_on_is_neither_removed_nor_erased(url):
    async with Runtime.open(url, agents=[VET], worker=False) as runtime:
        live = await runtime.start(VET, "Wait.")
        await runtime.start(VET, "Wait, too.")
        keeping = housekeeping(runtime)
        assert [info async for info in keeping.ended_before(LATER_US)] == []
        infos = [info async for info in keeping.started_by(LOCAL_USER.id)]
        assert live.stream in [info.stream for info in infos]
        for info in infos:
            with pytest.raises(Conflict):
                await keeping.erase(info, because="asked to")
        with pytest.raises(Conflict):
            await keeping.remove(infos, because="old", archive=None, written_by="a test")
        assert await keeping.history() == []


async def test_an_erased_session_says_nothing_and_its_chain_still_holds(url, tmp_path):
    subject = Principal("ada")
    async with Runtime.open(url, agents=[VET]) as runtime:
        session, other = await finished(runtime, by=subject), await finished(runtime)
        other_blob = await blob_of(runtime, other)
        await runtime.parts.projector().catch_up()
        keeping, parts = housekeeping(runtime), runtime.parts
        infos = [info async for info in keeping.started_by("ada")]
        assert [info.stream for info in infos] == [session.stream]
        await keeping.erase(infos[0], because="the subject asked to")
        for ask in (session.view, session.facts, session.result):
            with pytest.raises(Erased):
                await ask()
        shown = {view.id: view for view in await runtime.sessions()}
        assert (shown[session.id].status, shown[session.id].goal) == ("erased", "")
        assert shown[other.id].status == "completed"
        assert await parts.blobs.get("default", other_blob)
        proofs = [await verify(parts.store, parts.blobs, stream) for stream in await stream_ids(parts.store, "default")]
        assert all(proof.is_whole for proof in proofs)
        ((_, note),) = await keeping.history()
        assert isinstance(note, SessionErased)
        await parts.projector().rebuild()
        assert {view.id: view for view in await runtime.sessions()} == shown
        await keeping.erase((await parts.store.streams("default", prefix=session.id))[0], because="again")
        assert len(await keeping.history()) == 1


async def test_what_was_erased_is_not_in_the_file_any_more(tmp_path):
    path = tmp_path / "ostler.db"
    async with Runtime.open(path, agents=[VET]) as runtime:
        session = await finished(runtime)
        await runtime.parts.projector().catch_up()
        (info,) = await runtime.parts.store.streams("default", prefix=session.id)
        await housekeeping(runtime).erase(info, because="asked to")
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


async def test_content_that_somebody_took_away_by_hand_is_found(tmp_path):
    path = tmp_path / "ostler.db"
    async with Runtime.open(path, agents=[VET]) as runtime:
        session = await finished(runtime)
        with closing(sqlite3.connect(path)) as hand:
            hand.execute("""UPDATE events SET data = CAST('{"type":"event.erased"}' AS BLOB)""")
            hand.commit()
        proof = await verify(runtime.parts.store, runtime.parts.blobs, session.stream)
        assert proof.problems == ["its content is gone, and nothing is written of who erased it"]


async def test_a_fork_keeps_the_bodies_that_it_shares(url):
    async with Runtime.open(url, agents=[VET]) as runtime:
        session = await finished(runtime)
        blob = await blob_of(runtime, session)
        await session.fork(seq=5)
        (info,) = await runtime.parts.store.streams("default", prefix=session.id)
        await housekeeping(runtime).remove([info], because="old", archive=None, written_by="a test")
        assert await runtime.parts.blobs.get("default", blob)


async def test_nothing_is_lost_when_a_session_moves_while_it_is_removed(url):
    async with Runtime.open(url, agents=[VET]) as runtime:
        old, _ = await finished(runtime), await finished(runtime)
        blob = await blob_of(runtime, old)
        keeping = housekeeping(runtime)
        infos = [info async for info in keeping.ended_before(LATER_US)]
        stream = old.stream
        moved = [msgspec.structs.replace(info, version=info.version - 1) for info in infos if info.stream == stream]
        with pytest.raises(StaleWrite):
            await keeping.remove(moved, because="old", archive=None, written_by="a test")
        assert await runtime.parts.blobs.get("default", blob)
        assert (await (await runtime.session(old.id)).view()).status == "completed"


async def test_what_a_keeper_left_who_died_is_cleaned_up_by_the_next(url, monkeypatch):
    async with Runtime.open(url, agents=[VET]) as runtime:
        old, other = await finished(runtime), await finished(runtime)
        await runtime.parts.projector().catch_up()
        keeping, parts = housekeeping(runtime), runtime.parts
        infos = {info.stream: info async for info in keeping.ended_before(LATER_US)}
        with monkeypatch.context() as patch:
            patch.setattr(Housekeeping, "_clean_up", die)
            with pytest.raises(ZeroDivisionError):
                await keeping.erase(infos[old.stream], because="asked to")
        assert await parts.views.rows(SESSIONS.id, "default", [old.id])
        await keeping.erase(infos[other.stream], because="asked to, too")
        assert await parts.views.rows(SESSIONS.id, "default", [old.id, other.id]) == {}


async def die(self, streams):
    raise ZeroDivisionError


async def test_a_projector_that_was_about_to_show_an_erased_session_takes_it_back(url):
    async with Runtime.open(url, agents=[VET]) as runtime:
        old = await finished(runtime)
        parts = runtime.parts
        behind = parts.projector([SESSIONS])
        await behind.catch_up()
        (info,) = await parts.store.streams("default", prefix=old.id)
        row = await parts.views.rows(SESSIONS.id, "default", [old.id])
        await housekeeping(runtime).erase(info, because="asked to")
        position = await parts.views.position(SESSIONS.id)
        late = [Row("default", old.id, row[old.id])]
        await parts.views.advance(SESSIONS.id, after=position, position=position, rows=late)
        await parts.projector([SESSIONS]).catch_up()
        assert await parts.views.rows(SESSIONS.id, "default", [old.id]) == {}


async def test_a_fork_that_is_refused_keeps_no_body(url):
    async with Runtime.open(url, agents=[VET]) as runtime:
        session = await finished(runtime)
        blob = await blob_of(runtime, session)
        with pytest.raises(Conflict):
            await session.fork(seq=4)
        (info,) = await runtime.parts.store.streams("default", prefix=session.id)
        await housekeeping(runtime).erase(info, because="asked to")
        with pytest.raises(NotFound):
            await runtime.parts.blobs.get("default", blob)
