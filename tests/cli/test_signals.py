"""Real processes, terminals and signals: what was interrupted goes on later, and nothing happens twice."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Ostler
from tests.tidy.rules import ROOT


@contextmanager
def process(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """One command line in a process of its own, which does not outlive the test."""
    command = [sys.executable, "-m", "tests.cli.play", *arguments]
    path = os.pathsep.join((str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": path}
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def until(running: "subprocess.Popen[str]", word: str) -> str:
    """What the process says on standard error until a line has this word."""
    assert running.stderr is not None
    said = ""
    for line in running.stderr:
        said += line
        if word in line:
            return said
    raise AssertionError(f"{word!r} was never said, but: {said}")


def times_hung(project: Path) -> int:
    file = project / "hung"
    return file.read_text().count("hung") if file.exists() else 0


def session_in(said: str) -> str:
    return next(word for word in said.split() if word.startswith("ses_"))


def test_an_interrupted_run_exits_with_130_and_is_resumed_where_it_was(ostler: Ostler, project: Path) -> None:
    with process("run", "clerk", "hang") as running:
        session = session_in(until(running, "1.1 hang"))
        running.send_signal(signal.SIGINT)
        until(running, "Stopping")
        (project / "go").touch()
        said = until(running, "go on with")
        assert running.wait() == 130
    assert f"ostler resume {session}" in said
    assert (ostler("resume", session).stdout, (project / "hung").read_text()) == ("hung and went on\n", "hung\n")
    assert ostler("verify").exit_code == 0


def test_a_second_interrupt_leaves_at_once(ostler: Ostler, project: Path) -> None:
    with process("run", "clerk", "hang") as running:
        session = session_in(until(running, "1.1 hang"))
        running.send_signal(signal.SIGINT)
        until(running, "Stopping")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    assert ostler("resume", session).exit_code == 0
    assert times_hung(project) <= 1, "nobody knows whether the call happened, so it is not repeated"


def test_a_terminated_run_keeps_its_state_as_well(ostler: Ostler, project: Path) -> None:
    with process("run", "clerk", "hang") as running:
        session = session_in(until(running, "1.1 hang"))
        running.send_signal(signal.SIGTERM)
        until(running, "Stopping")
        (project / "go").touch()
        assert running.wait() == 130
    assert ostler("resume", session).exit_code == 0


def test_a_run_killed_without_a_word_is_taken_up_by_another_process(ostler: Ostler, project: Path) -> None:
    with process("run", "clerk", "hang") as running:
        session = session_in(until(running, "1.1 hang"))
        running.kill()
        running.wait()
    assert ostler("resume", session).exit_code == 0
    assert times_hung(project) <= 1, "nobody knows whether the call happened, so it is not repeated"
    assert "lost" in ostler("doctor").stdout


def test_a_worker_says_what_it_holds_and_drains_on_sigterm(ostler: Ostler, project: Path) -> None:
    session = ostler("run", "clerk", "hang", "--detach").stdout.strip()
    with process("worker") as running:
        until(running, f"takes {session}")
        with process("logs", "-f", session, "-o", "jsonl") as following:
            assert following.stdout is not None
            next(line for line in following.stdout if "tool.requested" in line)
        running.send_signal(signal.SIGTERM)
        until(running, "Stopping")
        (project / "go").touch()
        until(running, f"lets go of {session}")
        until(running, "Stopped.")
        assert running.wait() == 0
    assert (project / "hung").read_text() == "hung\n"
    assert ostler("resume", session).stdout == "hung and went on\n"


def test_a_worker_says_what_calls_cost_when_it_is_asked_and_at_its_end(ostler: Ostler, project: Path) -> None:
    session = ostler("run", "clerk", "hang", "--detach").stdout.strip()
    with process("worker") as running:
        until(running, f"takes {session}")
        with process("logs", "-f", session, "-o", "jsonl") as following:
            assert following.stdout is not None
            next(line for line in following.stdout if "tool.requested" in line)
        running.send_signal(signal.SIGUSR1)
        asked = until(running, "of calls of tools").splitlines()[-2]
        assert asked.startswith("1 attempt of calls of models, on average: pressure ")
        assert "call " in asked
        (project / "go").touch()
        until(running, f"lets go of {session}")
        running.send_signal(signal.SIGTERM)
        assert "2 attempts of calls of models" in until(running, "Stopped.")
        assert running.wait() == 0


def test_a_second_signal_stops_a_worker_at_once(ostler: Ostler, project: Path) -> None:
    session = ostler("run", "clerk", "hang", "--detach").stdout.strip()
    with process("worker", "--concurrency", "1") as running:
        until(running, f"takes {session}")
        running.send_signal(signal.SIGTERM)
        until(running, "Stopping")
        running.send_signal(signal.SIGTERM)
        until(running, "Stopped at once")
        assert running.wait() == 130


def test_a_session_that_another_worker_holds_is_shown_and_not_run_twice(ostler: Ostler, project: Path) -> None:
    session = ostler("run", "clerk", "hang", "--detach").stdout.strip()
    with process("worker") as running:
        until(running, f"takes {session}")
        with process("resume", session) as watching:
            until(watching, f"session {session}")
            (project / "go").touch()
            assert watching.stdout is not None
            assert watching.stdout.read() == "hung and went on\n"
            assert watching.wait() == 0
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 0
    assert (project / "hung").read_text() == "hung\n"


def answered(word: str, *, typed_ahead: str = "") -> tuple[str, str, int]:
    """What a run prints and says on a terminal whose person answers so, and its exit code."""
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "tests.cli.play", "run", "clerk", "pay"]
    path = os.pathsep.join((str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    running = subprocess.Popen(
        command, stdin=terminal, stderr=terminal, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    os.close(terminal)
    os.write(person, typed_ahead.encode())
    try:
        said = b""
        while b"[l]ater: " not in said:
            said += os.read(person, 4096)
        os.write(person, f"{word}\n".encode())
        assert running.stdout is not None
        printed = running.stdout.read().decode()
        return printed, said.decode(), running.wait()
    finally:
        os.close(person)
        running.kill()
        running.communicate()


@pytest.mark.parametrize(("word", "paid", "code"), [("y", True, 0), ("no", False, 0), ("later", False, 3)])
def test_a_person_at_the_terminal_is_asked(project: Path, word: str, paid: bool, code: int) -> None:
    printed, said, exit_code = answered(word)
    assert "Approve call 1.1 (money is leaving)?" in said
    assert exit_code == code
    assert bool(printed) == (code == 0)
    assert (project / "paid").exists() == paid


def test_what_was_typed_before_the_question_approves_nothing(project: Path) -> None:
    _, said, exit_code = answered("n", typed_ahead="y\ny")
    assert "amount" in said, "the person sees what is to be decided upon"
    assert exit_code == 0
    assert not (project / "paid").exists()
