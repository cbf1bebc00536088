"""The weaker tier: what it holds against, what it leaves behind (nothing), and where it refuses."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from ostler.adapters.sandbox import confine
from ostler.adapters.sandbox.landlock import Landlock
from ostler.adapters.sandbox.process import Limits
from ostler.kernel.errors import ConfigurationError, SandboxUnavailable
from tests.adapters.sandbox import nobody
from tests.adapters.sandbox.processes import processes_with

NEEDED = pytest.mark.skipif(confine.version() < confine.VERSION_MIN, reason="the sandbox landlock needs Linux 6.12")


def real(test):
    return pytest.mark.for_others(NEEDED(test))


async def run(sandbox, workspace, *argv, wall_s=60.0, keep_bytes=64 * 1024, **more):
    return await sandbox.run(argv, workspace=str(workspace), wall_s=wall_s, keep_bytes=keep_bytes, **more)


@NEEDED
@pytest.mark.for_root
def test_all_of_this_holds_for_an_ordinary_user():
    folder = Path(tempfile.mkdtemp(prefix="ostler-nobody-", dir="/var/tmp"))
    try:
        os.chown(folder, nobody.UID, nobody.UID)
        done = subprocess.run(
            nobody.as_nobody("-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={folder}/t", __file__),
            env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@real
async def test_the_same_attacks_as_for_the_stronger_tier_are_held_off():
    holding = await Landlock().probe()
    assert holding.tier == "landlock"
    assert {"network", "named sockets", "signals", "read outside", "rings", "typing", "processes"} <= set(holding.holds)
    assert holding.fails == ()


@real
async def test_a_command_works_in_its_workspace(tmp_path):
    (tmp_path / "inner").mkdir()
    script = "pwd; cat; echo made > made.txt; echo $TMPDIR > $TMPDIR/x; env"
    done = await run(
        *(Landlock(), tmp_path, "sh", "-c", script), cwd="inner", stdin=b"given\n", environment={"A_NAME": "Ada"}
    )
    assert done.exit == 0
    assert done.output.startswith(f"{tmp_path}/inner\ngiven\n")
    assert "A_NAME=Ada" in done.output
    assert (tmp_path / "inner" / "made.txt").read_text() == "made\n"
    assert [*Path(tempfile.gettempdir()).glob("ostler-scratch-*")] == []


@real
@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("no-such-program", 127)])
async def test_the_exit_code_is_that_of_the_command(tmp_path, script, code):
    assert (await run(Landlock(), tmp_path, "sh", "-c", script)).exit == code


@real
async def test_a_program_that_is_not_there_is_said_to_be_missing(tmp_path):
    done = await run(Landlock(), tmp_path, "no-such-program")
    assert (done.exit, done.output) == (127, "no-such-program: No such file or directory\n")


@real
@pytest.mark.parametrize("path", ["../outside/secret.txt", "{outside}/secret.txt", "link"])
async def test_no_path_leads_outside(tmp_path, path):
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    workspace.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("the secret\n")
    (workspace / "link").symlink_to(outside / "secret.txt")
    path = path.format(outside=outside)
    assert (await run(Landlock(), workspace, "cat", path)).exit != 0
    assert (await run(Landlock(), workspace, "sh", "-c", 'echo x > "$0"', path)).exit != 0
    assert (outside / "secret.txt").read_text() == "the secret\n"


@real
async def test_what_left_its_session_and_lost_its_parents_is_ended(tmp_path):
    word = f"ostler-landlock-{os.getpid()}"
    grandchild = f"trap '' TERM; : {word}; while :; do read line < fifo; done"
    script = 'mkfifo fifo; (env -i setsid sh -c "$0" >/dev/null 2>&1 &); echo done; {then}'
    done = await run(Landlock(), tmp_path, "sh", "-c", script.format(then=":"), grandchild)
    assert (done.exit, done.output) == (0, "done\n")
    assert processes_with(word) == []
    (tmp_path / "fifo").unlink()
    done = await run(Landlock(), tmp_path, "sh", "-c", script.format(then="sleep 1000"), grandchild, wall_s=1.0)
    assert (done.ended_by, done.output) == ("wall", "done\n")
    assert processes_with(word) == []


@real
async def test_a_fork_bomb_is_bounded_and_ended(tmp_path):
    bomb = "import os, signal, sys\nfor _ in range(200):\n    if os.fork() == 0: signal.pause()\nprint('unbounded')"
    done = await run(Landlock(Limits(processes=50)), tmp_path, "python3", "-c", bomb)
    assert "Resource temporarily unavailable" in done.output
    assert "unbounded\n" not in done.output


@real
async def test_who_confines_a_command_cannot_be_ended_by_it(tmp_path):
    done = await run(Landlock(), tmp_path, "sh", "-c", "kill -9 $PPID && echo killed; kill -9 -1; echo alive")
    assert "killed" not in done.output


@real
async def test_hosts_cannot_be_reached_and_that_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be let through"):
        await run(Landlock(), tmp_path, "true", hosts=["pypi.org"])


async def test_an_older_kernel_is_refused_with_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(confine, "version", lambda: 4)
    with pytest.raises(SandboxUnavailable, match="version 4 of Landlock") as caught:
        await run(Landlock(), tmp_path, "touch", "ran")
    assert "Linux 6.12" in caught.value.hint
    assert os.listdir(tmp_path) == []


@pytest.mark.for_root
async def test_root_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(confine, "version", lambda: confine.VERSION_MIN)
    with pytest.raises(SandboxUnavailable, match="does not hold for root"):
        await run(Landlock(), tmp_path, "touch", "ran")
    assert os.listdir(tmp_path) == []
