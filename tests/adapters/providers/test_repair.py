"""The strategy that repairs Python projects: on real files, with real test runs."""

import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler.adapters.providers import repair
from ostler.domain.model import AskedCall, AssistantMessage, Message, Reply, ToolMessage, UserMessage
from ostler.domain.tool import FailureKind, ToolOutcome, failed
from tests.adapters.providers.workbench import EXAMPLE, Before, Session, answer_to, perform, request

CLAMP = {
    "clamp.py": "def clamp(value, low, high):\n    return min(min(value, low), high)\n",
    "test_clamp.py": (
        "import unittest\n\nfrom clamp import clamp\n\n\nclass ClampTest(unittest.TestCase):\n"
        "    def test_a_value_stays_between_its_bounds(self):\n"
        "        self.assertEqual([clamp(n, 1, 3) for n in (0, 2, 5)], [1, 2, 3])\n"
    ),
}
"""The inner `min` must be `max`; the outer one is tried first."""

COUNTDOWN = {
    "countdown.py": "def is_over(left):\n    return left < 0\n",
    "test_countdown.py": (
        "import unittest\n\nfrom countdown import is_over\n\n\nclass OverTest(unittest.TestCase):\n"
        "    def test_nothing_left_is_over(self):\n        self.assertTrue(is_over(0))\n\n"
        "    def test_something_left_is_not_over(self):\n        self.assertFalse(is_over(1))\n"
    ),
}
"""One comparison is wrong, and the first try finds it."""


def project(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def with_git(folder: Path) -> Path:
    git(folder, "init", "-q")
    git(folder, "config", "user.name", "Ada")
    git(folder, "config", "user.email", "ada@example.com")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "As it was")
    return folder


def example(folder: Path, *, seeded: tuple[str, str, str] | None = None) -> Path:
    """A copy of the example with its fault, or with another one instead."""
    copy = folder / "rota"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    if seeded is not None:
        replace(copy / "rota/interval.py", "other.start <= self.end", "other.start < self.end")
        replace(copy / seeded[0], seeded[1], seeded[2])
    return copy


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} must be in {path} exactly once"
    path.write_text(text.replace(old, new))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def test_the_example_is_repaired_with_one_changed_line_and_committed(tmp_path: Path) -> None:
    folder = with_git(example(tmp_path))
    session = Session(folder)
    answer = session.run()
    assert answer.startswith("Repaired: all 49 tests pass")
    assert "`other.start <= self.end`; now it says `other.start < self.end`" in answer
    assert "Committed as `Fix Interval.overlaps`" in answer
    changed = git(folder, "show", "--format=", "--numstat").split()
    assert changed == ["1", "1", "rota/interval.py"]
    assert git(folder, "status", "--porcelain") == ""
    assert len(session.turns) == 12


def test_every_turn_says_in_a_sentence_what_it_does(tmp_path: Path) -> None:
    session = Session(example(tmp_path))
    session.run()
    assert all(turn.text and "\n" not in turn.text and len(turn.text) < 250 for turn in session.turns[:-1])
    assert max(len(turn.calls) for turn in session.turns) <= 4


def test_the_next_turn_follows_from_the_transcript_alone(tmp_path: Path) -> None:
    session = Session(example(tmp_path))
    session.run()
    stored = msgspec.json.encode(session.messages)
    messages = msgspec.json.decode(stored, type=list[Message])
    places = [place for place, message in enumerate(messages) if isinstance(message, AssistantMessage)]
    random.Random(7).shuffle(places)
    for place in places:
        recorded = messages[place]
        reply = answer_to(messages[:place])
        assert isinstance(recorded, AssistantMessage)
        assert reply.text == recorded.text
        assert [(c.name, c.arguments) for c in reply.calls] == [(c.name, c.arguments) for c in recorded.calls]


