"""Weaker isolation for where no namespaces can be made: Landlock, a filter of system calls, and limits.

Only where it is named (`--sandbox landlock`): it shares the machine's processes and mounts with the command, which
cannot reach them, instead of not having them.
"""

import json
import os
import platform
import resource
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ostler.adapters.sandbox import confine, layout, probe, seccomp
from ostler.adapters.sandbox.probe import Holding
from ostler.adapters.sandbox.process import Child, Completed, Limits, disk_fills, readable, watch
from ostler.adapters.sandbox.remedy import OTHERWISE
from ostler.kernel.errors import ConfigurationError, SandboxUnavailable

_CONFINE = Path(confine.__file__)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PROBE_S = 30.0
_PROBE_BYTES = 64 * 1024


class Landlock:
    """Runs commands that read the system and the running Python, and write their workspace and a folder for scratch.

    They make no sockets but pairs of their own, signal nothing but each other, and see nothing of /proc. A Python
    environment within the workspace is theirs to change.
    """

    name = "landlock"

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._holding: Holding | None = None

    def limits_held(self) -> dict[str, str]:
        """Which limits bind here, and how."""
        held = {"cpu": "each process", "memory": "each process", "file size": "each file"}
        return {**held, "wall": "all of it", "processes": "all of the user's", "disk": "all of it"}

    async def probe(self) -> Holding:
        """Attack it once and return what it holds against. Raises `SandboxUnavailable` if it does not.

        Later calls return the same without another try.
        """
        if self._holding is None:
            _check()
            found = await self._attack()
            fix = "Use the sandbox bwrap, or correct what is named."
            self._holding = probe.judged(self.name, found, fix)
        return self._holding

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

        `environment` is what it gets besides what every command gets. Raises `SandboxUnavailable`, `UsageError`, and
        `ConfigurationError` if there are `hosts`: here nothing leads to a proxy.
        """
        if hosts:
            raise ConfigurationError(
                "Commands cannot be let through to hosts from the sandbox landlock.", hint="Use the sandbox bwrap."
            )
        layout.check_workspace(os.path.realpath(workspace))
        await self.probe()
        return await self._run(
            argv, os.path.realpath(workspace), cwd, stdin, environment or {}, wall_s=wall_s, keep_bytes=keep_bytes
        )

    async def _run(
        self,
        argv: Sequence[str],
        workspace: str,
        cwd: str = ".",
        stdin: bytes = b"",
        environment: Mapping[str, str] = {},
        *,
        wall_s: float,
        keep_bytes: int,
    ) -> Completed:
        with tempfile.TemporaryDirectory(prefix="ostler-scratch-") as scratch:
            asked = {
                "argv": list(argv),
                "cwd": os.path.normpath(os.path.join(workspace, cwd)),
                "readable": [*layout.SYSTEM, *layout.ETC, *layout.python_folders()],
                "writable": [workspace, scratch, *_DEVICES],
                "filter": seccomp.program(machine=platform.machine(), families=()).hex(),
                "limits": self._rlimits(),
            }
            child = _Confined(
                [sys.executable, "-I", "-S", str(_CONFINE), json.dumps(asked)],
                environment={**environment, **layout.environment(), "HOME": scratch, "TMPDIR": scratch},
                folder="/",
                stdin=stdin,
                keep_bytes=keep_bytes,
            )
            return await watch(child, wall_s=wall_s, filling=disk_fills(workspace, self._limits.disk_bytes))

    def _rlimits(self) -> dict[int, tuple[int, int]]:
        limits = self._limits
        bounds = {
            resource.RLIMIT_DATA: limits.memory_bytes,
            resource.RLIMIT_FSIZE: limits.file_bytes,
            resource.RLIMIT_NOFILE: limits.open_files,
            resource.RLIMIT_NPROC: _tasks_of_user() + limits.processes,
            resource.RLIMIT_CORE: 0,
        }
        return {resource.RLIMIT_CPU: (limits.cpu_s, limits.cpu_s + 1)} | {
            number: (bound, bound) for number, bound in bounds.items()
        }

    async def _attack(self) -> dict[str, str]:
        limits = {
            "processes": self._rlimits()[resource.RLIMIT_NPROC][0] + 1000,
            "memory": self._limits.memory_bytes,
            "file_size": self._limits.file_bytes,
        }
        with probe.targets([*layout.environment()], **limits) as (workspace, targets):
            argv = probe.command(targets)
            done = await self._run(argv, os.path.realpath(workspace), wall_s=_PROBE_S, keep_bytes=_PROBE_BYTES)
        return probe.read(done.output, done.exit)


class _Confined(Child):
    """A command whose descendants are ended by the process that started it (`confine`), when that is told to."""

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        await readable(self._handle)


def _check() -> None:
    """Raises `SandboxUnavailable` where it cannot hold, whatever is tried."""
    version = confine.version()
    if version < confine.VERSION_MIN:
        raise SandboxUnavailable(
            f"This kernel has version {version} of Landlock; from {confine.VERSION_MIN} on it bounds signals, too.",
            hint=f"Use Linux 6.12 or newer with Landlock switched on. {OTHERWISE}",
        )
    if os.geteuid() == 0:
        raise SandboxUnavailable(
            "The sandbox landlock does not hold for root, whom limits do not bind.",
            hint="Run Ostler as an ordinary user, or use the sandbox bwrap.",
        )
    if not seccomp.is_known(platform.machine()):
        raise SandboxUnavailable(f"There is no filter of system calls for {platform.machine()}.", hint=OTHERWISE)


def _tasks_of_user() -> int:
    """How many processes and threads this user has: the kernel counts all of them for RLIMIT_NPROC."""
    count = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if folder.stat().st_uid == os.geteuid():
                    count += len(os.listdir(folder / "task"))
    return count
