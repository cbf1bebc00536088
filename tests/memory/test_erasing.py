"""Whatever a session does with a memory, it is known of it when that memory is erased; and nothing of it is left."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner

from ostler import Runtime
from ostler.app import erasure
from ostler.cli import cli
from ostler.domain.memory.events import EntityDescribed
from ostler.domain.memory.memory import Source
from ostler.domain.memory.scope import Scope
from ostler.domain.tool import ToolOutcome
from ostler.runtime.memory.memories import Memories
from tests.app.test_erasure import ADA, SECRET, VET, assert_whole, ended, erase, in_files, kept, plan, remember
from tests.runtime.memory.asking import EVERYWHERE, House


class Place(NamedTuple):
    """A store in a file, with its memories and the tools over them."""

    runtime: Runtime
    memories: Memories
    house: House
    url: str

    async def call(self, session: str, tool: str, **arguments: Any) -> ToolOutcome:
        """A call that Ada's session makes."""
        return await self.house.perform(
            tool, session=session, tenant="default", agent="vet", user="ada", memory=EVERYWHERE, **arguments
        )

    async def assert_gone(self, *words: str) -> None:
        """Of these words nothing is left, nor can they be had again from the log; and the log is whole."""
        await assert_whole(self.runtime)
        await self.memories.rebuild("default")
        for word in words:
            assert word.encode() not in in_files(self.url), word


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    url = f"sqlite:///{tmp_path}/ostler.db"
    async with Runtime.open(url, agents=[VET]) as runtime:
        memories = await runtime.parts.memories()
        yield Place(runtime, memories, House(memories, runtime.parts.clock), url)


def written(outcome: ToolOutcome) -> str:
    assert outcome.ok, outcome
    return str(msgspec.json.decode(outcome.output)["id"])


async def test_a_session_that_says_again_what_is_known_is_erased_with_it(place: Place) -> None:
    first, again = await ended(place.runtime), await ended(place.runtime)
    name = written(await place.call(first, "memory.remember", text=f"The {SECRET} mare is lame."))
    assert written(await place.call(again, "memory.remember", text=f"The {SECRET} mare is lame.")) == name
    assert set((await plan(place.runtime, ids=(name,))).sessions) == {first, again}


async def test_why_something_was_forgotten_is_erased_with_it(place: Place) -> None:
    session = await ended(place.runtime)
    gone = await remember(place.memories, ADA, "1", "The mare is lame.")
    stays = await remember(place.memories, ADA, "2", "The mare is bay.")
    await place.call(session, "memory.forget", ids=[gone, stays], because=f"{SECRET} said so")
    await erase(place.runtime, ids=(gone,))
    await erase(place.runtime, ids=(stays,))
    await place.assert_gone(SECRET)


async def test_of_two_that_were_forgotten_together_the_other_stays_so_when_one_is_erased(place: Place) -> None:
    gone = await remember(place.memories, ADA, "1", "The mare is lame.")
    stays = await remember(place.memories, ADA, "2", "The mare is bay.")
    await place.memories.forget(ADA, [gone, stays], by="operator:x", because="they are old")
    before = [entry for entry in await kept(place.memories, ADA) if entry.memory.id == stays]
    await erase(place.runtime, ids=(gone,))
    await place.memories.rebuild("default")
    assert await kept(place.memories, ADA) == before
    assert before[0].until is not None


async def test_the_path_of_a_file_that_was_deleted_or_renamed_is_erased_with_it(place: Place) -> None:
    session = await ended(place.runtime)
    path = f"/memories/{SECRET}.md"
    await place.call(session, "memory", command="create", path=path, file_text="Carrots.")
    await place.call(session, "memory", command="rename", old_path=path, new_path="/memories/b.md")
    await place.call(session, "memory", command="rename", old_path="/memories/b.md", new_path=path)
    await place.call(session, "memory", command="delete", path=path)
    await erase(place.runtime, subject=SECRET)
    await place.assert_gone(SECRET)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_file_is_erased_with_what_it_was_before_it_was_renamed_and_after(place: Place, which: int) -> None:
    wrote, moved = await ended(place.runtime), await ended(place.runtime)
    await place.call(wrote, "memory", command="create", path="/memories/a.md", file_text=f"Ask {SECRET} first.")
    await place.call(moved, "memory", command="rename", old_path="/memories/a.md", new_path="/memories/b.md")
    files = [entry.memory.id for entry in reversed(await kept(place.memories, ADA))]
    assert len(files) == 2
    done = await erase(place.runtime, ids=(files[which],))
    assert set(done.sessions) == {wrote, moved}
    await place.assert_gone(SECRET)


