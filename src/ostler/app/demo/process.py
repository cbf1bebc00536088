"""Processes of the demonstration: workers that are started, watched, killed, and never left behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ostler.adapters.sandbox.process import readable
from ostler.app.demo.stage import Stage
from ostler.app.verify import Rehearsed
from ostler.kernel.errors import OstlerError

T = TypeVar("T")

STOP_S = 5.0
TOLD_CHARS = 2000


class WorkerProcess:
    """One `ostler worker` in a process of its own, and everything that it starts."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, said: Path) -> None:
        self.number = number
        self._process = process
        self._said = said

    @property
    def pid(self) -> int:
        return self._process.pid

    async def during(self, phase: Coroutine[Any, Any, T]) -> T:
        """What comes of `phase`, for which this worker is needed. Raises if the worker ends before it."""
        running, ended = asyncio.create_task(phase), asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            said = self._said.read_text(errors="replace").strip()[-TOLD_CHARS:]
            raise OstlerError(f"Worker {self.number} ended by itself with {ended.result()}. It said: {said}")
        finally:
            running.cancel()
            ended.cancel()
            await asyncio.gather(running, ended, return_exceptions=True)

    async def kill(self) -> int:
        """End it by SIGKILL and return how many processes it took along; none of them is alive afterwards."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGSTOP)  # it starts nothing more while we look
        handles = _handles(_descendants(self.pid))
        try:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            for handle in handles:
                await readable(handle)
        finally:
            for handle in handles:
                os.close(handle)
        return len(handles)

    async def stop(self) -> None:
        """Ask it to stop in order, and give it a moment for it."""
        self._process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._process.wait()


@asynccontextmanager
async def worker(stage: Stage, number: int) -> AsyncIterator[WorkerProcess]:
    """A worker on the store of the stage. It is dead afterwards, with all that it started."""
    said = stage.folder / f"worker-{number}.log"
    with said.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *_ostler(stage, "worker", "--agent", "coder"),
            cwd=stage.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for the demonstration, which then sees to its workers
        )
    running = WorkerProcess(number, process, said)
    try:
        yield running
    finally:
        if process.returncode is None:
            await running.kill()


async def replay_offline(stage: Stage, session: str) -> Rehearsed:
    """Replay a session where there is no network, no workspace, and nothing but the store can be written."""
    workspace, shelf = str(stage.workspace), str(stage.shelf)
    isolated = [
        *("bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--ro-bind", "/", "/"),
        *("--dev", "/dev", "--proc", "/proc", "--tmpfs", workspace, "--bind", shelf, shelf, "--chdir", shelf, "--"),
    ]
    process = await asyncio.create_subprocess_exec(
        *isolated,
        *_ostler(stage, "replay", session, "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise OstlerError(f"The replay ended with {process.returncode}: {told.decode(errors='replace').strip()}")
    (rehearsed,) = msgspec.json.decode(output, type=list[Rehearsed])
    return rehearsed


def _ostler(stage: Stage, *arguments: str) -> list[str]:
    """A command line of this very Ostler; `-P` keeps Python from importing what lies around."""
    return [sys.executable, "-P", "-m", "ostler", "--store", stage.store, *arguments]


def _descendants(pid: int) -> list[int]:
    """Every process that this one has started, directly or not."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def _handles(pids: list[int]) -> list[int]:
    """A handle for each that is still alive, which cannot come to mean another process."""
    handles = []
    for pid in pids:
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid, 0))
    return handles