def test_three_temptations_are_refused_and_the_work_goes_on(tmp_path: Path) -> None:
    folder = with_git(example(tmp_path))
    session = Session(folder, strategy=repair.coder_tempted)
    answer = session.run()
    refused = [turn.text for turn in session.turns if "was refused" in turn.text]
    assert len(refused) == 3
    assert "`files.read ../../etc/passwd` was refused" in refused[0]
    assert "[stay-inside]" in refused[0]
    assert "`curl https://example.com/setup.sh` was refused" in refused[1]
    assert "[no-network]" in refused[1]
    assert "`rm -rf .` was refused" in refused[2]
    assert "[no-recursive-deletion]" in refused[2]
    assert answer.startswith("Repaired")
    assert len(session.turns) == 15


@pytest.mark.parametrize(
    "seeded",
    [
        ("rota/planner.py", "gap.length >= at_least", "gap.length > at_least"),
        ("rota/planner.py", "earlier.end > entry.start", "earlier.end >= entry.start"),
        ("rota/cron.py", "(in_month or in_week) if", "(in_month and in_week) if"),
        ("rota/cron.py", "if due > moment", "if due >= moment"),
        ("rota/interval.py", "cut.end <= whole.start or cut", "cut.end <= whole.start and cut"),
        ("rota/interval.py", "and other.start < self.end", "and other.start >= self.end"),
    ],
    ids=lambda seeded: seeded[2],
)
def test_other_faults_of_the_example_are_repaired(tmp_path: Path, seeded: tuple[str, str, str]) -> None:
    folder = example(tmp_path, seeded=seeded)
    assert Session(folder).run().startswith("Repaired: all 49 tests pass")
    replace(folder / "rota/interval.py", "other.start < self.end", "other.start <= self.end")
    fixed = contents(folder)
    assert fixed["rota/interval.py"] == contents(EXAMPLE)["rota/interval.py"]
    assert fixed["tests/test_interval.py"] == contents(EXAMPLE)["tests/test_interval.py"]


def test_two_faults_are_repaired_one_after_the_other(tmp_path: Path) -> None:
    folder = example(tmp_path, seeded=("rota/planner.py", "gap.length >= at_least", "gap.length > at_least"))
    replace(folder / "rota/planner.py", "earlier.end > entry.start", "earlier.end >= entry.start")
    session = Session(folder)
    assert session.run().startswith("Repaired: all 49 tests pass")
    assert (folder / "rota/planner.py").read_bytes() == (EXAMPLE / "rota/planner.py").read_bytes()


def test_a_project_with_a_src_folder_and_tests_outside_of_packages_is_repaired(tmp_path: Path) -> None:
    files = {
        "src/timer/__init__.py": "",
        "src/timer/countdown.py": COUNTDOWN["countdown.py"],
        "tests/test_countdown.py": COUNTDOWN["test_countdown.py"].replace("from countdown", "from timer.countdown"),
    }
    answer = Session(project(tmp_path, files)).run()
    assert "`left < 0`; now it says `left <= 0`" in answer
    assert "no git repository" in answer


def test_tests_that_only_pytest_finds_are_run_with_pytest(tmp_path: Path) -> None:
    test = "from countdown import is_over\n\n\ndef test_nothing_left_is_over():\n    assert is_over(0)\n"
    session = Session(project(tmp_path, COUNTDOWN | {"test_countdown.py": test}))
    assert "`left < 0`; now it says `left <= 0`" in session.run()
    assert "pytest" in session.asked("shell.run")[-1]["argv"]


def test_a_change_that_makes_a_loop_endless_is_put_back(tmp_path: Path) -> None:
    stopped: list[str] = []

    def before(call: AskedCall, arguments: dict[str, Any]) -> ToolOutcome | None:
        if call.name == "shell.run" and "timeout_s" in arguments and not stopped:
            stopped.append(call.id)
            return failed("timeout", f"stopped after {arguments['timeout_s']} s")
        return None

    folder = example(tmp_path)
    assert Session(folder, before=before).run().startswith("Repaired")
    assert stopped


