"""One command, watched: its output kept within bounds, its end waited for, and nothing of it left behind."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

_PIECE = 64 * 1024
_DRAIN_S = 2.0
"""How long to wait for the end of the output once all is over: somebody who escaped may hold the pipe open."""


class Limits(msgspec.Struct, frozen=True):
    """What one command may use. `cpu_s` and `file_bytes` hold for each of its processes; how the others hold, the
    sandbox says in `limits_held`. `scratch_bytes` bounds /tmp and /dev/shm.
    """

    cpu_s: int = 600
    memory_bytes: int = 2 * 1024**3
    processes: int = 256
    file_bytes: int = 1024**3
    open_files: int = 1024
    scratch_bytes: int = 512 * 1024**2

    def prefix(self, *, processes: bool) -> list[str]:
        """A command (util-linux) that sets these limits on itself and becomes the command that follows.

        Memory is limited as RLIMIT_DATA, not RLIMIT_AS: runtimes that reserve address space which they never touch
        (Go, Java, Node) live with it.
        """
        count = [f"--nproc={self.processes}"] if processes else []
        return [
            "prlimit",
            f"--cpu={self.cpu_s}:{self.cpu_s + 1}",
            f"--data={self.memory_bytes}",
            f"--fsize={self.file_bytes}",
            f"--nofile={self.open_files}",
            "--core=0",
            *count,
            "--",
        ]


class Completed(msgspec.Struct, frozen=True):
    """How a command ended. `exit` is 128 + n where signal n killed it; `dropped_bytes` are missing in the middle of
    `output`, at the mark. `ended_by` names the limit that ended it: `wall`, `cpu`, `memory`.
    """

    exit: int
    output: str
    dropped_bytes: int = 0
    ended_by: str | None = None


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


async def watch(child: Child, *, wall_s: float) -> Completed:
    """Wait for the command, at most so long, and then end all that is left of it; also when cancelled."""
    ended_by = None
    try:
        try:
            async with asyncio.timeout(wall_s):
                await child.ended()
        except TimeoutError:
            ended_by = "wall"
        finally:
            await child.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await child.drained()
        code = child.exit()
    finally:
        child.close()
    if ended_by is None and code == 128 + signal.SIGXCPU:
        ended_by = "cpu"
    return Completed(code, child.output.text(), child.output.dropped, ended_by)


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
