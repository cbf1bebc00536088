"""Commands without isolation: still a clean environment, limits, and nothing left behind."""

import os
import shutil

import pytest

from ostler.adapters.sandbox.none import Unconfined
from ostler.adapters.sandbox.process import Limits
from ostler.kernel.errors import SandboxUnavailable
from tests.adapters.sandbox.processes import processes_with


async def run(sandbox, workspace, *argv, wall_s=60.0, keep_bytes=64 * 1024, **more):
    return await sandbox.run(argv, workspace=str(workspace), wall_s=wall_s, keep_bytes=keep_bytes, **more)


async def test_a_command_runs_in_its_folder_and_sees_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("VENDOR_API_KEY", "sk-this-is-secret")
    (tmp_path / "inner").mkdir()
    given = {"GIT_AUTHOR_NAME": "Ada", "PATH": "/nowhere"}
    script = "pwd; cat; env"
    done = await run(Unconfined(), tmp_path, "sh", "-c", script, cwd="inner", stdin=b"given\n", environment=given)
    assert done.exit == 0
    assert "\nGIT_AUTHOR_NAME=Ada\n" in done.output
    assert done.output.startswith(f"{tmp_path}/inner\ngiven\n")
    assert "VENDOR_API_KEY" not in done.output


async def test_what_left_its_session_is_found_and_ended(tmp_path):
    word = f"ostler-none-{os.getpid()}"
    grandchild = f"trap '' TERM; : {word}; while :; do read line < fifo; done"
    script = 'mkfifo fifo; setsid sh -c "$0" & echo done'
    done = await run(Unconfined(), tmp_path, "sh", "-c", script, grandchild)
    assert (done.exit, done.output) == (0, "done\n")
    assert processes_with(word) == []


async def test_time_and_processor_time_are_bounded(tmp_path):
    sandbox = Unconfined(Limits(cpu_s=1))
    assert (await run(sandbox, tmp_path, "sleep", "1000", wall_s=0.2)).ended_by == "wall"
    assert (await run(sandbox, tmp_path, "sh", "-c", "while :; do :; done")).ended_by == "cpu"


async def test_what_cannot_be_limited_is_not_claimed():
    assert set(Unconfined().limits_held()) == {"cpu", "memory", "file size", "wall", "disk"}


async def test_without_the_means_to_set_limits_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(SandboxUnavailable, match="prlimit") as caught:
        await run(Unconfined(), tmp_path, "touch", "ran")
    assert "install util-linux" in caught.value.hint
    assert os.listdir(tmp_path) == []
