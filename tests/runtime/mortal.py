"""A worker process that may be killed at any moment: `python -m tests.runtime.mortal STORE EFFECTS SESSIONS`.

It starts so many sessions, runs everything there is to its end, and says a line for each event that is durable and for
each effect before and after it happens. Effects are lines in files, synchronised to the disk, outside of the store.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_blobs import SqliteBlobStore
from ostler.adapters.tools.functions import FunctionTools, Tool, tool
from ostler.app.world import SystemClock, SystemEntropy
from ostler.domain.identity import LOCAL_USER
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session import commands as command
from ostler.domain.session.state import ENDED
from ostler.domain.tool import ToolRequest
from ostler.kernel.errors import OstlerError
from ostler.kernel.event import StreamId
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.ports import Append
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.worker import Worker
from tests.runtime.crash import clerk, script

UNFINISHED = ("queued", "running", "waiting", "paused")


def say(line: str) -> None:
    """Write a line at once and as a whole."""
    os.write(1, f"{line}\n".encode())


class Outside:
    """The world that survives every process: a folder with a file for each call, and a line in it for each effect."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def do(self, request: ToolRequest) -> None:
        say(f"begin {request.tool} {request.key}")
        file = os.open(self._path(request), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(file, b"done\n")
        os.fsync(file)
        os.close(file)
        say(f"done {request.tool} {request.key}")

    def has_done(self, request: ToolRequest) -> bool:
        path = self._path(request)
        return path.exists() and path.stat().st_size > 0

    def _path(self, request: ToolRequest) -> Path:
        return self._folder / f"{request.tool} {request.key.replace('/', ' ')}"

    def tools(self) -> Sequence[Tool[..., Any]]:
        @tool(effect="read")
        def look(request: ToolRequest) -> str:
            """Look."""
            self.do(request)
            return "seen"

        @tool(effect="idempotent")
        async def save(request: ToolRequest) -> str:
            """Save."""
            self.do(request)
            return "saved"

        async def happened(request: ToolRequest) -> str | None:
            return "booked" if self.has_done(request) else None

        @tool(effect="reconcilable", reconcile=happened)
        async def book(request: ToolRequest) -> str:
            """Book."""
            self.do(request)
            return "booked"

        @tool(effect="once")
        async def pay(request: ToolRequest) -> str:
            """Pay."""
            self.do(request)
            return "paid"

        return look, save, book, pay


class TalkingStore:
    """A store that says which events it has acknowledged."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, append: Append) -> int:
        position = await self._store.append(append)
        for record in append.records:
            say(f"kept {record.stream.name} {record.seq} {record.hash.hex()}")
        return position


def complain(stream: StreamId | None, error: OstlerError) -> None:
    """Whatever a worker has trouble with, no test expects it."""
    say(f"trouble {stream} {error!r}")


async def main(path: Path, effects: Path, sessions: int) -> None:
    """Start `sessions` sessions, and run until none is unfinished."""
    clock, entropy, outside = SystemClock(), SystemEntropy(), Outside(effects)
    opened = await SqliteStore.open(path)
    store: Any = TalkingStore(opened)
    journal, provider = Journal(store), script()
    performer = Performer(lambda ref: provider, FunctionTools(outside.tools()), SqliteBlobStore(opened), clock, entropy)
    worker = Worker(
        journal=journal,
        performer=performer,
        clock=clock,
        entropy=entropy,
        settings=WorkerSettings(),
        trouble=complain,
    )
    await worker.start()
    for _ in range(sessions):
        now = clock.now_us()
        name = make_id("ses", now // 1000, entropy.chance(CHANCE_BYTES))
        start = command.Start(now, name, clerk(outside), provider.ref, "Go.", LOCAL_USER)
        await journal.start(LOCAL_USER.tenant, start)
        worker.wake()
    while True:
        position = await store.head()
        unfinished = await store.streams(LOCAL_USER.tenant, prefix="ses_", statuses=UNFINISHED, limit=1)
        if not unfinished:
            break
        await store.wait(after=position, timeout_s=1)
    await worker.stop()
    await opened.close()


assert not set(UNFINISHED) & set(ENDED)

if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