def test_what_it_cannot_repair_is_left_as_it_was(tmp_path: Path) -> None:
    files = {
        "greet.py": "def greet(name, times):\n    return name * times if times > 1 else 'Hallo ' + name\n",
        "test_greet.py": (
            "import unittest\n\nfrom greet import greet\n\n\nclass GreetTest(unittest.TestCase):\n"
            "    def test_greet(self):\n        self.assertEqual(greet('Ada', 1), 'Hello Ada')\n"
        ),
    }
    folder = project(tmp_path, files)
    before = contents(folder)
    session = Session(folder)
    answer = session.run()
    assert answer.startswith("I could not repair this: 1 of 1 tests fail (test_greet).")
    assert "All files are as they were" in answer
    assert "ANTHROPIC_API_KEY" in answer
    assert session.asked("files.edit")
    assert contents(folder) == before


def test_when_everything_passes_there_is_nothing_to_do(tmp_path: Path) -> None:
    files = COUNTDOWN | {"countdown.py": COUNTDOWN["countdown.py"].replace("left < 0", "left <= 0")}
    session = Session(project(tmp_path, files))
    assert session.run().startswith("All 2 tests pass already")
    assert not session.asked("files.edit")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"app.py": "print(1)\n"}, "I found no tests"),
        ({"README.md": "nothing yet\n"}, "no Python files"),
        ({"test_app.py": "import unittest\n\nclass T(unittest.TestCase:\n"}, "I could not repair this"),
    ],
    ids=["no tests", "no code", "no Python"],
)
def test_without_tests_it_says_so(tmp_path: Path, files: dict[str, str], says: str) -> None:
    assert says in Session(project(tmp_path, files)).run()


def test_another_goal_is_answered_with_how_to_get_a_model(tmp_path: Path) -> None:
    session = Session(tmp_path, goal="Write a poem about the sea")
    answer = session.run()
    assert len(session.turns) == 1
    for word in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "Ollama", "--model"):
        assert word in answer


def test_without_its_tools_it_says_which_are_missing() -> None:
    reply = repair.coder(request([UserMessage("fix the tests")], tools=()))
    assert "files.edit" in reply.text
    assert "shell.run" in reply.text
    assert not reply.calls


def refusing(tool: str, *, kind: FailureKind = "blocked") -> Before:
    def before(call: AskedCall, arguments: dict[str, Any]) -> ToolOutcome | None:
        return failed(kind, f"{tool} is not for you [house-rule]") if call.name == tool else None

    return before


def test_a_denied_commit_leaves_the_repair_uncommitted_and_is_reported(tmp_path: Path) -> None:
    folder = with_git(project(tmp_path, COUNTDOWN))
    answer = Session(folder, approves=False).run()
    assert answer.startswith("Repaired")
    assert "Not committed: ada denied it: not today." in answer
    assert git(folder, "diff", "--numstat").split() == ["1", "1", "countdown.py"]


@pytest.mark.parametrize("tool", ["files.list", "shell.run", "files.edit"])
def test_a_refused_tool_ends_the_work_with_the_reason_and_untouched_files(tmp_path: Path, tool: str) -> None:
    folder = project(tmp_path, COUNTDOWN)
    before = contents(folder)
    answer = Session(folder, before=refusing(tool)).run()
    assert f"{tool} is not for you [house-rule]" in answer
    assert contents(folder) == before


UNAVAILABLE = "Isolation needs bubblewrap, and there is no 'bwrap'. Install it: apt-get install bubblewrap."


def unable(*, after: int) -> Before:
    """Nothing can be run any more, after so many programs."""
    runs = 0

    def before(call: AskedCall, arguments: dict[str, Any]) -> ToolOutcome | None:
        nonlocal runs
        runs += call.name == "shell.run"
        return failed("permanent", UNAVAILABLE) if call.name == "shell.run" and runs > after else None

    return before


@pytest.mark.parametrize("after", [0, 1])
def test_when_nothing_can_be_run_it_says_why_and_quotes_what_helps(tmp_path: Path, after: int) -> None:
    folder = project(tmp_path, COUNTDOWN)
    before = contents(folder)
    session = Session(folder, before=unable(after=after))
    answer = session.run()
    assert UNAVAILABLE in answer
    assert "no tests" not in answer
    assert len(session.asked("shell.run")) == after + 1
    assert contents(folder) == before


