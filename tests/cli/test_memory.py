"""`ostler memory`: what agents remember, looked at and taken back, by those who may."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ostler import Agent, MemorySettings
from ostler.app.service import Runtime
from ostler.app.settings import resolve
from ostler.cli.exits import Exit
from ostler.domain.identity import LOCAL_USER
from ostler.domain.memory.events import EntityDescribed
from ostler.domain.memory.memory import Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.kernel.event import timestamp
from ostler.testing import Scripted
from tests.cli.conftest import Ostler

ADA = ("--agent", "clerk", "--user", "ada")
WRITES = {
    "house": (Scope("default"), "fact", "The house closes at six, and tea is at four.", "ses_4/1.1", ("user",), ()),
    "tea": (Scope("default", "clerk", "ada"), "fact", "Ada likes green tea.", "ses_1/1.1", ("user",), ()),
    "iban": (
        Scope("default", "clerk", "ada"),
        "fact",
        "Pay to IBAN X.",
        "ses_2/1.1",
        ("tool.web.fetch", "user"),
        ("untrusted",),
    ),
    "trip": (Scope("default", "clerk", "ada"), "episode", "Ada flew to Rome.", "ses_2/2.1", ("user",), ()),
    "bo": (Scope("default", "clerk", "bo"), "fact", "Bo likes black tea.", "ses_3/1.1", ("user",), ()),
}


@pytest.fixture
def ids(project: Path) -> dict[str, str]:
    """What is remembered in the project, by the names of `WRITES`."""

    async def fill() -> dict[str, str]:
        async with Runtime.open(resolve(os.environ, Path.cwd()), worker=False) as runtime:
            memories = await runtime.parts.memories()
            made = {}
            for name, (scope, kind, text, call, sources, labels) in WRITES.items():
                wish = Wish(kind, text, Source("agent:clerk", call, sources), labels)  # type: ignore[arg-type]
                made[name] = (await memories.remember(scope, wish, key=call)).id
            return made

    return asyncio.run(fill())


@pytest.fixture
def people(ostler: Ostler) -> Callable[..., Result]:
    """Runs a command as somebody of the directory: ada and bo, who have no scopes, and an auditor and a keeper."""
    for words in (("ada",), ("bo",), ("auditor", "--scope", "memory.read"), ("keeper", "--scope", "memory.*")):
        assert ostler("principal", "add", *words).exit_code == 0

    def run(name: str, *words: str) -> Result:
        return ostler("memory", *words, "--as", name)

    return run


def data(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.usefixtures("ids")
def test_no_scope_is_an_error_that_says_what_to_name(ostler: Ostler) -> None:
    for words in (("list",), ("search", "tea"), ("explain", "tea"), ("export",)):
        done = ostler("memory", *words)
        assert done.exit_code != 0
        assert "there is none that means all" in done.stderr
        assert "--agent" in done.stderr


def test_a_scope_is_listed_the_newest_first_and_nothing_else_is(ostler: Ostler, ids: dict[str, str]) -> None:
    found = data(ostler("memory", "list", *ADA, "--json"))
    assert [one["id"] for one in found] == [ids["trip"], ids["iban"], ids["tea"]]
    table = ostler("memory", "list", *ADA).stdout
    assert "untrusted" in table
    assert "Bo likes" not in table


def test_a_list_goes_on_below_a_position(ostler: Ostler, ids: dict[str, str]) -> None:
    done = ostler("memory", "list", *ADA, "-n", "2", "--json")
    assert f"--before {data(done)[-1]['position']}" in done.stderr
    rest = data(ostler("memory", "list", *ADA, "--before", str(data(done)[-1]["position"]), "--json"))
    assert [one["id"] for one in rest] == [ids["tea"]]


def test_a_search_shows_each_lane_of_the_score(ostler: Ostler, ids: dict[str, str]) -> None:
    found = data(ostler("memory", "search", "which tea?", *ADA, "--json"))
    assert [one["memory"]["id"] for one in found["found"]] == [ids["tea"], ids["house"]]
    for one in found["found"]:
        assert {"relevance", "recency", "importance", "frequency", "words"} <= set(one["lanes"])
        assert all(0 <= value <= 1 for value in one["lanes"].values())
    explained = ostler("memory", "explain", "which tea?", *ADA).stdout
    assert "relevance" in explained
    assert "Ada likes green tea." in explained


def test_searching_counts_nothing_as_recalled(ostler: Ostler, ids: dict[str, str]) -> None:
    ostler("memory", "search", "tea", *ADA)
    assert data(ostler("memory", "show", ids["tea"], "--json"))[0]["recalls"] == 0


def test_a_memory_is_shown_with_where_it_came_from(ostler: Ostler, ids: dict[str, str]) -> None:
    shown = ostler("memory", "show", ids["iban"]).stdout
    for said in ("Pay to IBAN X.", "clerk / ada", "ses_2/1.1", "tool.web.fetch, user", "untrusted"):
        assert said in shown
    done = ostler("memory", "show", "mem_none")
    assert done.exit_code != 0
    assert "There is no memory mem_none." in done.stderr


def test_what_is_forgotten_can_be_restored_and_seen_as_of_then(ostler: Ostler, ids: dict[str, str]) -> None:
    before = data(ostler("memory", "list", *ADA, "--json"))
    assert data(ostler("memory", "forget", ids["tea"], "--because", "wrong", "--json")) == {"ids": [ids["tea"]]}
    assert ids["tea"] not in ostler("memory", "list", *ADA).stdout
    closed = data(ostler("memory", "list", *ADA, "--closed", "--json"))
    assert [one["ended_by"] for one in closed if "ended_by" in one] == ["forgotten"]
    then = str(before[0]["position"])
    assert len(data(ostler("memory", "list", *ADA, "--as-of", then, "--json"))) == 3
    assert data(ostler("memory", "forget", ids["tea"], "--json")) == {"ids": []}
    assert data(ostler("memory", "restore", ids["tea"], "--json")) == {"ids": [ids["tea"]]}
    assert [one["id"] for one in data(ostler("memory", "list", *ADA, "--json"))] == [one["id"] for one in before]


def test_what_was_remembered_is_seen_as_of_a_moment(ostler: Ostler, ids: dict[str, str]) -> None:
    first, second, third = reversed(data(ostler("memory", "list", *ADA, "--json")))
    for moment, number in (
        ("2020-01-01", 0),
        (first["remembered"], 1),
        (second["remembered"], 2),
        (third["remembered"], 3),
        ("2999-01-01", 3),
    ):
        assert len(data(ostler("memory", "list", *ADA, "--as-of", moment, "--json"))) == number
    done = ostler("memory", "list", *ADA, "--as-of", "then")
    assert "'then' is no position and no moment." in done.stderr


def test_memories_are_pinned_and_unpinned(ostler: Ostler, ids: dict[str, str]) -> None:
    assert ostler("memory", "pin", ids["trip"]).exit_code == 0
    assert data(ostler("memory", "show", ids["trip"], "--json"))[0]["is_pinned"] is True
    assert ostler("memory", "pin", ids["trip"], "--off").exit_code == 0
    assert "is_pinned" not in data(ostler("memory", "show", ids["trip"], "--json"))[0]


def test_what_a_tool_said_is_rolled_back_after_a_look(ostler: Ostler, ids: dict[str, str]) -> None:
    words = ("rollback", "--source", "tool.web.*", "--json")
    dry = data(ostler("memory", *words, "--dry-run"))
    assert ([one["id"] for one in dry["memories"]], dry["is_done"]) == ([ids["iban"]], False)
    refused = ostler("memory", *words, input="n\n")
    assert refused.exit_code != 0
    assert ids["iban"] in ostler("memory", "list", *ADA).stdout
    done = data(ostler("memory", *words, "--yes"))
    assert ([one["id"] for one in done["memories"]], done["is_done"]) == ([ids["iban"]], True)
    left = data(ostler("memory", "list", *ADA, "--json"))
    assert [one["id"] for one in left] == [ids["trip"], ids["tea"]]


def test_what_a_session_wrote_is_rolled_back_after_a_position(ostler: Ostler, ids: dict[str, str]) -> None:
    iban = data(ostler("memory", "show", ids["iban"], "--json"))[0]
    words = ("rollback", "--session", "ses_2", "--after", str(iban["position"]), "--yes", "--json")
    assert [one["id"] for one in data(ostler("memory", *words))["memories"]] == [ids["trip"]]
    both = ostler("memory", "rollback", "--session", "ses_2", "--source", "user")
    assert "Name a --session or a --source." in both.stderr


def test_the_beginning_of_an_id_is_enough_to_roll_a_session_back(project: Path, ostler: Ostler) -> None:
    agent = Agent("clerk", model=Scripted("Noted.")).with_settings(MemorySettings())

    async def run() -> str:
        async with Runtime.open(resolve(os.environ, Path.cwd()), agents=[agent]) as runtime:
            session = await runtime.start(agent, "Remember that tea is at four")
            await session.result(timeout_s=30)
            return session.id

    session = asyncio.run(run())
    done = data(ostler("memory", "rollback", "--session", session[:-4], "--dry-run", "--json"))
    assert [one["call"] for one in done["memories"]] == [f"{session}/episode"]
    assert len(data(ostler("memory", "rollback", "--session", session[:-4], "--yes", "--json"))["memories"]) == 1
    none = ostler("memory", "rollback", "--session", session[:-4], "--yes")
    assert (none.stdout, none.exit_code) == ("", 0)
    assert "Nothing in force was written by" in none.stderr


def test_on_a_narrow_terminal_each_memory_is_one_line_of_what_matters_most(
    ostler: Ostler, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    head, _, *lines = ostler("memory", "list", *ADA).stdout.splitlines()
    assert head.split() == ["id", "kind", "age", "text"]
    assert [line.split()[0] for line in lines] == [ids["trip"], ids["iban"], ids["tea"]]
    monkeypatch.setenv("COLUMNS", "120")
    head, *_ = ostler("memory", "list", *ADA).stdout.splitlines()
    assert head.split() == ["id", "kind", "age", "strength", "recalled", "text"]


def test_where_nothing_is_remembered_one_is_told_so_and_where_to_look(ostler: Ostler, project: Path) -> None:
    assert ostler("run", "clerk", "answer").exit_code == 0
    done = ostler("memory", "stats")
    assert (done.stdout, done.stderr) == ("", "Nothing is remembered yet.\n")
    listed = ostler("memory", "list", "--agent", "clerk")
    assert (listed.stdout, listed.exit_code) == ("", 0)
    assert "`ostler memory stats` lists whose memories there are." in listed.stderr
    erased = ostler("memory", "erase", "--user", "zoe", "--because", "she asked to", "--yes")
    assert erased.stdout == ""
    assert "Nothing like this is remembered." in erased.stderr


def test_an_export_is_lines_of_json(ostler: Ostler, ids: dict[str, str]) -> None:
    done = ostler("memory", "export", *ADA)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["id"]: one["text"] for one in lines} == {ids[name]: WRITES[name][2] for name in ("tea", "iban", "trip")}
    assert "3 memories written." in done.stderr


@pytest.mark.usefixtures("ids")
def test_the_statistics_count_every_scope_or_one(ostler: Ostler) -> None:
    scopes = data(ostler("memory", "stats", "--json"))["scopes"]
    assert [(one["level"], one["user"], one["facts"], one["episodes"]) for one in scopes] == [
        ("tenant", "", 1, 0),
        ("user", "ada", 2, 1),
        ("user", "bo", 1, 0),
    ]
    (one,) = data(ostler("memory", "stats", "--shared", "--json"))["scopes"]
    assert one["level"] == "tenant"
    assert "clerk" in ostler("memory", "stats").stdout


def test_the_index_is_filled_anew_from_the_log(ostler: Ostler, ids: dict[str, str], project: Path) -> None:
    before = ostler("memory", "list", *ADA, "--json").stdout
    done = ostler("memory", "rebuild")
    assert "filled anew from 8 events" in done.stderr  # three openings and five memories
    for file in project.glob("*.memory*"):
        file.unlink()
    assert json.loads(before) == data(ostler("memory", "list", *ADA, "--json"))


@pytest.mark.usefixtures("ids")
def test_what_agents_keep_for_oneself_one_may_see(people: Callable[..., Result]) -> None:
    assert len(data(people("ada", "list", *ADA, "--json"))) == 3
    refused = people("bo", "list", *ADA)
    assert refused.exit_code != 0
    assert "bo lacks the scope 'memory.read' for the memories of default/clerk/ada." in refused.stderr


@pytest.mark.usefixtures("ids")
def test_all_else_takes_a_scope(people: Callable[..., Result]) -> None:
    for words in (("list", "--shared"), ("stats",), ("rollback", "--session", "ses_2", "--yes"), ("rebuild",)):
        assert people("ada", *words).exit_code != 0
    assert people("auditor", "list", "--shared").exit_code == 0
    assert people("auditor", "stats").exit_code == 0
    assert people("auditor", "rebuild").exit_code != 0
    assert people("keeper", "rebuild").exit_code == 0


def test_a_search_shows_nobody_what_they_may_not_see(people: Callable[..., Result], ids: dict[str, str]) -> None:
    found = data(people("ada", "search", "tea", *ADA, "--json"))
    assert [one["memory"]["id"] for one in found["found"]] == [ids["tea"]]
    assert found["left_out"] == 1


def test_a_memory_that_one_may_not_see_is_as_if_it_were_not_there(
    people: Callable[..., Result], ids: dict[str, str]
) -> None:
    for words in (("show", ids["bo"]), ("forget", ids["bo"])):
        done = people("ada", *words)
        assert done.exit_code != 0
        assert f"There is no memory {ids['bo']}." in done.stderr
    assert people("ada", "forget", ids["tea"]).exit_code == 0


def test_who_may_only_read_changes_nothing(people: Callable[..., Result], ids: dict[str, str]) -> None:
    assert people("auditor", "show", ids["bo"]).exit_code == 0
    done = people("auditor", "forget", ids["bo"])
    assert "lacks the scope 'memory.write'" in done.stderr
    assert people("keeper", "forget", ids["bo"]).exit_code == 0


@pytest.mark.usefixtures("ids")
def test_a_tenant_sees_nothing_of_another(ostler: Ostler) -> None:
    assert ostler("principal", "add", "eve", "--scope", "*", "--as", "globex/local").exit_code == 0
    for words in (("list", "--shared"), ("stats",), ("list", *ADA), ("search", "tea", *ADA)):
        done = ostler("memory", *words, "--as", "globex/eve", "--json")
        assert "tea" not in done.stdout


def test_a_relation_is_shown_as_what_it_states(ostler: Ostler, project: Path) -> None:
    async def fill() -> str:
        async with Runtime.open(resolve(os.environ, Path.cwd()), worker=False) as runtime:
            relation = Relation("Ada", "works_at", "Initech")
            wish = Wish("fact", "Ada works at Initech.", Source("user:ada"), relation=relation, valid_from_us=0)
            memories = await runtime.parts.memories()
            return (await memories.remember(Scope(LOCAL_USER.tenant), wish, key="1")).id

    shown = ostler("memory", "show", asyncio.run(fill())).stdout
    assert "Ada –works_at→ Initech" in shown
    assert timestamp(0) in shown


def test_what_is_erased_is_named_before_and_gone_after(ostler: Ostler, ids: dict[str, str], project: Path) -> None:
    words = ("erase", ids["tea"], "--because", "they asked for it")
    dry = data(ostler("memory", *words, "--dry-run", "--json"))
    assert (dry["memories"], dry["is_done"]) == ([ids["tea"]], False)
    assert ostler("memory", *words, input="n\n").exit_code != 0
    assert ostler("memory", "show", ids["tea"]).exit_code == 0
    assert data(ostler("memory", *words, "--yes", "--json"))["memories"] == [ids["tea"]]
    assert ostler("memory", "show", ids["tea"]).exit_code != 0
    assert ostler("verify").exit_code == 0
    for file in project.glob("*.db*"):
        assert b"green tea" not in file.read_bytes(), file


def test_all_that_is_kept_for_a_user_is_erased(ostler: Ostler, ids: dict[str, str]) -> None:
    done = data(ostler("memory", "erase", "--user", "ada", "--because", "left", "--yes", "--json"))
    assert sorted(done["memories"]) == sorted(ids[name] for name in ("tea", "iban", "trip"))
    assert [one["user"] for one in data(ostler("memory", "stats", "--json"))["scopes"] if one["facts"]] == ["", "bo"]


def test_erasing_takes_a_scope_even_for_what_is_ones_own(people: Callable[..., Result], ids: dict[str, str]) -> None:
    words = ("erase", ids["tea"], "--because", "x", "--yes")
    assert "lacks the scope 'memory.erase'" in people("ada", *words).stderr
    assert people("keeper", *words).exit_code == 0


@pytest.mark.usefixtures("ids")
def test_nothing_is_erased_without_being_named(ostler: Ostler) -> None:
    assert "Say what is to be erased" in ostler("memory", "erase", "--because", "x", "--yes").stderr


def test_what_is_there_twice_is_merged_after_a_look_and_comes_back_when_it_is_restored(
    ostler: Ostler, project: Path
) -> None:
    async def fill() -> list[str]:
        async with Runtime.open(resolve(os.environ, Path.cwd()), worker=False) as runtime:
            memories, scope = await runtime.parts.memories(), Scope("default", "clerk", "ada")
            wishes = [(text, Wish("fact", text, Source("user:ada"))) for text in ("Ada likes tea", "Ada likes tea.")]
            return [made.id for made in await memories.remember_all(scope, wishes)]

    ids = asyncio.run(fill())
    planned = data(ostler("memory", "consolidate", *ADA, "--dry-run", "--json"))
    assert planned["is_done"] is False
    done = data(ostler("memory", "consolidate", *ADA, "--json"))
    (step,) = done["became"]
    assert (step["how"], set(step["of"]), done["became"]) == ("merged", set(ids), planned["became"])
    assert [one["id"] for one in data(ostler("memory", "list", *ADA, "--json"))] == [step["into"]]
    assert set(data(ostler("memory", "restore", ids[0], "--json"))["ids"]) == set(ids)
    assert {one["id"] for one in data(ostler("memory", "list", *ADA, "--json"))} == set(ids)
    assert "0 steps taken." in ostler("memory", "consolidate", *ADA).stderr


def test_nothing_that_is_remembered_steers_a_terminal(ostler: Ostler, project: Path) -> None:
    evil, scope = "a\x1b]0;mine\x07\x9b31m\u202eb", Scope(LOCAL_USER.tenant)

    async def fill() -> str:
        async with Runtime.open(resolve(os.environ, Path.cwd()), worker=False) as runtime:
            memories = await runtime.parts.memories()
            source = Source(evil, evil, (evil,))
            relation = Relation(evil, evil, evil)
            wish = Wish("fact", evil, source, (evil,), tags=(evil,), key=evil, relation=relation, caused_by=evil)
            name = (await memories.remember(scope, wish, key="1")).id
            await memories.describe(scope, EntityDescribed(evil, evil, source, {evil: evil}))
            return name

    name = asyncio.run(fill())
    for words in (
        ("memory", "show", name),
        ("memory", "list", "--shared"),
        ("memory", "search", "mine", "--shared"),
        ("memory", "explain", "mine", "--shared"),
        ("memory", "erase", "--subject", evil, "--because", "x", "--dry-run"),
        ("graph", "show", evil, "--shared"),
        ("graph", "rank", "--shared"),
        ("graph", "cycles", "--shared"),
    ):
        done = ostler(*words)
        assert "mine" in done.stdout, (words, done.output)
        steering = {char for char in done.output if not char.isprintable() and char != "\n"}
        assert not steering, (words, steering)


def test_a_position_that_no_store_ever_reaches_means_all(ostler: Ostler, ids: dict[str, str]) -> None:
    for option in ("--as-of", "--before"):
        (found,) = data(ostler("memory", "list", "--shared", option, "9" * 19, "--json"))
        assert found["id"] == ids["house"]
    assert ostler("memory", "list", "--shared", "--as-of", "9" * 5000).exit_code == Exit.USAGE
