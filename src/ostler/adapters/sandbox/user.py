"""Becoming a user that owns nothing, when root runs commands: limits do not bind root, and its files are the machine's.

The user gets the workspace, and the folders that programs need, in a mount namespace (`stage`) that is made once for
each workspace and entered by each command.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from ostler.adapters.sandbox.remedy import OTHERWISE, install
from ostler.kernel.errors import SandboxUnavailable

UID = 1_900_000_000
"""Above what distributions give to users, services and containers (systemd.io/UIDS-GIDS). It never reaches a disk."""

_KEPT = 32
_STAGE = Path(__file__).with_name("stage.py")


class Stage(msgspec.Struct, frozen=True):
    """A mount namespace, held open by the descriptor `namespace`, and where in it each folder is."""

    namespace: int
    places: Mapping[str, str]

    def prefix(self) -> list[str]:
        """A command that enters it, becomes the user that owns nothing, and becomes the command that follows.

        The namespace is named by this process's descriptor, so that the command inherits none.
        """
        enter = program("nsenter"), f"--mount=/proc/{os.getpid()}/fd/{self.namespace}"
        become = program("setpriv"), f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"
        return [*enter, *become]


class Stages:
    """The stages of the workspaces that were used last."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, int, int], Stage] = {}
        weakref.finalize(self, _close, self._stages)

    @asynccontextmanager
    async def hold(self, workspace: str, folders: Sequence[str]) -> AsyncIterator[Stage]:
        """The stage of this workspace, open until the context is left. Raises `SandboxUnavailable`."""
        status = os.stat(workspace)
        key = workspace, status.st_dev, status.st_ino
        if key not in self._stages:
            made = await asyncio.to_thread(_make, workspace, folders)
            if self._stages.setdefault(key, made) is not made:  # somebody else was faster
                os.close(made.namespace)
        stage = self._stages[key] = self._stages.pop(key)
        while len(self._stages) > _KEPT:
            os.close(self._stages.pop(next(iter(self._stages))).namespace)
        own = Stage(os.dup(stage.namespace), stage.places)
        try:
            yield own
        finally:
            os.close(own.namespace)


def program(name: str) -> str:
    """Where the program of the system is, so that no folder of a project can put another in its place.

    Raises `SandboxUnavailable`.
    """
    path = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        remedy = install("util-linux")
        raise SandboxUnavailable(f"Isolation needs {name}, and there is none.", hint=f"{remedy} {OTHERWISE}")
    return path


def _make(workspace: str, folders: Sequence[str]) -> Stage:
    asked = json.dumps({"uid": UID, "workspace": workspace, "folders": list(folders)})
    command = [sys.executable, "-I", "-S", str(_STAGE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(asked + "\n")
        process.stdin.flush()
        answer = process.stdout.readline().strip()
        if answer != "ready":
            raise SandboxUnavailable(
                f"{workspace} cannot be given to a user other than root: {answer or 'the attempt ended early'}.",
                hint="Run Ostler as an ordinary user, or keep the workspace on ext4, xfs, btrfs or tmpfs. " + OTHERWISE,
            )
        namespace = os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    places = {path: f"/tmp/{index}" for index, path in enumerate((workspace, *folders))}
    return Stage(namespace, places)


def _close(stages: Mapping[tuple[str, int, int], Stage]) -> None:
    for stage in stages.values():
        os.close(stage.namespace)
