"""What is erased is gone from everywhere, with the sessions that had it in sight; and the log can still be proved."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from ostler import Agent, Runtime
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.app.erasure import Erasure, Plan, erase_memories, plan_erasure
from ostler.app.housekeeping import Housekeeping
from ostler.app.verify import stream_ids, verify
from ostler.domain.housekeeping import MemoriesErased
from ostler.domain.memory.erasure import Which
from ostler.domain.memory.events import EntityDescribed
from ostler.domain.memory.memory import Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.kernel.errors import Conflict, Erased
from ostler.ports.memory import Entry, Filter
from ostler.runtime.memory.memories import Memories
from ostler.testing import Scripted
from tests.servers import fresh_schema

VET = Agent("vet", model=Scripted(*["Done."] * 50))
ADA, BOB = Scope("default", "vet", "ada"), Scope("default", "vet", "bob")
SECRET = "zanzibarine"
"""A word that stands nowhere else."""
ALL = Filter(is_closed_too=True)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ostler.db"
    else:
        with fresh_schema() as schema:
            yield schema


async def ended(runtime: Runtime, goal: str = "Look after them.") -> str:
    """A session that has ended and is in nobody's hands."""
    session = await runtime.start(VET, goal)
    await session.result()
    while (await runtime.parts.store.streams("default", prefix=session.id))[0].worker is not None:
        await runtime.let_go(session.stream)
    return session.id


async def remember(memories: Memories, scope: Scope, key: str, text: str, session: str = "", **fields) -> str:
    source = Source("agent:vet", f"{session}/1.1" if session else "")
    kind = fields.pop("kind", "fact")
    return (await memories.remember(scope, Wish(kind, text, source, **fields), key=f"{session}/{key}")).id


async def erase(runtime: Runtime, **which) -> Erasure:
    return await erase_memories(runtime.parts, "default", which=Which(**which), by="keeper", because="asked to")


async def plan(runtime: Runtime, **which) -> Plan:
    return await plan_erasure(runtime.parts, "default", which=Which(**which))


async def kept(memories: Memories, *scopes: Scope) -> list[Entry]:
    return await memories.index.page(scopes, ALL, limit=1000)


async def assert_whole(runtime: Runtime) -> None:
    parts = runtime.parts
    for stream in await stream_ids(parts.store, "default"):
        assert (await verify(parts.store, parts.blobs, stream)).problems == []


def in_files(url: str) -> bytes:
    """All that stands in the files of a SQLite store, of its index, and of their logs; of PostgreSQL nothing."""
    folder = Path(url.removeprefix("sqlite:///")).parent
    files = folder.iterdir() if url.startswith("sqlite") else ()
    return b"".join(file.read_bytes() for file in files if file.is_file())


async def everywhere(runtime: Runtime) -> bytes:
    """All that stands in any table of a PostgreSQL schema."""
    store = runtime.parts.store
    assert isinstance(store, PostgresStore)
    server = store.server
    tables = await server.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", server.address.schema)
    found = [await server.fetch(server.sql(f"SELECT * FROM @schema.{table}")) for (table,) in tables]
    return repr([[tuple(row) for row in rows] for rows in found]).encode()


