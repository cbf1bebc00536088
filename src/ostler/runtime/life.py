"""The life of a worker process, as the log has it, and the burial of those that died without a word."""

import asyncio
import os
import socket
from pathlib import Path

from ostler.domain.boot import (
    WORKER_CODEC,
    WORKER_QUEUE,
    BreakerClosed,
    BreakerOpened,
    WorkerEvent,
    WorkerLost,
    WorkerStarted,
    WorkerStopped,
)
from ostler.domain.identity import DEFAULT_TENANT
from ostler.kernel.errors import StaleWrite
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, Clock, EventStore, Standing

FORGOTTEN_US = 3_600_000_000
"""A worker of any host that was silent for so long after its lease is buried, too: its host may never come back."""


class Life:
    """What the log knows of this worker, and of those of this host that died."""

    def __init__(self, store: EventStore, clock: Clock, identity: str) -> None:
        self._store = store
        self._clock = clock
        self._stream = StreamId(DEFAULT_TENANT, identity)
        self._last: tuple[int, bytes] = (0, GENESIS)
        self._writing = asyncio.Lock()
        self.name = f"{identity}/{_here()}/{os.getpid()}/{_birth(os.getpid())}"

    async def begin(self, version: str) -> None:
        lost = await self.bury_the_dead()
        started = WorkerStarted(socket.gethostname(), os.getpid(), version, tuple(lost))
        self._last = await self._append(self._stream, self._last, started, "running")

    async def note(self, event: BreakerOpened | BreakerClosed) -> None:
        """Something happened to it that others may want to see."""
        async with self._writing:
            self._last = await self._append(self._stream, self._last, event, "running")

    async def end(self, reason: str) -> None:
        async with self._writing:
            self._last = await self._append(self._stream, self._last, WorkerStopped(reason), "stopped")
        await self._store.retire(self.name)

    async def bury_the_dead(self) -> list[str]:
        """Free at once what dead workers of this host hold, and write that they were lost; those long silent, too."""
        buried = []
        gone_us = self._clock.now_us() - FORGOTTEN_US
        for worker, until_us in await self._store.workers():
            identity, host, pid, birth = worker.split("/")
            is_dead_here = host == _here() and _birth(int(pid)) != birth
            if worker == self.name or not (is_dead_here or until_us < gone_us):
                continue
            if await self._mourn(StreamId(DEFAULT_TENANT, identity)):
                buried.append(identity)
            await self._store.retire(worker)
        return buried

    async def _mourn(self, stream: StreamId) -> bool:
        """Write down that a worker was lost, if it had begun and nobody has written down its end."""
        records = await self._store.read(stream)
        if not records or isinstance(WORKER_CODEC.decode(records[-1].data), WorkerStopped | WorkerLost):
            return False
        last = (records[-1].seq, records[-1].hash)
        try:
            await self._append(stream, last, WorkerLost(self._stream.name), "lost")
        except StaleWrite:
            return False  # another worker has noticed it too
        return True

    async def _append(
        self, stream: StreamId, last: tuple[int, bytes], event: WorkerEvent, status: str
    ) -> tuple[int, bytes]:
        seq, now, data = last[0] + 1, self._clock.now_us(), WORKER_CODEC.encode(event)
        record = Record(stream, seq, now, data, link(last[1], stream, seq, now, data))
        await self._store.append(Append(stream, last[0], [record], Standing(WORKER_QUEUE, status, None)))
        return seq, record.hash


def _here() -> str:
    """This boot of this host and this process table: a pid means nothing in another container, nor after a restart."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{socket.gethostname()}:{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _birth(pid: int) -> str:
    """When this process was started, so that a reused pid is not taken for it; empty if none is alive."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # dead, although nobody has asked how it ended
