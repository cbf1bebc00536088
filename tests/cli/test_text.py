"""What models say while they say it, on the command line."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ostler.cli.speech import Speech, is_shown
from ostler.domain.live import Piece
from ostler.domain.session.events import ModelCompleted, ModelRequested, SessionEvent
from tests.runtime.processes import Child, child


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


async def watched(store: str, talker: Child, *options: str) -> list[str]:
    """The lines of `logs -f` in another process, which has heard the beginning before the reply goes on."""
    name = (await talker.until("session ")).partition(" ")[2]
    await talker.tell("say Let me see.")
    async with child("ostler", "--store", store, "logs", "-f", name, *options) as logs:
        early = [await logs.line()]
        while "Let me see." not in early[-1] and options:
            early.append(await logs.line())
        await talker.tell("say  I have it.")
        await talker.tell("end")
        lines = [*early, *await logs.rest()]
    await talker.ended()
    return lines


async def test_who_follows_a_log_in_another_process_reads_along(store: str) -> None:
    async with child("tests.runtime.talking", store) as talker:
        lines = await watched(store, talker, "--text", "-o", "jsonl")
    entries = [json.loads(line) for line in lines]
    pieces = [entry for entry in entries if entry["type"] == "live.text"]
    assert "".join(piece["text"] for piece in pieces) == "Let me see. I have it."
    assert {(piece["call"], piece["attempt"]) for piece in pieces} == {("1", 1)}
    assert all(piece["session"].startswith("ses_") for piece in pieces)
    assert [entry["type"] for entry in entries if entry not in pieces][-1] == "agent.completed"


async def test_events_alone_are_shown_where_nobody_asked_for_more(store: str) -> None:
    async with child("tests.runtime.talking", store) as talker:
        lines = await watched(store, talker)
    assert len(lines) == 4
    assert all("Let me see." not in line for line in lines[:2])


async def test_text_stands_between_the_lines_of_the_events(store: str) -> None:
    async with child("tests.runtime.talking", store) as talker:
        name = (await talker.until("session ")).partition(" ")[2]
        await talker.tell("say Let me see.")
        async with child("ostler", "--store", store, "logs", "-f", name, "--text") as logs:
            await logs.until("    0.0")
            await logs.through("\nLet me see.")
            await talker.tell("say  I have it.")
            await logs.through(" I have it.")
            await talker.tell("end")
            end, reply = await logs.line(), await logs.line()
            await logs.rest()
        await talker.ended()
    assert end == ""
    assert "◂ model" in reply


def written(*steps: Piece | SessionEvent) -> str:
    file = io.StringIO()
    speech = Speech(Console(file=file, width=80))
    for step in steps:
        if isinstance(step, Piece):
            speech.hear(step)
        else:
            speech.event(step)
            file.write(f"<{type(step).__name__}>\n")
    return file.getvalue()


def test_an_event_begins_a_line_of_its_own() -> None:
    said = Piece("1", 1, 0, "a"), Piece("1", 1, 1, "b")
    text = written(ModelRequested("1"), *said, ModelCompleted("1", "ab"), ModelRequested("2"))
    assert text == "<ModelRequested>\nab\n<ModelCompleted>\n<ModelRequested>\n"


def test_what_comes_after_the_reply_is_in_the_log_is_not_written() -> None:
    assert written(Piece("1", 1, 0, "a"), ModelCompleted("1", "ab"), Piece("1", 1, 1, "b")) == "a\n<ModelCompleted>\n"


def test_what_was_left_out_another_attempt_and_what_is_withheld_are_said() -> None:
    text = written(
        Piece("1", 1, 0, "a"), Piece("1", 1, 9, "b"), Piece("1", 2, 0, "c\n"), Piece("2", 1, 0, "", "hooks look first")
    )
    assert text == "a […] b\n[attempt 2] c\n[not shown before it is in the log: hooks look first]"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_text_is_shown_to_people_and_to_those_who_ask_for_it() -> None:
    assert is_shown(None, "table", Terminal())
    assert not is_shown(None, "table", io.StringIO())
    assert not is_shown(None, "jsonl", Terminal())
    assert is_shown(True, "jsonl", io.StringIO())
    assert not is_shown(False, "table", Terminal())