async def test_a_subject_is_erased_everywhere_and_the_rest_stays(url):
    async with Runtime.open(url, agents=[VET]) as runtime:
        memories = await runtime.parts.memories()
        wrote, given, other = await ended(runtime, f"Ask after {SECRET}."), await ended(runtime), await ended(runtime)
        relation = Relation(SECRET, "owns", "a mare")
        named = await remember(memories, ADA, "1", f"The owner is {SECRET}.", wrote, relation=relation)
        await memories.describe(ADA, EntityDescribed(SECRET, "person", Source("agent:vet")))
        await memories.describe(ADA, EntityDescribed("a mare", "horse", Source("agent:vet")))
        stays = await remember(memories, ADA, "2", "The mare likes carrots.", other)
        await memories.recall(ADA, SECRET, which=Filter(kinds=("fact",)), limit=1, call=f"{given}/0.recall")
        found = await plan(runtime, subject=SECRET)
        assert [one.id for one in found.memories] == [named]
        assert found.entities == ((ADA, SECRET),)
        assert set(found.sessions) == {wrote, given}
        done = await erase(runtime, subject=SECRET)
        assert (done.memories, set(done.sessions)) == (1, {wrote, given})
        assert [entry.memory.id for entry in await kept(memories, ADA)] == [stays]
        assert [entity.name for entity in await memories.index.entities([ADA])] == ["a mare"]
        assert all(SECRET not in one.entry.memory.text for one in (await memories.recall(ADA, SECRET)).found)
        for name in (wrote, given):
            with pytest.raises(Erased):
                await (await runtime.session(name)).facts()
        assert (await (await runtime.session(other)).view()).status == "completed"
        await assert_whole(runtime)
        before = await kept(memories, ADA)
        await memories.rebuild("default")
        assert await kept(memories, ADA) == before
        assert (await plan(runtime, subject=SECRET)).is_empty
        kept_somewhere = await everywhere(runtime) if url.startswith("postgres") else in_files(url)
        assert SECRET.encode() not in kept_somewhere
        assert b"carrots" in kept_somewhere
    assert SECRET.encode() not in in_files(url)


async def test_a_user_is_erased_with_who_they_are_and_may_come_back(url):
    async with Runtime.open(url, agents=[VET]) as runtime:
        memories = await runtime.parts.memories()
        user = Scope("default", "vet", "zoe@stable.example")
        await remember(memories, user, "1", "I keep bees.")
        await remember(memories, BOB, "1", "Bob keeps geese.")
        done = await erase(runtime, user=user.user)
        assert (done.memories, done.events) == (1, 2)
        assert await kept(memories, user) == []
        assert [entry.memory.text for entry in await kept(memories, BOB)] == ["Bob keeps geese."]
        assert [scope for scope in await memories.catch_up_all("default") if scope.user] == [BOB]
        await assert_whole(runtime)
        back = await remember(memories, user, "2", "I keep wasps now.")
        await memories.rebuild("default")
        assert [entry.memory.id for entry in await kept(memories, user)] == [back]
        await assert_whole(runtime)
        await erase(runtime, user=user.user)
        assert await kept(memories, user) == []
        kept_somewhere = await everywhere(runtime) if url.startswith("postgres") else in_files(url)
        assert b"zoe@stable" not in kept_somewhere
        assert b"wasps" not in kept_somewhere
        assert b"geese" in kept_somewhere


async def test_what_was_made_in_sight_of_it_goes_and_a_fork_does_not_keep_it(url):
    async with Runtime.open(url, agents=[VET]) as runtime:
        memories = await runtime.parts.memories()
        given = await ended(runtime)
        fork = await (await runtime.session(given)).fork(seq=3)
        with suppress(Conflict):  # it has ended by itself
            await fork.cancel()
        while (await runtime.parts.store.streams("default", prefix=fork.id))[0].worker is not None:
            await runtime.let_go(fork.stream)
        first = await remember(memories, ADA, "1", "The bay mare had colic in spring.")
        await memories.recall(ADA, "colic mare", call=f"{given}/0.recall")
        retold = await remember(memories, ADA, "2", "Noted: the bay mare had colic.", given)
        own = await remember(memories, ADA, "3", "Feed less wet grass.", given)
        found = await plan(runtime, ids=(first,))
        assert {one.id: one.reason for one in found.memories} == {first: "named", retold: "retold"}
        assert found.possible == (own,)
        assert set(found.sessions) == {given, fork.id}
        await erase(runtime, ids=(first,))
        assert [entry.memory.id for entry in await kept(memories, ADA)] == [own]


