"""What the model saw at any step, and what it was not shown any more."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ostler

SETTINGS = """
[context]
steps = ["trim"]
window_tokens = 500
"""


@pytest.fixture
def session(project: Path, ostler: Ostler) -> str:
    """A session that looked twenty times, in a window that holds a few looks."""
    agent = project / "agents/clerk.toml"
    agent.write_text(agent.read_text().replace("steps = 4", "steps = 9") + SETTINGS)
    ostler("run", "clerk", "look for ever")
    found: str = json.loads(ostler("ps", "--all", "--json").stdout)[0]["id"]
    return found


def events(ostler: Ostler, session: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ostler("logs", session, "-o", "jsonl").stdout.splitlines()]


def test_the_log_says_in_a_line_what_the_model_is_not_shown_any_more(ostler: Ostler, session: str) -> None:
    lines = [line for line in ostler("logs", session).stdout.splitlines() if "compacted" in line]
    assert lines
    assert "turns left out: about" in lines[0]
    assert "of 500 tokens" in lines[0]


def test_inspect_says_how_full_the_window_is_and_how_often_it_was_compacted(ostler: Ostler, session: str) -> None:
    shown = ostler("inspect", session).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("context")]
    assert " of 500 tokens, compacted " in line
    size = json.loads(ostler("inspect", session, "--json").stdout)["context"]
    assert size["compactions"] >= 1
    assert 0 < size["tokens"] <= 500 == size["window_tokens"]


def test_what_the_model_saw_is_shown_for_every_step_before_and_after(ostler: Ostler, session: str) -> None:
    told = events(ostler, session)
    asked = [event["seq"] for event in told if event["type"] == "model.requested"]
    compacted = next(event["seq"] for event in told if event["type"] == "context.compacted")
    before, after = max(seq for seq in asked if seq < compacted), min(seq for seq in asked if seq > compacted)
    saw = {seq: json.loads(ostler("inspect", session, "--context", str(seq), "--json").stdout) for seq in asked}
    assert all(shown["size"]["is_asked"] for shown in saw.values())
    assert [shown["size"]["call"] for shown in saw.values()] == [str(number) for number in range(1, len(asked) + 1)]
    assert all(shown["messages"][0]["text"] == "look for ever" for shown in saw.values())
    assert len(saw[after]["messages"]) < len(saw[before]["messages"])
    assert "not shown any more" in saw[after]["messages"][1]["text"]
    assert ostler("inspect", session, "--context", str(before)).stdout.count("tool ") > 3
    assert "was asked in turn" in ostler("inspect", session, "--context", str(before)).stdout


def test_a_fork_shows_what_the_model_saw_in_the_past_that_it_shares(ostler: Ostler, session: str) -> None:
    told = events(ostler, session)
    compacted = next(event["seq"] for event in told if event["type"] == "context.compacted")
    made = ostler("fork", session, "--json")
    assert made.exit_code == 0, made.output
    fork = next(row["id"] for row in json.loads(ostler("ps", "--all", "--json").stdout) if row["id"] != session)
    for seq in (compacted - 2, compacted, compacted + 1):
        shown = [ostler("inspect", one, "--context", str(seq), "--json").stdout for one in (session, fork)]
        assert shown[0] == shown[1]


def test_images_are_part_of_what_the_model_saw(project: Path, ostler: Ostler) -> None:
    (project / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n...")
    ostler("run", "clerk", "answer", "--image", "cat.png")
    (one,) = json.loads(ostler("ps", "--all", "--json").stdout)
    shown = ostler("inspect", one["id"], "--context", "2").stdout
    assert "answer\n[image/png, 11 bytes, " in shown
    assert "strategy:clerk was asked in turn 1" in shown


def test_settings_that_cannot_be_are_refused_with_their_place(project: Path, ostler: Ostler) -> None:
    agent = project / "agents/clerk.toml"
    agent.write_text(f"{agent.read_text()}\n[context]\nabove = 0.4\nwindow_tokens = 0\n")
    refused = ostler("run", "clerk", "answer")
    assert refused.exit_code != 0
    assert "context: down_to and above must be shares" in refused.stderr
    assert "context.window_tokens: must be positive" in refused.stderr
