"""Where output goes that cannot go where it was to go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Ostler
from tests.tidy.rules import ROOT


def shell(line: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of a shell in which `ostler` is this command line, and `$?` of it the exit code."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    script = f'ostler() {{ "{sys.executable}" -m tests.cli.play "$@"; }}\n{line}'
    environment = {**os.environ, "PYTHONPATH": path, **more}
    return subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, errors="replace", check=False
    )


@pytest.fixture
def session(ostler: Ostler) -> str:
    """A session that has written more than a pipe can hold."""
    ostler("run", "clerk", "write")
    return ostler("ps", "--all", "-o", "jsonl").stdout.partition('"id":"')[2].partition('"')[0]


@pytest.mark.parametrize(
    "line", ["version >/dev/full", "export {} --to /dev/full", "export {} >/dev/full", "run clerk answer >/dev/full"]
)
def test_a_full_disk_is_no_defect_of_ours(session: str, line: str) -> None:
    done = shell(f"ostler {line.format(session)}")
    assert done.returncode == 1
    assert done.stderr.count("No space left on device") == 1
    assert "defect of Ostler" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("command", ["version", "ps --all", "ps --all --json", "run clerk answer"])
def test_a_closed_output_is_no_reason_to_fail(session: str, command: str) -> None:
    done = shell(f"ostler {command} >&-")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert shell(f"ostler {command} <&- 2>&-").returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_show_a_character_shows_another(project: Path, session: str, encoding: str) -> None:
    done = shell("ostler run clerk naïve€ --detach && ostler ps && ostler doctor", PYTHONIOENCODING=encoding)
    assert "defect of Ostler" not in done.stderr
    assert "? python" in done.stdout
    as_json = shell("ostler ps --json", PYTHONIOENCODING=encoding)
    assert "naïve€" in as_json.stdout, "JSON is UTF-8 everywhere"


@pytest.mark.parametrize(
    "command", ["export {} {} {}", "inspect {} --context", "logs {} -o json", "ps --all", "ps --all --json"]
)
def test_output_that_nobody_reads_on_ends_quietly(session: str, command: str) -> None:
    line = command.replace("{}", session)
    done = shell(f"(ostler {line}; echo $? >&2) | true")
    assert done.stderr.split() == ["141"]
