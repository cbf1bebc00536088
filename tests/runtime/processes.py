"""Real processes for tests: started, watched line by line, ended, and never left behind."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Child:
    """A Python module that runs in a process of its own and says on standard output what it does."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    async def line(self) -> str:
        """The next line that it has written in full; empty when there are no more."""
        assert self._process.stdout is not None
        data = await self._process.stdout.readline()
        if not data.endswith(b"\n"):
            return ""
        self.lines.append(data.decode().rstrip("\n"))
        return self.lines[-1]

    async def until(self, beginning: str) -> str:
        """The next line that begins so. Fails if the process ends without it."""
        while line := await self.line():
            if line.startswith(beginning):
                return line
        raise AssertionError(f"it ended ({await self.ended()}) without a line {beginning!r}: {self.lines[-20:]}")

    async def through(self, text: str) -> None:
        """Up to the end of this text, in the middle of a line."""
        assert self._process.stdout is not None
        await self._process.stdout.readuntil(text.encode())

    async def rest(self) -> list[str]:
        """Everything that it still writes, to its end."""
        before = len(self.lines)
        while await self.line():
            pass
        return self.lines[before:]

    async def tell(self, text: str) -> None:
        """A line for its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())
        await self._process.stdin.drain()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, once it has one; it is negative for a signal."""
        return await self._process.wait()


@asynccontextmanager
async def child(module: str, *arguments: object) -> AsyncIterator[Child]:
    """Run `module` while inside. Afterwards it is dead, whatever happened."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *map(str, arguments),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
