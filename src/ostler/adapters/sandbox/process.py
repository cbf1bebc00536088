"""One command, watched: its output kept within bounds, its end waited for, and nothing of it left behind."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Container, Coroutine, Mapping, Sequence
from contextlib import suppress

import msgspec

_PIECE = 64 * 1024
_LOOK_S = 0.25
"""How often to look at the free space of a disk: what is written meanwhile, at the speed of disks, fits into it."""

_DRAIN_S = 2.0
"""How long to wait for the end of the output once all is over: somebody who escaped may hold the pipe open."""


class Limits(msgspec.Struct, frozen=True):
    """What one command may use. `cpu_s` and `file_bytes` hold for each of its processes; how the others hold, the
    sandbox says in `limits_held`. `scratch_bytes` bounds /tmp and /dev/shm. `disk_bytes` is by how much the free space
    on the file system of the workspace may shrink meanwhile, whoever takes it; never by more than three quarters.
    """

    cpu_s: int = 600
    memory_bytes: int = 2 * 1024**3
    processes: int = 256
    file_bytes: int = 1024**3
    open_files: int = 1024
    scratch_bytes: int = 512 * 1024**2
    disk_bytes: int = 16 * 1024**3

    def prefix(self, which: Container[str] = ("cpu", "memory", "count", "file size")) -> list[str]:
        """A command (util-linux) that sets these limits on itself and becomes the command that follows.

        Memory is limited as RLIMIT_DATA, not RLIMIT_AS: runtimes that reserve address space which they never touch
        (Go, Java, Node) live with it.
        """
        bounds = {
            "cpu": f"--cpu={self.cpu_s}:{self.cpu_s + 1}",
            "memory": f"--data={self.memory_bytes}",
            "count": f"--nproc={self.processes}",
            "file size": f"--fsize={self.file_bytes}",
        }
        named = [bound for name, bound in bounds.items() if name in which]
        return ["prlimit", *named, f"--nofile={self.open_files}", "--core=0", "--"]


class Egress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place that a command asked for, `count` times. `refused` says why it was not let through; None if it was."""

    host: str
    port: int
    refused: str | None = None
    count: int = 1


class Completed(msgspec.Struct, frozen=True):
    """How a command ended. `exit` is 128 + n where signal n killed it; `dropped_bytes` are missing in the middle of
    `output`, at the mark. `ended_by` names the limit that ended it: `wall`, `cpu`, `memory`, `disk`. `egress` is what
    it asked the proxy for, where it had one.
    """

    exit: int
    output: str
    dropped_bytes: int = 0
    ended_by: str | None = None
    egress: tuple[Egress, ...] = ()


class HeadTail:
    """The first and the last of a stream of bytes, half of `size` each, in bounded memory."""

    def __init__(self, size: int) -> None:
        self._half = max(size // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self.dropped = 0

    def add(self, piece: bytes) -> None:
        room = self._half - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:]
        excess = max(len(self._tail) - self._half, 0)
        del self._tail[:excess]
        self.dropped += excess

    def text(self) -> str:
        gap = f"\n[... {self.dropped} bytes dropped ...]\n".encode() if self.dropped else b""
        return (self._head + gap + self._tail).decode(errors="replace")


class Child:
    """A running command with everything that it starts. A subclass knows how to find and end what it started."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: str,
        stdin: bytes,
        keep_bytes: int,
        inherited: Sequence[int] = (),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.output = HeadTail(keep_bytes)
        self._at_end = self._loop.create_future()
        self._pipe, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(theirs, True)
        given = os.memfd_create("stdin", os.MFD_CLOEXEC)
        try:
            with open(given, "wb", closefd=False) as file:
                file.write(stdin)
            os.lseek(given, 0, os.SEEK_SET)
            self.process = subprocess.Popen(
                command,
                stdin=given, stdout=theirs, stderr=theirs, cwd=folder, env=dict(environment),
                start_new_session=True, pass_fds=inherited,
            )  # fmt: skip
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(given)
            os.close(theirs)
        self._handle = os.pidfd_open(self.process.pid)
        self._loop.add_reader(self._pipe, self._read)

    async def ended(self) -> None:
        """Wait until the command itself has ended."""
        await readable(self._handle)

    async def kill(self) -> None:
        """End the command and everything that it started. Nothing of it is alive afterwards."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await readable(self._handle)

    async def drained(self) -> None:
        """Wait until nobody can write any more and everything written has been read."""
        await asyncio.shield(self._at_end)

    def exit(self) -> int:
        code = self.process.wait()
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Let go of everything. Should something have kept `kill` from being through, the command is ended here."""
        self._finish()
        os.close(self._handle)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _read(self) -> None:
        try:
            piece = os.read(self._pipe, _PIECE)
        except BlockingIOError:
            return
        if piece:
            self.output.add(piece)
        else:
            self._finish()

    def _finish(self) -> None:
        if not self._at_end.done():
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._at_end.set_result(None)


async def watch(child: Child, *, wall_s: float, filling: Coroutine[None, None, None] | None = None) -> Completed:
    """Wait for the command, at most so long, and then end all that is left of it; also when cancelled.

    It is ended, too, when `filling` returns, which says that the disk is too full.
    """
    ending = asyncio.ensure_future(child.ended())
    full = asyncio.ensure_future(filling) if filling is not None else None
    try:
        try:
            awaited = {ending} if full is None else {ending, full}
            done, _ = await asyncio.wait(awaited, timeout=wall_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(ending, full)
            await child.kill()
        ended_by = None if ending in done else "disk" if full in done else "wall"
        if ending in done:
            ending.result()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await child.drained()
        code = child.exit()
    finally:
        child.close()
    if ended_by is None and code == 128 + signal.SIGXCPU:
        ended_by = "cpu"
    return Completed(code, child.output.text(), child.output.dropped, ended_by)


async def disk_fills(folder: str, most_bytes: int) -> None:
    """Return when the free space on the file system of a folder has shrunk by so much, or by three quarters."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        free = _free_bytes(descriptor)
        least = free - min(most_bytes, free * 3 // 4)
        while _free_bytes(descriptor) >= least:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
    finally:
        os.close(descriptor)


def _free_bytes(descriptor: int) -> int:
    system = os.fstatvfs(descriptor)
    return system.f_bavail * system.f_frsize


async def cancelled(*tasks: asyncio.Future[None] | None) -> None:
    """Cancel the tasks and wait until they have ended, however they do."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def readable(descriptor: int) -> None:
    """Wait until there is something to read; a pidfd is readable when its process has ended."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def say() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, say)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