async def test_a_session_that_goes_on_is_named_and_nothing_is_erased(url):
    async with Runtime.open(url, agents=[VET], worker=False) as runtime:
        memories = await runtime.parts.memories()
        live = await runtime.start(VET, "Wait.")
        name = await remember(memories, ADA, "1", "The mare is lame.", live.id)
        head = await runtime.parts.store.head()
        assert (await plan(runtime, ids=(name,))).waiting == (live.id,)
        with pytest.raises(Conflict, match=live.id):
            await erase(runtime, ids=(name,))
        assert await runtime.parts.store.head() == head
        assert [entry.memory.id for entry in await kept(memories, ADA)] == [name]


async def test_whoever_dies_at_any_write_leaves_what_the_same_command_finishes(tmp_path):
    for last in range(1, 30):
        path = tmp_path / f"{last}.db"
        async with Runtime.open(path, agents=[VET]) as runtime:
            memories = await runtime.parts.memories()
            wrote, given = await ended(runtime), await ended(runtime)
            await remember(memories, ADA, "1", f"The {SECRET} mare had colic.", wrote)
            await memories.describe(ADA, EntityDescribed(SECRET, "horse", Source("agent:vet")))
            await memories.recall(ADA, SECRET, call=f"{given}/0.recall")
            await remember(memories, ADA, "2", f"Again: the {SECRET} mare had colic.", given)
            mortal = Mortal(runtime.parts.store, last)
            runtime.parts.store = mortal
            is_done = False
            try:
                await erase(runtime, subject=SECRET)
                is_done = True
            except ZeroDivisionError:
                pass
            mortal.left = 10**9
            await erase(runtime, subject=SECRET)
            for name in (wrote, given):
                with pytest.raises(Erased):
                    await (await runtime.session(name)).facts()
            assert await kept(memories, ADA) == []
            await assert_whole(runtime)
        raw = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name.startswith(f"{last}.db"))
        assert SECRET.encode() not in raw
        if is_done:
            return
    raise AssertionError("it never came to an end")


class Mortal:
    """A store of which each call that erases may be the last: before it is done, and after."""

    def __init__(self, store, left: int) -> None:
        self._store = store
        self.left = left

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def erase(self, *arguments, **options):
        self._tick()
        await self._store.erase(*arguments, **options)
        self._tick()

    def _tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ZeroDivisionError


async def test_memories_that_come_meanwhile_are_not_lost(url):
    async with Runtime.open(url, agents=[VET]) as runtime:
        memories = await runtime.parts.memories()
        names = [await remember(memories, ADA, f"{number}", f"Fact {number} of many.") for number in range(6)]
        writing = [remember(memories, ADA, f"new {number}", f"News {number}.") for number in range(6)]
        await asyncio.gather(erase(runtime, ids=tuple(names[::2])), *writing)
        texts = {entry.memory.text for entry in await kept(memories, ADA)}
        assert texts == {f"Fact {number} of many." for number in range(1, 6, 2)} | {f"News {n}." for n in range(6)}
        await assert_whole(runtime)


async def test_content_of_a_memory_that_somebody_took_away_by_hand_is_found(url):
    async with Runtime.open(url, agents=[VET], worker=False) as runtime:
        memories, parts = await runtime.parts.memories(), runtime.parts
        name = await remember(memories, ADA, "1", "The mare is lame.")
        await remember(memories, ADA, "2", "The mare is bay.")
        await erase(runtime, ids=(name,))
        history = await Housekeeping(
            parts.journal, parts.blobs, parts.views, parts.clock, tenant="default", by="x"
        ).history()
        assert [event.events for _, event in history if isinstance(event, MemoriesErased)] == [(2,)]
        if isinstance(parts.store, PostgresStore):
            server = parts.store.server
            await server.fetch(
                server.sql("""UPDATE @schema.events SET data = '{"type":"event.erased"}'::bytea WHERE seq = 3""")
            )
        else:
            assert isinstance(parts.store, SqliteStore)
            await parts.store.write(
                lambda connection: connection.execute(
                    """UPDATE events SET data = CAST('{"type":"event.erased"}' AS BLOB) WHERE seq = 3"""
                )
            )
        proof = await verify(parts.store, parts.blobs, ADA.stream)
        assert proof.problems == ["the content of event 3 is gone, and nothing is written of who erased it"]
