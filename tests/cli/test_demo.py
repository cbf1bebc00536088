"""The demonstration, as users see it: every promise kept, and nothing left behind that is not spoken of."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.tidy.rules import ROOT

needs_sandbox = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

ALLOWED_S = 90


class Given(NamedTuple):
    """One demonstration that was given: its summary, what it said on the way, and where it left things."""

    summary: dict[str, Any]
    said: str
    folder: Path


def environment(scratch: Path) -> dict[str, str]:
    """A fresh machine: no home to write to, no identity for git, scratch space in one folder."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))))
    own = {"HOME": "/nonexistent", "TMPDIR": str(scratch), "PYTHONPATH": path, "COLUMNS": "100"}
    return {"PATH": os.environ["PATH"]} | own


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ostler", "demo", *arguments]


def of_the_example() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (ROOT / "examples").rglob("*") if path.is_file()}


def alive_in(scratch: Path) -> list[str]:
    """Command lines of living processes that speak of the scratch folder, or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = os.readlink(process / "cwd")
        except OSError:
            continue
        if str(scratch) in line or folder.startswith(str(scratch)):
            found.append(line)
    return found


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    scratch = tmp_path_factory.mktemp("demo")
    run = subprocess.run(
        command("--json"), env=environment(scratch), cwd=scratch, capture_output=True, text=True, timeout=ALLOWED_S
    )
    assert run.returncode == 0, run.stderr
    return Given(json.loads(run.stdout), run.stderr, scratch)


@needs_sandbox
def test_every_promise_of_the_demo_is_kept(given: Given) -> None:
    summary = given.summary
    assert summary["is_kept"]
    assert summary["promises"] == dict.fromkeys(
        ("repaired", "refused", "recovered", "once", "approved", "replayed", "verified"), True
    )
    assert summary["session"]["status"] == "completed"
    assert summary["session"]["model_kind"] == "strategy"
    assert summary["tests_before"] == {"total": 49, "failed": 2}
    assert summary["tests_after"] == {"total": 49, "failed": 0}
    assert "+        return self.start < other.end and other.start < self.end" in summary["diff"]


@needs_sandbox
def test_the_three_forbidden_calls_are_refused_each_by_its_rule(given: Given) -> None:
    rules = {refusal["what"]: refusal["rule"] for refusal in given.summary["refusals"]}
    assert rules == {
        "files.read ../../etc/passwd": "stay-inside",
        "curl https://example.com/setup.sh": "no-network",
        "rm -rf .": "no-recursive-deletion",
    }


@needs_sandbox
def test_the_killed_workers_call_has_an_unknown_outcome_and_another_worker_goes_on(given: Given) -> None:
    killed, recovered = given.summary["killed"], given.summary["recovered"]
    assert killed["processes"] > 0
    assert killed["pid"] != recovered["pid"]
    assert len(recovered["found_lost"]) == 1
    assert recovered["outcome"] == "unknown"
    assert recovered["again"] != killed["call"]


@needs_sandbox
def test_nothing_is_done_twice_by_the_log_and_by_witnesses_outside_of_it(given: Given) -> None:
    count, workspace = given.summary["count"], given.summary["workspace"]
    assert count["twice"] == []
    assert count["runs_logged"] == count["runs_seen"] == len(Path(workspace, ".test-runs").read_text().splitlines())
    git = ["git", "-c", f"safe.directory={workspace}", "-C", workspace]
    authors = subprocess.run([*git, "log", "--format=%an"], capture_output=True, text=True, check=True).stdout.split()
    assert authors == ["coder", "demo"]
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    assert status == ""


@needs_sandbox
def test_what_happens_is_told_in_plain_text_where_there_is_no_terminal(given: Given) -> None:
    assert "\x1b" not in given.said
    for told in ("refused: no-network", "kill -9", "outcome unknown", "approved by demo", "all 49 pass", "Try next"):
        assert told in given.said
    assert max(map(len, given.said.splitlines())) <= 100 + len(given.summary["folder"]) + len(sys.executable)


@needs_sandbox
def test_the_next_commands_work_as_they_are_printed(given: Given) -> None:
    *commands, removal = given.summary["next"]
    assert given.summary["session"]["id"] in commands[0]
    for line in commands:
        run = subprocess.run(shlex.split(line), env=environment(given.folder), capture_output=True, text=True)
        assert run.returncode == 0, f"{line}: {run.stderr}"
        assert run.stdout
    assert removal == f"rm -rf {given.summary['folder']}"
    assert os.listdir(given.folder) == [Path(given.summary["folder"]).name]


@needs_sandbox
def test_no_process_of_the_demo_is_left(given: Given) -> None:
    assert given.summary["is_kept"]
    assert alive_in(given.folder) == []


@pytest.fixture
def untouched_example() -> Iterator[None]:
    before = of_the_example()
    yield
    assert of_the_example() == before


@needs_sandbox
@pytest.mark.usefixtures("untouched_example")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
@pytest.mark.parametrize("moment", ["A worker runs", "Another worker goes on"])
def test_an_interrupted_demo_leaves_no_process_and_no_file(moment: str, number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("--json"), env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        told = next(line for line in running.stderr if moment in line)
        running.send_signal(number)
        rest = running.stderr.read()
        assert running.wait(ALLOWED_S) == 130, told + rest
    assert "nothing is left" in rest
    assert alive_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@needs_sandbox
def test_a_demo_that_nobody_reads_on_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    with subprocess.Popen(command(), env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert any("A worker runs" in line for line in running.stdout)
        running.stdout.close()
        assert running.wait(ALLOWED_S) == 141
    assert alive_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_without_a_sandbox_the_demo_says_what_to_do_and_leaves_nothing(tmp_path: Path) -> None:
    nowhere = environment(tmp_path) | {"PATH": str(tmp_path)}
    run = subprocess.run(command(), env=nowhere, capture_output=True, text=True, timeout=ALLOWED_S)
    assert run.returncode == 1
    assert run.stdout == ""
    assert "apt-get install bubblewrap" in run.stderr
    assert "--sandbox=none" not in run.stderr
    assert list(tmp_path.iterdir()) == []
