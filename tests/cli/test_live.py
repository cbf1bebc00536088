"""How events look to people."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from ostler.app.session import Happening
from ostler.cli.live import Live
from ostler.cli.words import age, arguments, count, duration, short, until, usd, whole
from ostler.domain.constraint.policy import Rule
from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.tools import MEMORY_TOOLS
from ostler.domain.session import commands as command
from tests.domain.session.story import Story, spec


def shown(story: Story, width: int = 200, **options: Any) -> list[str]:
    out = io.StringIO()
    live = Live(Console(file=out, width=width, highlight=False), "ses_1", **options)
    for seq, (at_us, event) in enumerate(story.log, 1):
        live.show(Happening(seq, at_us, event))
    return out.getvalue().splitlines()


def test_a_call_is_one_line_when_it_begins_and_one_when_it_ends() -> None:
    story = Story().start("count them")
    story.reply(("look", {"n": 3}), text="I look first.")
    story.at += 1.5
    story.returned("1.1", {"found": 3, "names": ["a"]})
    story.reply(text="three")
    lines = shown(story)
    assert "0.00s    1 ▶ started     clerk@1 on scripted:m (scripted): count them" in lines[0]
    assert "◂ model       I look first. → look" in lines[2]
    assert lines[3].endswith("→ call        1.1 look n=3")
    assert lines[4].endswith('1.50s    5 ✓ done        1.1 look (1.5 s) found=3 names=["a"]')
    assert "◂ model       three" in lines[-2]
    assert lines[-1].endswith("● completed"), "the answer is told once"


def test_refusals_show_rule_and_reason_and_approvals_how_to_answer() -> None:
    rules = Rule("deny", "look", because="not now", name="no-looking"), Rule("require", "pay", because="money")
    story = Story(*rules)
    story.start().reply(("look", {}), ("pay", {"n": 1}))
    story.approve("1.2", reason="fine")
    text = "\n".join(shown(story, says_how=True))
    assert "⊘ refused     1.1 look [no-looking]: not now" in text
    assert "⏸ approval?   1.2 pay [house#2: money] n=1" in text
    assert "ostler approve ses_1" in text
    assert "ostler deny ses_1" in text
    assert "✓ approved    1.2 by local: fine" in text


def test_a_reply_with_a_defect_shows_what_the_model_said_and_what_it_is_told() -> None:
    story = Story().start()
    story.reply(text="It is sp", stop="length")
    assert "◂ model       It is sp ✗ Your reply was cut off at its maximum length. Be briefer." in shown(story)[2]


def test_a_failure_of_the_model_is_told_once() -> None:
    story = Story().start()
    story.do(command.ReplyFailed(story.us, "1", "provider_rejected", "no such model", 404))
    lines = shown(story)
    assert "✗ model       provider_rejected: no such model" in lines[-2]
    assert lines[-1].endswith("● failed      error")


def test_a_retry_says_of_whom_and_when() -> None:
    story = Story().start()
    later = story.us + 120_000_000
    story.do(command.ReplyFailed(story.us, "1", "rate_limited", "slow", 429, later))
    assert shown(story)[-1].endswith("↻ retry       1 scripted:m, attempt 2 in 2 min: rate_limited: slow")


def test_arguments_that_are_what_they_are_without_saying_are_left_out() -> None:
    look = spec("look", n={"type": "integer"}, where={"type": "string", "default": "."})
    story = Story(specs=(look,)).start()
    story.reply(("look", {"n": 1, "where": "."}), ("look", {"n": 1, "where": "up"}))
    assert [line.partition("look ")[2] for line in shown(story) if "→ call" in line] == ["n=1", "n=1 where=up"]


def test_failures_are_told_with_their_kind() -> None:
    story = Story().start()
    story.reply(("look", {}))
    story.broke("1.1", "no such\nfile")
    assert shown(story)[-2].endswith("✗ failed      1.1 look (0 ms) permanent: no such file")


def test_a_line_ends_where_the_terminal_ends() -> None:
    story = Story().start("x" * 500)
    assert [len(line) <= 60 for line in shown(story, width=60)] == [True, True]
    assert shown(story, width=60)[0].endswith("…")


def test_what_the_runtime_recalls_and_remembers_is_told_in_a_line_each() -> None:
    story = Story(specs=MEMORY_TOOLS, memory=MemorySettings()).start("Paint the shop.")
    story.returned("recall.1", {"memories": [{"id": "mem_1"}, {"id": "mem_2"}]})
    story.reply(text="Painted blue.")
    story.returned("episode", {"id": "mem_3", "outcome": "new"})
    lines = shown(story)
    assert lines[1].endswith("⟲ recall      what bears on: Paint the shop.")
    assert lines[2].endswith("→ call        recall.1 memory.recall")
    assert lines[3].endswith("✓ done        recall.1 memory.recall (0 ms) 2 found")
    assert lines[6].endswith("⟳ episode     remembers how it ended: Goal: Paint the shop. Completed: Painted blue.")
    assert lines[-2].endswith("✓ done        episode memory.remember (0 ms) id=mem_3 outcome=new")
    assert lines[-1].endswith("● completed")


def test_text_of_an_agent_cannot_steer_the_terminal() -> None:
    story = Story().start("\x1b[2Jgone\u202e")
    (line, _) = shown(story)
    assert "\x1b" not in line
    assert "\u202e" not in line


@pytest.mark.parametrize(
    ("span_us", "said"),
    [(0, "0 ms"), (47_000, "47 ms"), (1_500_000, "1.5 s"), (150_000_000, "2 min"), (7_300_000_000, "2 h")],
)
def test_durations_are_in_the_unit_that_says_them_well(span_us: int, said: str) -> None:
    assert duration(span_us) == said


def test_words_are_short() -> None:
    assert short("a\n b", 10) == "a b"
    assert short("a" * 20, 10) == "a" * 9 + "…"
    assert short(" " * 900 + "x", 400).endswith("…")
    assert arguments({"path": "a b", "n": [1, None]}) == "path=a b n=[1,null]"
    assert (usd(0), usd(49), usd(50), usd(12_300)) == ("–", "<$0.0001", "$0.0001", "$0.0123")


def test_an_age_is_counted_from_a_moment() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert age("2026-01-01T00:00:00.000000Z", now) == "24 h"
    assert age("", now) == "–"


def test_a_moment_to_come_is_told_by_how_far_it_is() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert until("2026-01-01T00:58:00.000000Z", now) == "in 58 min (2026-01-01T00:58:00.000000Z)"
    assert until("2025-12-31T00:00:00.000000Z", now).startswith("over ")


def test_what_is_shown_whole_cannot_steer_the_terminal_either() -> None:
    assert whole("a\n b") == "a\n b"
    assert whole("\x1b[2J\u202e") == "\\x1b[2J\\u202e"
    assert whole({"a": [1]}) == '{"a":[1]}'


def test_what_is_counted_is_named_as_people_name_it() -> None:
    said = [count(*one) for one in ((1, "memory"), (2, "memory"), (1_000, "day"), (0, "step"))]
    assert said == ["1 memory", "2 memories", "1,000 days", "0 steps"]
