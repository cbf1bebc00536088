"""Worker processes on one store, those who start sessions there, and the judgement of what came of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler.app.world import SystemEntropy
from ostler.domain.identity import DEFAULT_TENANT, LOCAL_USER
from ostler.domain.session import commands as command
from ostler.domain.session.commands import SessionCommand
from ostler.domain.session.state import ENDED
from ostler.kernel.errors import StoreError
from ostler.kernel.event import StreamId
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.runtime.journal import Journal
from tests.faults import cast
from tests.faults.invariants import Line, judge, ledgers
from tests.faults.labour import Orders, open_store
from tests.runtime.processes import ROOT, Child

LONG = bool(os.environ.get("OSTLER_TEST_LONG"))
"""Whether the tests of faults run in their long forms (`make faults`)."""

UNFINISHED = ("queued", "running", "waiting")
DEADLINE_S = 90.0
"""No crew takes longer than this to come to rest, however busy the machine is."""
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


def size(short: int, long: int) -> int:
    """How many, in the suite and in the long form."""
    return long if LONG else short


async def some_time(seconds: float) -> None:
    """Let the others go on, so that what happens next happens to them in the middle of something."""
    await asyncio.sleep(seconds)


class Crew:
    """Everybody at work on the store at `url`, whose ledgers are in `folder`. `wishes` are orders for every worker."""

    def __init__(self, url: str, folder: Path, **wishes: Any) -> None:
        self.url = url
        self.folder = folder
        self.workers: dict[str, Child] = {}
        self._wishes = wishes
        self._ledger = cast.Ledger(folder / f"{cast.PEOPLE}.ledger")
        self._entropy = SystemEntropy()
        self._hired = 0

    async def open(self) -> None:
        opened, _, self.clock = await open_store(self.url)
        self.store: Any = cast.NotedStore(opened, self._ledger)
        self._journal = Journal(self.store)
        self._tools = cast.Outside(self.folder, self._ledger).tools()

    async def hire(self, *, through: Sequence[str] = (), env: dict[str, str] | None = None, **wishes: Any) -> Child:
        """One more worker process, at work when this returns; `through` is a command that runs it."""
        self._hired += 1
        name = f"w{self._hired}"
        orders = Orders(**({"url": self.url, "folder": str(self.folder), "name": name} | self._wishes | wishes))
        worker = await self._spawn([*through, *_as_another_host(orders)], orders, env or {})
        self.workers[name] = worker
        await worker.until("ready")
        return worker

    def name_of(self, worker: Child) -> str:
        return next(name for name, one in self.workers.items() if one is worker)

    async def start(self, story: str, count: int = 1, *, tenant: str = DEFAULT_TENANT) -> list[StreamId]:
        """Start so many sessions, side by side."""
        return list(await asyncio.gather(*(self._start(story, tenant) for _ in range(count))))

    async def tell(self, stream: StreamId, make: Callable[[int], SessionCommand]) -> None:
        """Do as a person does who approves, cancels, …; `make` gets the time."""
        session = await self._journal.load(stream)
        await self._journal.execute(session, make(self.clock.now_us()))

    async def statuses(self) -> dict[StreamId, str]:
        """How every session stands."""
        infos = []
        for tenant in {DEFAULT_TENANT, *(line.facts[0] for line in self.lines("kept"))}:
            infos += await self.store.streams(tenant, prefix="ses_", limit=1_000_000)
        return {info.stream: info.standing.status for info in infos}

    async def until(self, is_so: Callable[[], Any], *, within_s: float = DEADLINE_S) -> None:
        """Look again and again; also when the store cannot be reached at the moment."""
        async with asyncio.timeout(within_s):
            while True:
                with suppress(StoreError):
                    found = is_so()
                    if await found if asyncio.iscoroutine(found) else found:
                        return
                await asyncio.sleep(0.02)

    async def over(self, tenants: Sequence[str] = (DEFAULT_TENANT,), *, within_s: float = DEADLINE_S) -> None:
        """Until every session has ended, or stands still for a person."""

        async def none_is_left() -> bool:
            for tenant in tenants:
                if await self.store.streams(tenant, prefix="ses_", statuses=UNFINISHED, limit=1):
                    return False
            return True

        try:
            await self.until(none_is_left, within_s=within_s)
        except TimeoutError:
            left = [
                f"{stream.name} {status}" for stream, status in (await self.statuses()).items() if status not in ENDED
            ]
            pytest.fail(f"{len(left)} sessions did not end in time: {left[:5]}; {self.lines('trouble')[-3:]}")

    def lines(self, what: str = "", *, by: Child | None = None) -> list[Line]:
        """What was noted so far, of one kind, by all or by one."""
        who = "" if by is None else self.name_of(by)
        return [
            line
            for line in ledgers(self.folder)
            if line.what in (what or line.what, what) and who in ("", line.process)
        ]

    async def stop(self, worker: Child) -> int:
        """Let it finish what it does; its exit code."""
        with suppress(ConnectionError):
            await worker.tell("stop")
        await worker.rest()
        return await worker.ended()

    async def judge(self, *, are_over: bool = True) -> list[str]:
        """Everything that is wrong."""
        return await judge(self.store, self.folder, are_over=are_over)

    async def close(self) -> None:
        """Everybody is dead afterwards."""
        for worker in self.workers.values():
            with suppress(ProcessLookupError):
                worker.signal(signal.SIGKILL)
            await worker.rest()
            await worker.ended()
        await self.store.close()

    async def _start(self, story: str, tenant: str) -> StreamId:
        now = self.clock.now_us()
        name = make_id("ses", now // 1000, self._entropy.chance(CHANCE_BYTES))
        agent = cast.agent(story, self._tools)
        start = command.Start(
            now, name, agent, cast.model(story).ref, "Go.", msgspec.structs.replace(LOCAL_USER, tenant=tenant)
        )
        await self._journal.start(tenant, start)
        return StreamId(tenant, name)

    async def _spawn(self, through: Sequence[str], orders: Orders, env: dict[str, str]) -> Child:
        with (self.folder / f"{orders.name}.err").open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *through,
                sys.executable,
                "-m",
                "tests.faults.labour",
                msgspec.json.encode(orders).decode(),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        return Child(process)


@asynccontextmanager
async def crew(url: str, folder: Path, **wishes: Any) -> AsyncIterator[Crew]:
    """A crew that is gone afterwards, whatever happened."""
    folder.mkdir(exist_ok=True)
    made = Crew(url, folder, **wishes)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def _as_another_host(orders: Orders) -> list[str]:
    """The beginning of a command that may name the machine as it likes, for itself alone."""
    if not orders.host:
        return []
    way = ["unshare", "--uts"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--uts"]
    need(*way, "true")
    return way


def need(*command: str) -> None:
    """Skip the test where this command cannot be run, which in CI makes it fail."""
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"the command {command[0]} is not here: {error}")
    if done.returncode:
        pytest.skip(f"the command {' '.join(command)} does not run here: {done.stderr.decode().strip()}")


def clock_off(*, offset_s: float | None = None, told_by: Path | None = None) -> dict[str, str]:
    """The environment in which a process has another wall clock: off by so much, or by what a file says at the time.

    A file says `+3600` or `-300`. What measures durations is left alone, as by somebody who sets the clock.
    """
    library = next(
        (path for folder in LIBRARIES if (path := Path(folder, "faketime", "libfaketimeMT.so.1")).exists()), None
    )
    if library is None:
        pytest.skip("libfaketime is not here")
    wish = {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}
    if told_by is not None:
        return wish | {"FAKETIME_TIMESTAMP_FILE": str(told_by)}
    return wish | {"FAKETIME": f"{offset_s:+g}"}
