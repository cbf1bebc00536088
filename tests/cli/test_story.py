"""The demonstration, told of what the runtime asks for by itself."""

import io

import msgspec
from rich.console import Console

from ostler.cli.story import Story as Told
from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.fitness.target import Measured
from ostler.domain.memory.recollection import Recollection, Recollections
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.tools import MEMORY_TOOLS
from ostler.domain.model import AskedCall
from ostler.domain.session import commands as command
from ostler.domain.session.events import CompensationRequested
from ostler.domain.session.fork import Fact
from ostler.domain.tool import ToolOutcome
from tests.domain.session.story import Story
from tests.domain.session.test_replay_properties import recorded


def told(facts: list[Fact]) -> list[str]:
    out = io.StringIO()
    story = Told(Console(file=out, width=160, highlight=False))
    for record in recorded(facts):
        story.tell(record)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_what_the_runtime_recalls_and_remembers_is_told_with_what_came_of_it() -> None:
    story = Story(specs=MEMORY_TOOLS, memory=MemorySettings()).start("Paint the shop.")
    one = Recollection("mem_1", "fact", "the shop is blue", "agent:clerk", "2026-03-01T00:00:00Z")
    found = ToolOutcome(ok=True, output=msgspec.json.encode(Recollections((one,))).decode(), is_json=True)
    story.do(command.ToolReturned(story.us, "recall.1", found))
    story.reply(text="Painted.")
    story.returned("episode", {"id": "mem_2", "outcome": "new"})
    recall, came, episode, kept, end = told(story.log)
    assert recall.endswith("recall: what bears on: Paint the shop.")
    assert "✓ recall.1 memory.recall" in came
    assert "episode: remembers how it ended: Goal: Paint the shop." in episode
    assert "✓ episode memory.remember" in kept
    assert end.endswith("● Painted.")


def test_a_call_that_undoes_another_one_is_told_with_what_came_of_it() -> None:
    story = Story().start()
    story.reply(("save", {"n": 1}))
    story.returned("1.1", {"saved": 1})
    before, after = (Measured("site-up", "== 0", value, value == 0) for value in (0.0, 1.0))
    undo = AskedCall("1.1.undo", "edit", '{"n":1}')
    facts: list[Fact] = [
        *story.log,
        (story.us, FitnessLowered("1.1", "save", before, after, "ses_1")),
        (story.us, CompensationRequested(undo, "1.1", "the fitness target 'site-up' is lower", (before,))),
    ]
    assert any("edit" in line and "site-up" in line for line in told(facts))
