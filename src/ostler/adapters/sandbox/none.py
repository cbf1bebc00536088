"""No isolation: a command of the user's own, with a clean environment and limits. Only where the user says so."""

import asyncio
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ostler.adapters.sandbox.process import Child, Completed, Limits, disk_fills, watch
from ostler.adapters.sandbox.remedy import install
from ostler.kernel.errors import SandboxUnavailable

PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""What a command sees of this process's environment: nothing that could be a secret."""

_TOKEN = "OSTLER_COMMAND"


class Unconfined:
    """Runs commands with the rights of this process. They can read, write and reach whatever it can."""

    name = "none"

    def __init__(self, limits: Limits | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self._limits = limits or Limits()
        self._environment = {name: environment[name] for name in PASSED if name in environment}
        python = f"{sys.prefix}/bin"  # the same `python` as in isolation
        self._environment["PATH"] = f"{python}:{self._environment.get('PATH', '/usr/bin:/bin')}"

    def limits_held(self) -> dict[str, str]:
        return {
            "cpu": "each process",
            "memory": "each process",
            "file size": "each file",
            "wall": "all of it",
            "disk": "all of it",
        }

    async def probe(self) -> dict[str, str]:
        """There is nothing to hold. Raises `SandboxUnavailable` if not even limits can be set."""
        if missing := [program for program in ("prlimit", "setpriv") if shutil.which(program) is None]:
            raise SandboxUnavailable(f"Limits cannot be set without {missing[0]}.", hint=install("util-linux"))
        return {}

    async def run(
        self,
        argv: Sequence[str],
        *,
        workspace: str,
        cwd: str = ".",
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        hosts: Sequence[str] = (),
        wall_s: float,
        keep_bytes: int,
    ) -> Completed:
        """Run one command in the folder `cwd` of the workspace, and end all that it started when it ends.

        `environment` is what it gets besides what every command gets. It reaches every host, not just those in `hosts`.
        """
        await self.probe()
        child = _Marked(
            # whoever dies without a word takes the command along
            ["setpriv", "--pdeathsig", "KILL", "--", *self._limits.prefix(("cpu", "memory", "file size")), *argv],
            environment={**(environment or {}), **self._environment},
            folder=os.path.join(workspace, cwd),
            stdin=stdin,
            keep_bytes=keep_bytes,
        )
        return await watch(child, wall_s=wall_s, filling=disk_fills(workspace, self._limits.disk_bytes))


class _Marked(Child):
    """A command whose descendants carry a token in their environment, by which they are found wherever they went.

    A process group is not enough: one call of setsid(2) leaves it.
    """

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], folder: str, stdin: bytes, keep_bytes: int
    ) -> None:
        self._token = secrets.token_hex(16)
        super().__init__(
            command,
            environment={**environment, _TOKEN: self._token},
            folder=folder,
            stdin=stdin,
            keep_bytes=keep_bytes,
        )

    async def kill(self) -> None:
        await super().kill()
        while pids := _processes_with(f"{_TOKEN}={self._token}".encode()):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0)


def _processes_with(variable: bytes) -> list[int]:
    """Living processes of ours with this in the environment that they were started with."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # gone, or somebody else's
                if variable in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found