async def test_a_session_that_has_listed_a_folder_is_erased_with_the_files_in_it(place: Place) -> None:
    wrote, listed = await ended(place.runtime), await ended(place.runtime)
    await place.call(wrote, "memory", command="create", path=f"/memories/{SECRET}.md", file_text="Carrots.")
    await place.call(listed, "memory", command="view", path="/memories")
    assert set((await plan(place.runtime, subject=SECRET)).sessions) == {wrote, listed}


async def test_what_an_entity_was_called_goes_with_the_fact_that_named_it(place: Place) -> None:
    session = await ended(place.runtime)
    stated = {"subject": SECRET, "relation": "owns", "object": "a mare", "subject_kind": "person"}
    name = written(await place.call(session, "memory.relate", **stated))
    await erase(place.runtime, ids=(name,))
    assert await place.memories.index.entities([ADA]) == []
    await place.assert_gone(SECRET)


async def test_a_subject_is_found_in_everything_that_is_said_of_an_entity_with_the_session_that_said_it(
    place: Place,
) -> None:
    session = await ended(place.runtime)
    source = Source("agent:vet", f"{session}/1.1")
    await place.memories.describe(ADA, EntityDescribed("one", f"friend of {SECRET}", source))
    await place.memories.describe(ADA, EntityDescribed("two", "", source, {f"age of {SECRET}": 3}))
    found = await plan(place.runtime, subject=SECRET)
    assert found.entities == ((ADA, "one"), (ADA, "two"))
    assert found.sessions == (session,)
    await erase(place.runtime, subject=SECRET)
    await place.assert_gone(SECRET)


async def test_what_a_user_has_said_of_an_entity_for_all_goes_with_the_user(place: Place) -> None:
    await place.memories.describe(Scope("default", "vet"), EntityDescribed(SECRET, "horse", Source("user:ada")))
    await erase(place.runtime, user="ada")
    await place.assert_gone(SECRET)


async def test_what_another_attempt_of_a_call_is_given_is_known_of_it_too(place: Place) -> None:
    session = await ended(place.runtime)
    call = f"{session}/0.recall"
    await remember(place.memories, ADA, "1", "The mare is lame.")
    await place.memories.recall(ADA, "mare", call=call)
    later = await remember(place.memories, ADA, "2", f"The mare is {SECRET}.")
    given = await place.memories.recall(ADA, "mare", call=call, is_again=True)
    assert later in [one.entry.memory.id for one in given.found]
    assert (await plan(place.runtime, ids=(later,))).sessions == (session,)


async def test_what_died_before_the_index_was_cleared_is_finished_though_nothing_is_left_in_the_log(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.memories.describe(ADA, EntityDescribed(SECRET, "horse", Source("agent:vet")))
    words = ("memory", "erase", "--subject", SECRET, "--because", "asked to", "--yes")
    monkeypatch.setenv("OSTLER_STORE", place.url)

    async def dies(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(erasure, "_purge", dies)
        with pytest.raises(ZeroDivisionError):
            await erase(place.runtime, subject=SECRET)
    assert SECRET.encode() in in_files(place.url)
    done = await asyncio.to_thread(CliRunner().invoke, cli, words, prog_name="ostler")
    assert done.exit_code == 0, done.output
    assert SECRET.encode() not in in_files(place.url)


async def test_no_secret_is_written_as_the_reason_why_something_was_forgotten(place: Place) -> None:
    name = await remember(place.memories, ADA, "1", "The mare is lame.")
    secret = "sk-ant-api03-" + "aB3" * 30
    outcome = await place.call("ses_1", "memory.forget", ids=[name], because=f"it was {secret}")
    assert (outcome.ok, outcome.kind) == (False, "blocked")
    assert secret.encode() not in in_files(place.url)
    assert (await kept(place.memories, ADA))[0].until is None
