"""Measuring: commands of the project, and the sessions in a log."""

import asyncio
import sys
from pathlib import Path

import pytest

from ostler import Agent, Limits, Runtime
from ostler.app.measures import Measuring, run_command
from ostler.domain.fitness.target import Goal, Reading, Target
from ostler.testing import Scripted, calls


def command(code: str, *, reads_output: bool = False) -> Target:
    return Target(name="t", goal=Goal("==", 0.0), command=(sys.executable, "-c", code), reads_output=reads_output)


@pytest.mark.parametrize(
    ("code", "reads_output", "found"),
    [
        ("raise SystemExit(3)", False, Reading(3.0)),
        ("print('7')", False, Reading(0.0)),
        ("print('noise'); print(' 7.5 ')", True, Reading(7.5)),
        ("print('1' * 100_000); print(2)", True, Reading(2.0)),
        ("import sys; print('9', file=sys.stderr); print(4)", True, Reading(4.0)),
        ("print('a lot')", True, Reading(None, "the last line of its output is no number", True)),
        ("print('nan')", True, Reading(None, "the last line of its output is no number", True)),
        ("print('SECRET=sk-1')", True, Reading(None, "the last line of its output is no number", True)),
        ("", True, Reading(None, "the last line of its output is no number", True)),
        ("print(1); raise SystemExit(2)", True, Reading(None, "it ended with exit status 2", True)),
        ("import os; os.kill(os.getpid(), 9)", False, Reading(None, "it was ended by signal 9", True)),
    ],
)
async def test_the_value_of_a_command(tmp_path: Path, code: str, reads_output: bool, found: Reading) -> None:
    assert await run_command(command(code, reads_output=reads_output), tmp_path) == found


async def test_a_command_runs_in_the_folder_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "count.txt").write_text("12")
    assert await run_command(command("print(open('count.txt').read())", reads_output=True), tmp_path) == Reading(12.0)


async def test_a_command_that_is_stopped_leaves_no_process_behind(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('child').write_text(str(child.pid)); time.sleep(600)"
    )
    task = asyncio.create_task(run_command(command(code), tmp_path))
    child = tmp_path / "child"
    while not child.exists() or not child.read_text():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    pid = int(child.read_text())
    assert _is_running(pid)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(20):
        while _is_running(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert task.cancelled()


async def test_what_a_command_leaves_running_does_not_hold_up_its_value(tmp_path: Path) -> None:
    code = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\nprint(5)"
    async with asyncio.timeout(20):
        assert await run_command(command(code, reads_output=True), tmp_path) == Reading(5.0)


def _is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


async def test_a_measure_reads_each_session_that_has_ended_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Agent("clerk", model=Scripted("done"))
    bad = Agent("other", model=Scripted(calls(("nothing", {})), name="b"), limits=Limits(steps=1))
    rate = Target(name="t", goal=Goal(">=", 0.9), measure="success_rate", min_sessions=3)
    async with Runtime.open(tmp_path / "store.db") as runtime:
        journal = runtime.parts.journal
        measuring = Measuring(journal, runtime.parts.clock, tmp_path)
        assert await measuring.measure(rate, "default") == Reading(None, "0 of 3 sessions")
        for agent in (good, good, bad, good):
            await (await runtime.start(agent, "Go.")).result(timeout_s=20)
        assert await measuring.measure(rate, "default") == Reading(0.75)
        monkeypatch.setattr(journal, "facts", _never)
        assert await measuring.measure(rate, "default") == Reading(0.75)
        assert (await measuring.measure(rate, "nobody")).value is None


async def _never(*_: object) -> list[object]:
    raise AssertionError("it was read before")
