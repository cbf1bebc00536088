"""What the demonstration says of itself is read from the log, and says so when a promise is broken."""

import msgspec
import pytest

from ostler.app.demo.report import Count, Killed, Offline, Score, Seen, read_tests, report, what
from ostler.domain.model import AskedCall
from ostler.domain.session import events as event
from ostler.domain.session.events import SessionEvent
from ostler.domain.session.fork import Fact
from ostler.views.sessions import SessionView, unreadable

TEST = {"argv": ["python3", "-B", "-m", "unittest"]}
COMMIT = {"argv": ["git", "commit", "-m", "Fix it\n\nAt last."]}
RED, GREEN = "Ran 3 tests in 0.1s\n\nFAILED (failures=1, errors=1)", "Ran 3 tests in 0.1s\n\nOK"


def ended(call: str, output: str) -> SessionEvent:
    answer = msgspec.json.encode({"exit": 0, "output": output}).decode()
    return event.ToolCompleted(call, output=answer, is_json=True)


def asked(call: str, tool: str, arguments: dict[str, object]) -> SessionEvent:
    return event.ModelCompleted(
        call.split(".")[0], calls=(AskedCall(call, tool, msgspec.json.encode(arguments).decode()),)
    )


def refused(call: str, tool: str, arguments: dict[str, object], rule: str) -> list[SessionEvent]:
    return [asked(call, tool, arguments), event.ConstraintFailed(call, tool, "blocked", "not here", rule)]


GOOD: list[SessionEvent] = [
    event.ToolRequested("1.1", "shell.run", TEST),
    ended("1.1", RED),
    *refused("2.1", "files.read", {"path": "../x"}, "stay-inside"),
    *refused("3.1", "shell.run", {"argv": ["curl", "x"]}, "no-network"),
    *refused("4.1", "shell.run", {"argv": ["rm", "-rf", "."]}, "no-recursive-deletion"),
    event.ToolRequested("5.1", "shell.run", TEST),
    event.ToolCompleted("5.1", ok=False, kind="unknown", output="nobody knows"),
    event.ToolRequested("6.1", "shell.run", TEST),
    ended("6.1", GREEN),
    event.ApprovalRequested("7.1", "shell.run", COMMIT, "digest", "ask-before-commit"),
    event.ApprovalGranted("7.1", "demo", "digest", "looked at"),
    event.ToolRequested("7.1", "shell.run", COMMIT, "ask-before-commit"),
    ended("7.1", ""),
]

SEEN = Seen(
    killed=Killed(pid=1, call="5.1", what="tests", runs=2, processes=3),
    successor_pid=2,
    found_lost=["wrk_1"],
    commits_before=1,
    commits_after=2,
    runs=3,
    replay=Offline(9, 13, "d", "d"),
    logs=[],
)


def completed() -> SessionView:
    return unreadable("ses_1", "coder", "completed", "done")


def promises(events: list[SessionEvent], seen: Seen = SEEN) -> dict[str, bool]:
    facts: list[Fact] = [(at_us, one) for at_us, one in enumerate(events)]
    return report(completed(), facts, seen, took_s=1.0, folder="", store="").promises


def broken(events: list[SessionEvent], seen: Seen = SEEN) -> set[str]:
    return {name for name, is_kept in promises(events, seen).items() if not is_kept} - {"verified"}


def test_a_log_that_shows_everything_keeps_every_promise() -> None:
    assert broken(GOOD) == set()


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([*GOOD, event.ToolRequested("5.1", "shell.run", TEST), ended("5.1", GREEN)], {"once", "recovered"}),
        ([*GOOD[:9], event.CallRetried("5.1", 2, "worker lost"), *GOOD[9:]], {"once"}),
        ([*GOOD, event.ToolRequested("8.1", "files.read", {"path": "x"})], {"once"}),
        ([*GOOD, event.ToolRequested("8.1", "shell.run", TEST), ended("8.1", RED)], {"once", "repaired"}),
        ([*GOOD[:2], *GOOD[4:]], {"refused"}),
    ],
    ids=["performed again", "retried", "without an outcome", "still red", "not refused"],
)
def test_a_broken_promise_shows_in_the_log(events: list[SessionEvent], found: set[str]) -> None:
    assert broken(events) == found


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ({"runs": 4}, {"once"}),
        ({"commits_after": 3}, {"once", "approved"}),
        ({"commits_before": 2}, {"approved"}),
        ({"found_lost": []}, {"recovered"}),
        ({"replay": Offline(9, 13, "d", "another")}, {"replayed"}),
    ],
)
def test_a_broken_promise_shows_to_those_outside(seen: dict[str, object], found: set[str]) -> None:
    assert broken(GOOD, msgspec.structs.replace(SEEN, **seen)) == found


def test_no_log_verified_is_not_verified() -> None:
    assert not promises(GOOD)["verified"]


def test_nothing_counted_is_no_proof() -> None:
    assert not Count(0, [], 0, 0, 0, 0).is_once_each


@pytest.mark.parametrize(
    ("output", "read"),
    [
        (RED, Score(3, 2)),
        (GREEN, Score(3, 0)),
        ("Ran 0 tests in 0.0s\n\nNO TESTS RAN", Score(0, 0)),
        ("python3: not found", None),
    ],
)
def test_the_verdict_of_the_tests_is_read_from_their_end(output: str, read: Score | None) -> None:
    assert read_tests(output) == read


def test_no_test_at_all_is_no_success() -> None:
    assert not Score(0, 0).passed


def test_a_call_is_told_in_one_line() -> None:
    assert what("shell.run", COMMIT) == "git commit -m 'Fix it'"
    assert what("files.read", {"path": "a.py", "offset": 1}) == "files.read a.py"
    assert what("files.search", {"pattern": "x", "path": "."}) == "files.search x"
