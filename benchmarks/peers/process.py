"""A peer as a process: started, told to go, killed, stopped, listened to."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from benchmarks.peers.contenders import Contender
from benchmarks.peers.load import Task

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".make" / "peers"


class PeerFailed(Exception):
    """A peer ended without a result."""


class Process:
    """Made by `peer`."""

    def __init__(self, process: asyncio.subprocess.Process, complaints: Any) -> None:
        self._process = process
        self._complaints = complaints

    @classmethod
    async def of(cls, contender: Contender, task: Task, python: Path) -> Self:
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable if contender.is_here else python, "-m", f"benchmarks.peers.{contender.module}"),
                json.dumps(task.__dict__),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path) if contender.is_here else ""},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=complaints,
                limit=2**24,
            )
        except OSError:
            complaints.close()
            raise
        return cls(process, complaints)

    async def says(self, word: str) -> dict[str, Any]:
        """The next line that has this word. Raises `PeerFailed`."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and word in said:
                    return said
        await self._process.wait()
        raise PeerFailed(f"ended with {self._process.returncode}: {self._last_words()}")

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    def send(self, what: signal.Signals) -> None:
        if self._process.returncode is None:
            # Not `send_signal`: it looks whether the process has ended, and would take the news from whoever waits.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, what)

    async def end(self) -> None:
        """Kill it if it is still there."""
        self.send(signal.SIGKILL)
        await self._process.wait()
        self._complaints.close()

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing more"


@contextlib.asynccontextmanager
async def peer(contender: Contender, task: Task, python: Path) -> AsyncIterator[Process]:
    process = await Process.of(contender, task, python)
    try:
        yield process
    finally:
        await process.end()
