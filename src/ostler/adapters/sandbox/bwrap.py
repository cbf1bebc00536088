"""Isolation by bubblewrap: no network, a read-only system, one writable folder, nothing else to see.

The namespaces come from bubblewrap (https://github.com/containers/bubblewrap); limits from rlimits set inside and,
where this process may make one, from a control group around everything.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ostler.adapters.sandbox.cgroup import Cgroup, make_cgroup, sweep_cgroups
from ostler.adapters.sandbox.process import Child, Completed, Limits, readable, watch
from ostler.adapters.sandbox.remedy import OTHERWISE, allow_namespaces, install
from ostler.kernel.errors import SandboxUnavailable, UsageError

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/nsswitch.conf"),
    *("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/localtime", "/etc/ssl/certs", "/etc/mime.types"),
)
_INSIDE_UID = 1000
_SETUP_S = 10.0
"""After so long without a word of bubblewrap it is taken to be stuck, when it is to be killed anyway."""

_PYTHON = os.path.realpath(sys.executable)


class Bubblewrap:
    """Runs commands isolated from everything but their workspace.

    A command sees /usr and the running Python read-only, its workspace at its own path and writable, a /tmp of its own;
    no network, no other process, no home directory, nothing of this process's environment. When it ends, all that it
    started ends.
    """

    name = "bwrap"

    def __init__(self, limits: Limits | None = None, *, program: str = "bwrap") -> None:
        self._limits = limits or Limits()
        self._program = program
        self._held: dict[str, str] | None = None
        self._options = ""
        prefixes = {sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)}
        self._python = sorted(path for path in prefixes if not _is_within(path, _SYSTEM))
        folders = [f"{sys.prefix}/bin", f"{sys.base_prefix}/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"]
        self._environment = {
            "PATH": ":".join(dict.fromkeys(folders)),
            "HOME": "/tmp",
            "TMPDIR": "/tmp",
            "USER": "agent",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
        }

    def limits_held(self) -> dict[str, str]:
        """Which limits bind here, and how. What is not named does not bind."""
        held = {"cpu": "each process", "memory": "each process", "file size": "each file", "wall": "all of it"}
        if group := self._make_cgroup():
            group.remove()
            held["memory"] = held["processes"] = f"all of it (cgroup v{group.version})"
        elif os.geteuid() != 0:  # the kernel exempts root from RLIMIT_NPROC
            held["processes"] = "all of it"
        return held

    async def probe(self) -> dict[str, str]:
        """Attack the sandbox once and return what it holds against. Raises `SandboxUnavailable` if it does not.

        Later calls return the same without another try.
        """
        if self._held is None:
            self._options = self._find_options()
            sweep_cgroups()
            held = await self._attack()
            if broken := sorted(name for name, what in held.items() if what != "held"):
                remedy = (allow_namespaces() if "starting" in broken else "") or "Correct what is named."
                raise SandboxUnavailable(
                    "The sandbox does not hold here: " + "; ".join(f"{name}: {held[name]}" for name in broken) + ".",
                    hint=f"{remedy} {OTHERWISE}",
                    remedy=remedy,
                )
            self._held = held
        return self._held

    async def run(
        self,
        argv: Sequence[str],
        *,
        workspace: str,
        cwd: str = ".",
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        wall_s: float,
        keep_bytes: int,
    ) -> Completed:
        """Run one command in the folder `cwd` of the workspace, and end all that it started when it ends.

        `environment` is what it gets besides what every command gets. Cancelling ends it, too; nothing of it is alive
        when that is through. Raises `SandboxUnavailable`.
        """
        await self.probe()
        return await self._run(
            argv,
            workspace=workspace,
            cwd=cwd,
            stdin=stdin,
            environment=environment,
            wall_s=wall_s,
            keep_bytes=keep_bytes,
        )

    def command(
        self,
        argv: Sequence[str],
        *,
        workspace: str,
        cwd: str = ".",
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> list[str]:
        """The command line that runs `argv` isolated."""
        workspace = os.path.realpath(workspace)
        as_user = ["--uid", str(_INSIDE_UID), "--gid", str(_INSIDE_UID)] if os.geteuid() == 0 else []
        disable = ["--disable-userns"] if "--disable-userns" in self._options else []
        variables = {**(environment or {}), **self._environment}
        return [
            self._program,
            *("--unshare-all", "--unshare-user", *disable, *as_user, "--cap-drop", "ALL"),
            *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"),
            *(word for pair in variables.items() for word in ("--setenv", *pair)),
            *self._mounts(workspace),
            *("--chdir", os.path.normpath(os.path.join(workspace, cwd)), *options, "--"),
            *self._limits.prefix(processes=True),
            *argv,
        ]

    async def _run(
        self,
        argv: Sequence[str],
        *,
        workspace: str,
        cwd: str = ".",
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        wall_s: float,
        keep_bytes: int,
    ) -> Completed:
        group = self._make_cgroup()
        try:
            child = _Namespaced(
                lambda options: [
                    *(group.prefix() if group else []),
                    *self.command(argv, workspace=workspace, cwd=cwd, environment=environment, options=options),
                ],
                environment=self._environment,  # bubblewrap's own stays readable inside, as /proc/1/environ
                stdin=stdin,
                keep_bytes=keep_bytes,
            )
            done = await watch(child, wall_s=wall_s)
            if group and done.exit > 128 and group.memory_ran_out():
                return Completed(done.exit, done.output, done.dropped_bytes, "memory")
            return done
        finally:
            if group:
                group.remove()

    def _mounts(self, workspace: str) -> list[str]:
        """Mounts in order of their paths, so that inner ones lie upon outer ones.

        A Python environment inside the workspace is read-only: nothing run there may change the code that runs it.
        """
        if any(_is_within(path, (workspace,)) for path in (*_SYSTEM, "/etc", "/proc", "/dev", "/sys")):
            raise UsageError(f"{workspace!r} holds the system itself.", hint="Choose a folder of its own as workspace.")
        size = str(self._limits.scratch_bytes)
        mounts: dict[str, list[str]] = {"/proc": ["--proc", "/proc"], "/dev": ["--dev", "/dev"]}
        mounts["/dev/shm"] = self._scratch("/dev/shm", size)
        mounts["/tmp"] = self._scratch("/tmp", size)
        for path in _SYSTEM:
            if os.path.islink(path):
                mounts[path] = ["--symlink", os.readlink(path), path]
            else:
                mounts[path] = ["--ro-bind-try", path, path]
        for path in (*_ETC, *self._python):
            mounts[path] = ["--ro-bind-try", path, path]
        if workspace not in self._python:
            mounts[workspace] = ["--bind", workspace, workspace]
        ordered = [word for path in sorted(mounts, key=_parts) for word in mounts[path]]
        # /proc, too: as root, its owner, one could otherwise write /proc/sys/kernel/core_pattern and own the machine
        return [*ordered, "--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]

    def _scratch(self, path: str, size: str) -> list[str]:
        bound = ["--size", size] if "--size" in self._options else []
        return ["--perms", "1777", *bound, "--tmpfs", path]

    def _make_cgroup(self) -> Cgroup | None:
        return make_cgroup(memory_bytes=self._limits.memory_bytes, processes=self._limits.processes)

    def _find_options(self) -> str:
        if shutil.which(self._program) is None:
            remedy = install("bubblewrap")
            raise SandboxUnavailable(
                f"Isolation needs bubblewrap, and there is no {self._program!r}.",
                hint=f"{remedy} {OTHERWISE}",
                remedy=remedy,
            )
        if not (os.path.exists("/usr/bin/prlimit") or os.path.exists("/bin/prlimit")):
            raise SandboxUnavailable("Limits cannot be set: there is no prlimit.", hint=install("util-linux"))
        return subprocess.run([self._program, "--help"], capture_output=True, text=True, check=False).stdout

    async def _attack(self) -> dict[str, str]:
        """Try the tiny attacks of `_ATTACKS` inside and return what came of each."""
        with _targets() as (workspace, targets):
            targets["environment"] = sorted(self._environment)
            done = await self._run(
                [_PYTHON, "-I", "-S", "-c", _ATTACKS, json.dumps(targets)],
                workspace=workspace,
                wall_s=30.0,
                keep_bytes=64 * 1024,
            )
        try:
            held: dict[str, str] = json.loads(done.output)
        except ValueError:
            return {"starting": " ".join(done.output.split())[-500:] or f"it ended with {done.exit}"}
        return held


@contextmanager
def _targets() -> Iterator[tuple[str, dict[str, object]]]:
    """A workspace to attack from, and what to attack: a file beside it and a server on this machine."""
    with (
        tempfile.TemporaryDirectory(prefix="ostler-probe-") as outside,
        tempfile.TemporaryDirectory(prefix="ostler-probe-") as workspace,
        closing(socket.create_server(("127.0.0.1", 0))) as server,
    ):
        canary = Path(outside, "canary")
        canary.write_text("x")
        yield workspace, {"port": server.getsockname()[1], "canary": str(canary)}


class _Namespaced(Child):
    """A command whose descendants all live in one process namespace, which ends with its first process.

    The command is held back until there is a handle of that process, so that its number cannot mean another by then.
    """

    def __init__(
        self,
        command: Callable[[Sequence[str]], Sequence[str]],
        *,
        environment: Mapping[str, str],
        stdin: bytes,
        keep_bytes: int,
    ) -> None:
        """`command` is given the options by which bubblewrap talks to us."""
        self._info, info = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        block, self._go = os.pipe2(os.O_CLOEXEC)
        self._told = b""
        self._first: int | None = None
        try:
            super().__init__(
                command(["--info-fd", str(info), "--block-fd", str(block)]),
                environment=environment,
                folder="/",
                stdin=stdin,
                keep_bytes=keep_bytes,
                inherited=[info, block],
            )
        except BaseException:
            os.close(self._info)
            os.close(self._go)
            raise
        finally:
            os.close(info)
            os.close(block)

    async def ended(self) -> None:
        await self._hold()
        with suppress(BrokenPipeError):
            os.write(self._go, b"\n")
        await super().ended()

    async def kill(self) -> None:
        """The kernel reports the end of a namespace's first process only when all others are gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETUP_S):
                await self._hold()
        if self._first is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            await readable(self._first)
        await super().kill()

    def close(self) -> None:
        super().close()
        for descriptor in (self._info, self._go, self._first):
            if descriptor is not None:
                os.close(descriptor)

    async def _hold(self) -> None:
        """Get the handle, unless bubblewrap ended before there was a namespace. It tells its number in pieces."""
        while self._first is None:
            await readable(self._info)
            piece = os.read(self._info, 4096)
            if not piece:
                return
            self._told += piece
            if self._told.endswith(b"}\n"):
                with suppress(ProcessLookupError):
                    self._first = os.pidfd_open(json.loads(self._told)["child-pid"])


def _is_within(path: str, folders: Sequence[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _parts(path: str) -> tuple[str, ...]:
    return Path(path).parts


_ATTACKS = """
import json, os, socket, sys
target = json.loads(sys.argv[1])
held = {}
def attack(name, action):
    try:
        what = action()
    except OSError:
        what = None
    held[name] = "held" if not what else str(what)
def connect():
    socket.create_connection(("127.0.0.1", target["port"]), timeout=5).close()
    return "the host's loopback answered"
def write(path):
    open(path, "w").close()
    os.unlink(path)
    return path + " could be written"
def read():
    with open(target["canary"]):
        return "a file outside the workspace could be read"
def environment():
    names = set(os.environ)
    with open("/proc/1/environ") as file:
        names |= {entry.partition("=")[0] for entry in file.read().split("\\0") if entry}
    return ", ".join(sorted(names - set(target["environment"]) - {"PWD", "LC_CTYPE", "_"}))
def tune():
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "the kernel's settings could be written"
attack("network", connect)
attack("write outside", lambda: write(target["canary"] + ".new"))
attack("write system", lambda: write("/usr/ostler-probe"))
attack("read outside", read)
attack("environment", environment)
attack("kernel settings", tune)
print(json.dumps(held))
"""
