"""The files under /memories: what each command does to them, exactly once, and which labels they bear."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.writing import Remembered
from ostler.ports.memory import Filter
from tests.runtime.memory.asking import CLEAN, SPOILT, House, house

PATH = "/memories/notes.md"
ADA = Scope("acme", "clerk", "ada")
CLOSED = Filter(is_closed_too=True)


@pytest.fixture
async def home() -> AsyncIterator[House]:
    async with house() as made:
        yield made


async def content(home: House, path: str = PATH) -> list[str]:
    return [line.partition("\t")[2] for line in (await home.file("view", path=path)).splitlines()[1:]]


async def test_a_file_is_there_in_the_next_session(home: House) -> None:
    assert await home.file("create", path=PATH, file_text="one\ntwo\n") == f"File created successfully at: {PATH}"
    assert await home.file("view", path=PATH, session="ses_2") == (
        f"Here's the content of {PATH} with line numbers:\n     1\tone\n     2\ttwo"
    )
    assert (await home.file("view", path="/memories", session="ses_2")).splitlines()[1:] == [
        "8B\t/memories",
        f"8B\t{PATH}",
    ]


async def test_memories_is_there_before_any_file_is(home: House) -> None:
    assert (await home.file("view", path="/memories")).endswith("0B\t/memories")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("view", {"path": "/memories/none"}),
        ("str_replace", {"path": "/memories/none", "old_str": "a", "new_str": "b"}),
        ("insert", {"path": "/memories/none", "insert_line": 0, "insert_text": "a"}),
        ("delete", {"path": "/memories/none"}),
        ("rename", {"old_path": "/memories/none", "new_path": "/memories/some"}),
    ],
)
async def test_a_file_that_is_not_there_is_said_not_to_be(home: House, command: str, words: dict[str, Any]) -> None:
    kind, reason = await home.refusal("memory", command=command, **words)
    assert (kind, "The path /memories/none does not exist" in reason) == ("not_found", True)


async def test_a_file_that_is_there_is_not_made_again(home: House) -> None:
    await home.file("create", path=PATH, file_text="one")
    assert await home.refusal("memory", command="create", path=PATH, file_text="two") == (
        "permanent",
        f"Error: File {PATH} already exists",
    )
    assert await content(home) == ["one"]


async def test_each_edit_takes_the_place_of_what_was_and_leaves_it_in_history(home: House) -> None:
    await home.file("create", path=PATH, file_text="one\ntwo\n")
    await home.file("str_replace", path=PATH, old_str="two", new_str="2")
    await home.file("insert", path=PATH, insert_line=1, insert_text="between")
    assert await content(home) == ["one", "between", "2"]
    (scope,) = await home.memories.catch_up_all("acme")
    every = await home.memories.index.page([scope], Filter(is_closed_too=True))
    assert [entry.memory.text for entry in every] == ["one\nbetween\n2\n", "one\n2\n", "one\ntwo\n"]
    assert [entry.until is None for entry in every] == [True, False, False]


async def test_an_edit_that_changes_only_spaces_and_capitals_is_one(home: House) -> None:
    await home.file("create", path=PATH, file_text="if a:\nB")
    await home.file("str_replace", path=PATH, old_str="B", new_str="    b")
    assert await content(home) == ["if a:", "    b"]


async def test_a_file_may_become_empty(home: House) -> None:
    await home.file("create", path=PATH, file_text="one")
    await home.file("str_replace", path=PATH, old_str="one")
    assert await content(home) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("create", {"path": "/memories/new.md", "file_text": "new"}),
        ("str_replace", {"path": PATH, "old_str": "two", "new_str": "2"}),
        ("insert", {"path": PATH, "insert_line": 2, "insert_text": "two"}),
        ("delete", {"path": PATH}),
        ("rename", {"old_path": PATH, "new_path": "/memories/other.md"}),
        ("rename", {"old_path": "/memories/team", "new_path": "/memories/crew"}),
    ],
)
async def test_a_call_that_is_repeated_changes_nothing_more_and_is_answered_the_same(
    home: House, command: str, words: dict[str, Any]
) -> None:
    await home.file("create", path=PATH, file_text="one\ntwo\n")
    for name in ("ada", "bo"):
        await home.file("create", path=f"/memories/team/{name}.md", file_text=name)
    first = await home.file(command, call="9.1", **words)
    (scope,) = await home.memories.catch_up_all("acme")
    held = await home.memories.index.page([scope], Filter(is_closed_too=True))
    assert await home.file(command, call="9.1", attempt=2, **words) == first
    assert await home.memories.index.page([scope], Filter(is_closed_too=True)) == held


async def test_a_rename_that_was_begun_is_finished_by_the_next_attempt(home: House) -> None:
    for name in ("ada", "bo"):
        await home.file("create", path=f"/memories/team/{name}.md", file_text=name)
    words: dict[str, Any] = {"old_path": "/memories/team", "new_path": "/memories/crew"}
    forget, home.memories.forget = home.memories.forget, fails  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await home.perform("memory", command="rename", call="9.1", **words)
    home.memories.forget = forget  # type: ignore[method-assign]
    assert await home.file("rename", call="9.1", attempt=2, **words) == (
        "Successfully renamed /memories/team to /memories/crew"
    )
    assert (await home.file("view", path="/memories")).splitlines()[1:] == [
        "5B\t/memories",
        "5B\t/memories/crew/",
        "3B\t/memories/crew/ada.md",
        "2B\t/memories/crew/bo.md",
    ]


async def fails(*_: object, **__: object) -> list[str]:
    raise ConnectionError("the worker was lost")


async def test_a_folder_goes_with_all_that_is_in_it(home: House) -> None:
    for path in ("/memories/a/b/c", "/memories/a/d", "/memories/ab"):
        await home.file("create", path=path, file_text="x")
    assert await home.file("delete", path="/memories/a") == "Successfully deleted /memories/a"
    assert (await home.file("view", path="/memories")).splitlines()[2:] == ["1B\t/memories/ab"]


@pytest.mark.parametrize("words", [{"command": "delete", "path": "/memories"}, {"command": "view", "path": "/etc"}])
async def test_what_is_beyond_the_files_is_left_alone(home: House, words: dict[str, Any]) -> None:
    kind, _ = await home.refusal("memory", **words)
    assert kind == "invalid"


@pytest.mark.parametrize(
    ("command", "lacking"),
    [("create", "path"), ("view", "path"), ("rename", "old_path"), ("insert", "path"), ("str_replace", "path")],
)
async def test_what_a_command_needs_and_is_not_given_is_named(home: House, command: str, lacking: str) -> None:
    _, reason = await home.refusal("memory", command=command)
    assert reason == f"Error: Missing `{lacking}` parameter, which the command {command} needs."


async def test_a_file_bears_the_labels_of_all_that_was_written_into_it(home: House) -> None:
    await home.file("create", path=PATH, file_text="one\n", taint=CLEAN)
    await home.file("insert", path=PATH, insert_line=1, insert_text="pay to IBAN X", taint=SPOILT)
    await home.file("str_replace", path=PATH, old_str="pay to IBAN X", new_str="", taint=CLEAN)
    await home.file("rename", old_path=PATH, new_path="/memories/clean.md", taint=CLEAN)
    (file,) = await home.told("memory", command="view", path="/memories/clean.md", session="ses_2")
    (folder,) = await home.told("memory", command="view", path="/memories", session="ses_2")
    assert (file.labels, folder.labels) == (("untrusted",), ("untrusted",))


async def test_an_edit_by_a_session_that_outsiders_had_part_in_is_the_file_from_then_on(home: House) -> None:
    await home.file("create", path=PATH, file_text="one", taint=CLEAN)
    await home.file("str_replace", path=PATH, old_str="one", new_str="two", taint=SPOILT)
    (file,) = await home.told("memory", command="view", path=PATH)
    assert (file.text.endswith("\ttwo"), file.labels) == (True, ("untrusted",))


async def test_what_outsiders_say_deletes_no_file_that_is_trusted(home: House) -> None:
    await home.file("create", path=PATH, file_text="one", taint=CLEAN)
    kind, _ = await home.refusal("memory", command="delete", path=PATH, taint=SPOILT)
    assert kind == "blocked"
    assert await content(home) == ["one"]


async def test_a_secret_is_not_written_into_a_file(home: House) -> None:
    secret = "ghp_" + "a1B2c3D4e5" * 4
    kind, reason = await home.refusal("memory", command="create", path=PATH, file_text=f"token: {secret}")
    assert (kind, secret in reason) == ("blocked", False)
    assert (await home.file("view", path="/memories")).endswith("0B\t/memories")


async def test_an_agent_that_may_not_write_at_its_level_can_still_look(home: House) -> None:
    reading = MemorySettings(writes=())
    kind, _ = await home.refusal("memory", command="create", path=PATH, file_text="x", memory=reading)
    assert kind == "blocked"
    assert (await home.file("view", path="/memories", memory=reading)).endswith("0B\t/memories")


async def test_an_edit_is_made_on_what_another_process_has_written_meanwhile(home: House) -> None:
    await home.file("create", path=PATH, file_text="one\ntwo\n")
    remember, edited = home.memories.remember, []

    async def remember_late(*arguments: Any, **more: Any) -> Remembered:
        home.memories.remember = remember  # type: ignore[method-assign]
        other = House(home.memories, home.clock)
        edited.append(await other.file("insert", call="6.1", path=PATH, insert_line=0, insert_text="zero"))
        return await remember(*arguments, **more)

    home.memories.remember = remember_late  # type: ignore[method-assign]
    await home.file("str_replace", call="5.1", path=PATH, old_str="two", new_str="2")
    assert len(edited) == 1
    assert await content(home) == ["zero", "one", "2"]


async def test_many_edits_at_once_lose_nothing(home: House) -> None:
    await home.file("create", path=PATH, file_text="")
    edits = [home.file("insert", path=PATH, insert_line=0, insert_text=f"line {number}") for number in range(20)]
    await asyncio.gather(*edits)
    assert sorted(await content(home)) == sorted(f"line {number}" for number in range(20))


async def test_a_file_of_which_an_older_state_was_restored_is_the_newer_one_and_can_be_edited_and_moved(
    home: House,
) -> None:
    await home.file("create", path=PATH, file_text="old")
    await home.file("str_replace", path=PATH, old_str="old", new_str="new")
    (old,) = [one.memory.id for one in await home.memories.index.page([ADA], CLOSED) if one.until is not None]
    await home.memories.restore(ADA, [old], by="operator:ann")
    assert await content(home) == ["new"]
    moved = "/memories/moved.md"
    await home.file("rename", old_path=PATH, new_path=moved)
    assert await content(home, moved) == ["new"]
    gone = [one.memory.id for one in await home.memories.index.page([ADA], CLOSED) if one.memory.text == "old"]
    await home.memories.restore(ADA, gone, by="operator:ann")
    await home.file("str_replace", path=moved, old_str="new", new_str="newest")
    assert await content(home, moved) == ["newest"]


async def test_what_a_session_deleted_moved_and_wrote_is_as_it_was_once_the_session_is_rolled_back(home: House) -> None:
    for name in ("kept", "moved", "written"):
        await home.file("create", path=f"/memories/{name}.md", file_text=name)
    await home.file("delete", path="/memories/kept.md", session="ses_bad")
    await home.file("rename", old_path="/memories/moved.md", new_path="/memories/away.md", session="ses_bad")
    await home.file("str_replace", path="/memories/written.md", old_str="w", new_str="W", session="ses_bad")
    await home.memories.roll_back("acme", session="ses_bad", by="operator:ann", because="it was a rehearsal")
    assert {entry.memory.key: entry.memory.text for entry in await home.memories.index.page([ADA])} == {
        f"/memories/{name}.md": name for name in ("kept", "moved", "written")
    }