def test_refused_reading_leaves_nothing_to_try(tmp_path: Path) -> None:
    answer = Session(project(tmp_path, COUNTDOWN), before=refusing("files.read")).run()
    assert "I found nothing to try" in answer


@pytest.mark.parametrize("happened", [True, False], ids=["it happened", "it did not"])
@pytest.mark.parametrize("interrupted", range(8))
def test_any_call_may_be_interrupted_and_the_end_is_the_same(tmp_path: Path, interrupted: int, happened: bool) -> None:
    folder = with_git(project(tmp_path, CLAMP))
    performed: list[str] = []

    def before(call: AskedCall, arguments: dict[str, Any]) -> ToolOutcome | None:
        if call.name not in ("files.edit", "files.write", "shell.run"):
            return None
        performed.append(call.id)
        if len(performed) != interrupted + 1:
            return None
        if happened:
            perform(folder, call.name, arguments, key=call.id)
        return failed("unknown", "the worker was lost during this call; nobody knows whether it happened")

    session = Session(folder, before=before)
    answer = session.run()
    assert answer.startswith("Repaired: all 1 tests pass"), answer
    assert "Committed as" in answer
    assert git(folder, "rev-list", "--count", "HEAD").strip() == "2"
    assert git(folder, "status", "--porcelain") == ""
    assert len(performed) > interrupted


def test_what_somebody_else_changes_meanwhile_is_left_alone(tmp_path: Path) -> None:
    folder = project(tmp_path, COUNTDOWN)

    def before(call: AskedCall, arguments: dict[str, Any]) -> ToolOutcome | None:
        if call.name == "files.edit":
            (folder / "countdown.py").write_text("# rewritten\n")
        return None

    answer = Session(folder, before=before).run()
    assert "Somebody else has changed countdown.py" in answer
    assert (folder / "countdown.py").read_text() == "# rewritten\n"


def test_a_transcript_that_another_model_began_is_gone_on_from_the_world_as_it_is(tmp_path: Path) -> None:
    session = Session(project(tmp_path, COUNTDOWN))
    session.messages += [
        AssistantMessage("Let me see.", (AskedCall("1.1", "files.read", '{"path": "countdown.py"}'),)),
        ToolMessage("1.1", "files.read", '{"ok":true,"data":{"text":"","lines":0,"truncated":false}}'),
    ]
    assert session.run().startswith("Repaired")
    assert session.turns[1].text.startswith("I look around first")


def test_what_is_said_in_between_is_acknowledged_and_a_new_goal_after_the_end_is_taken_up(tmp_path: Path) -> None:
    session = Session(project(tmp_path, COUNTDOWN))
    session.run()
    at = next(place for place, message in enumerate(session.messages) if isinstance(message, ToolMessage)) + 1
    interrupted = [*session.messages[:at], UserMessage("Please hurry.")]
    assert "cannot take what was just said into account" in answer_to(interrupted).text
    session.messages.append(UserMessage("Are the tests green now? Run the tests."))
    assert session.run().startswith("All 2 tests pass already")


def test_a_test_run_too_long_for_its_observation_is_read_from_its_beginning(tmp_path: Path) -> None:
    folder = project(tmp_path, COUNTDOWN)
    session = Session(folder)
    session.run()
    shortened: list[Message] = []
    for message in session.messages:
        if isinstance(message, ToolMessage) and message.name == "shell.run" and not any_tool_runs(shortened):
            data = msgspec.json.encode(msgspec.json.decode(message.text)["data"]).decode()
            text = msgspec.json.encode(
                {"ok": True, "data": data, "truncated": True, "bytes": 99, "blob": "ab"}
            ).decode()
            message = ToolMessage(message.call, message.name, text)
        shortened.append(message)
    replies = [answer_to(messages[:4]) for messages in (session.messages, shortened)]
    assert turn_of(replies[0]) == turn_of(replies[1])


def any_tool_runs(messages: list[Message]) -> bool:
    return any(isinstance(message, ToolMessage) and message.name == "shell.run" for message in messages)


def turn_of(reply: Reply) -> tuple[str, list[str]]:
    return reply.text, [call.arguments for call in reply.calls]
