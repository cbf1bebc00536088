"""A store as operators see it: its workers, what is due to whom, what is stuck, and who lags behind the log."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.circuits import Circuit, OpenCircuits
from ostler.app.halts import Halt, halts
from ostler.app.health import Failing, Unfit
from ostler.app.settings import Settings, shown
from ostler.domain.boot import WORKER_CODEC, WorkerStarted
from ostler.domain.housekeeping import ERASED
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.registers import REGISTERS
from ostler.domain.scheduling import EVERYONE
from ostler.domain.session.events import SESSION_CODEC, AgentPaused
from ostler.domain.session.state import ENDED
from ostler.kernel.errors import StoreCorrupt, UnknownEvent
from ostler.kernel.event import Record, StreamId, timestamp
from ostler.ports import Census, EventStore, StreamInfo, Suspect
from ostler.runtime.journal import QUARANTINED
from ostler.runtime.relay import Marker
from ostler.views.catalogue import VIEWS

MOST = 10_000
"""Streams of a tenant and status, or of a queue, beyond which is not counted."""
UNCOUNTED = (*(status for status in ENDED if status != "failed"), "stopped", "lost", ERASED, *REGISTERS)
"""Statuses of streams at rest: a store may hold millions of them."""
TENANTS_MAX = 50
LISTED_MAX = 100
"""Sessions of a tenant that are looked at one by one, the newest first, and boots of workers."""
REASON_EVENTS = 16
"""The last events of a session among which the reason for its pause is looked for."""
LATELY_US = 3_600_000_000
RARELY_S = 10.0
"""How often that is looked at which changes rarely, and for which streams are read."""


class WorkerView(msgspec.Struct, frozen=True):
    """A worker: `lease_left_s` is how long it lives without a further sign of life, `silent_s` since when it does not.

    `lost` ones were given up: found dead by another worker, or forgotten by all.
    """

    id: str
    state: Literal["alive", "silent", "lost"]
    host: str
    pid: int | None
    version: str
    held: int
    lease_left_s: float | None = None
    silent_s: float | None = None


class QueueView(msgspec.Struct, frozen=True):
    """The sessions of an agent and tenant: `due` now, due `later`, and `held` by workers."""

    tenant: str
    agent: str
    due: int
    later: int
    held: int
    oldest_due_s: float | None
    priority_min: int
    priority_max: int


class SuspectView(msgspec.Struct, frozen=True):
    """A session whose workers died or fell silent with it in their hands, `attempts - 1` in a row."""

    tenant: str
    session: str
    agent: str
    status: str
    attempts: int
    taken_s: float
    worker: str | None


class Aside(msgspec.Struct, frozen=True):
    """A session that Ostler itself has put aside, why, and the command that is to be tried."""

    tenant: str
    session: str
    agent: str
    status: str
    reason: str
    todo: str


class ReaderView(msgspec.Struct, frozen=True):
    """A view or a relay: `lag` events of the log are still to be read, the first of them `behind_s` old."""

    kind: Literal["view", "relay"]
    name: str
    position: int
    lag: int
    behind_s: float | None
    begun: bool = True
    dead_letters: int = 0


class Overview(msgspec.Struct, frozen=True):
    """All of it. Counts are exact up to `most`; `is_whole` is False where more tenants and agents are than are counted.

    `statuses` are sessions by status, without those that ended well. `failed_lately` are sessions that failed in the
    last hour, among the newest of each tenant. `ahead_s` is how far the log is ahead of the clock. `breakers` are those
    that are open, and `breakers_unknown` says why there may be more. `unfit` are fitness targets that fail.
    """

    store: str
    at: str
    events: int
    ahead_s: float
    statuses: dict[str, int]
    most: int
    is_whole: bool
    due: int
    later: int
    held: int
    oldest_due_s: float | None
    failed_lately: int
    workers: list[WorkerView]
    queues: list[QueueView]
    suspects: list[SuspectView]
    aside: list[Aside]
    readers: list[ReaderView]
    halted: list[Halt] = []
    breakers: list[Circuit] = []
    breakers_unknown: str = ""
    unfit: list[Unfit] = []


class _Rare(msgspec.Struct, frozen=True):
    """What is looked at now and then."""

    boots: list[StreamInfo]
    lost: list[WorkerView]
    aside: list[Aside]
    failed_lately: int


class Watch:
    """Looks at a store again and again. It asks for little each time, and remembers what does not change."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._store: EventStore = parts.store
        self._started: dict[str, WorkerStarted | None] = {}
        self._circuits = OpenCircuits(settings, parts)
        self._unfit = Failing(parts)
        self._rare: _Rare | None = None
        self._rare_at_s = 0.0

    async def look(self) -> Overview:
        """The store as it is now. Raises `StoreError`."""
        now = self._parts.clock.now_us()
        census = await self._store.census(now_us=now, without=UNCOUNTED, most=MOST)
        lives = await self._store.workers()
        rare = await self._look_rarely(census, [name for name, _ in lives], now)
        statuses = Counter[str]()
        for one in census.statuses:
            statuses[one.status] += one.count
        # Workers have streams of their own, which have a status, too.
        statuses["running"] -= sum(boot.standing.status == "running" for boot in rare.boots)
        head = await self._store.head()
        newest = await self._store.tail(after=head - 1, limit=1) if head else []
        held = _held_by_queue(census)
        oldest = min((queue.oldest_us for queue in census.queues if queue.oldest_us is not None), default=None)
        return Overview(
            store=shown(self._settings.store),
            at=timestamp(now),
            events=head,
            ahead_s=max((record.at_us - now for record in newest), default=0) / 1e6,
            statuses={status: count for status, count in sorted(statuses.items()) if count > 0},
            most=MOST,
            is_whole=census.is_whole,
            due=sum(queue.due for queue in census.queues),
            later=sum(queue.later for queue in census.queues),
            held=sum(held.values()),
            oldest_due_s=None if oldest is None else (now - oldest) / 1e6,
            failed_lately=rare.failed_lately,
            workers=[*[await self._worker(name, until_us, census, now) for name, until_us in lives], *rare.lost],
            queues=_queues(census, held, now),
            suspects=[_suspect(suspect, now) for suspect in census.suspects],
            aside=rare.aside,
            readers=await self._readers(head, now),
            halted=await halts(self._parts, [DEFAULT_TENANT, *_tenants(census)]),  # reads what is said of breakers, too
            breakers=await self._circuits.look([EVERYONE, DEFAULT_TENANT, *_tenants(census)]),
            breakers_unknown=self._circuits.problem.message if self._circuits.problem else "",
            unfit=await self._unfit.look([DEFAULT_TENANT, *_tenants(census)]),
        )

    async def _worker(self, name: str, until_us: int, census: Census, now: int) -> WorkerView:
        identity, host, pid = _place(name)
        if self._started.get(identity) is None:
            self._started[identity] = await self._start(StreamId(DEFAULT_TENANT, identity))
        started = self._started[identity]
        left_s = (until_us - now) / 1e6
        return WorkerView(
            identity,
            "alive" if left_s > 0 else "silent",
            host=started.host if started else host,
            pid=started.pid if started else pid,
            version=started.version if started else "",
            held=sum(one.count for one in census.held if one.worker == name),
            lease_left_s=left_s if left_s > 0 else None,
            silent_s=-left_s if left_s <= 0 else None,
        )

    async def _start(self, stream: StreamId) -> WorkerStarted | None:
        for record in await self._store.read(stream, limit=1):
            try:
                event = WORKER_CODEC.decode(record.data)
            except (StoreCorrupt, UnknownEvent):
                return None
            return event if isinstance(event, WorkerStarted) else None
        return None

    async def _readers(self, head: int, now: int) -> list[ReaderView]:
        views = self._parts.views
        readers = []
        for view in VIEWS:
            position = await views.position(view.id)
            behind_s = await self._behind_s(position, head, now)
            readers.append(ReaderView("view", view.name, position, max(0, head - position), behind_s))
        for name in self._settings.relays:
            marker = Marker(views, name)
            position, begun = await marker.read(), await marker.has_begun()
            letters = len(await marker.letters(limit=LISTED_MAX))
            behind_s = await self._behind_s(position, head, now)
            readers.append(ReaderView("relay", name, position, max(0, head - position), behind_s, begun, letters))
        return readers

    async def _behind_s(self, position: int, head: int, now: int) -> float | None:
        """How old the first event is that was not read yet; None if all were."""
        unread = await self._store.tail(after=position, limit=1) if position < head else []
        return max(0, now - unread[0].at_us) / 1e6 if unread else None

    async def _look_rarely(self, census: Census, lives: Sequence[str], now: int) -> _Rare:
        if self._rare is not None and time.monotonic() < self._rare_at_s + RARELY_S:
            return self._rare
        boots = await self._store.streams(DEFAULT_TENANT, prefix="wrk_", limit=LISTED_MAX)
        living = {name.partition("/")[0] for name in lives}
        lost = [boot for boot in boots if boot.standing.status in ("running", "lost")]
        gone = [await self._lost(boot, now) for boot in lost if boot.stream.name not in living]
        self._rare = _Rare(
            boots,
            [worker for worker in gone if worker is not None],
            await self._aside(_tenants(census, "paused", QUARANTINED)),
            await self._failed_lately(_tenants(census, "failed"), now),
        )
        self._rare_at_s = time.monotonic()
        return self._rare

    async def _lost(self, boot: StreamInfo, now: int) -> WorkerView | None:
        """A worker that ended without a word; None if that is long ago."""
        last = await self._store.read(boot.stream, after=boot.version - 1, limit=1)
        started = await self._start(boot.stream)
        if not last or started is None or last[0].at_us < now - LATELY_US:
            return None
        silent_s = (now - last[0].at_us) / 1e6
        return WorkerView(
            boot.stream.name, "lost", started.host, started.pid, started.version, held=0, silent_s=silent_s
        )

    async def _aside(self, tenants: Sequence[str]) -> list[Aside]:
        found = []
        for tenant in tenants:
            for info in await self._store.streams(tenant, statuses=("paused", QUARANTINED), limit=LISTED_MAX):
                place = (tenant, info.stream.name, info.standing.queue, info.standing.status)
                if info.standing.status == QUARANTINED:
                    todo = f"ostler verify {info.stream.name}"
                    found.append(Aside(*place, "its log is damaged, and no worker touches it", todo))
                elif reason := await self._reason(info):
                    found.append(Aside(*place, reason, f"ostler resume {info.stream.name}"))
        return found

    async def _reason(self, info: StreamInfo) -> str:
        """Why Ostler has paused this session; empty if it was a person. It is not loaded: that may be what kills."""
        last = await self._store.read(info.stream, after=max(0, info.version - REASON_EVENTS))
        paused = next((event for event in map(_pause, reversed(last)) if event is not None), None)
        return paused.reason if paused is not None and paused.by == "ostler" else ""

    async def _failed_lately(self, tenants: Sequence[str], now: int) -> int:
        count = 0
        for tenant in tenants:
            for info in await self._store.streams(tenant, statuses=("failed",), limit=LISTED_MAX):
                last = await self._store.read(info.stream, after=info.version - 1, limit=1)
                count += bool(last) and last[0].at_us >= now - LATELY_US
        return count


def _place(worker: str) -> tuple[str, str, int | None]:
    """Identity, host and pid, as the name of a worker tells them."""
    identity, host, pid, *_ = [*worker.split("/"), "", ""]
    return identity, host.partition(":")[0], int(pid) if pid.isdecimal() else None


def _pause(record: Record) -> AgentPaused | None:
    try:
        event = SESSION_CODEC.decode(record.data)
    except (StoreCorrupt, UnknownEvent):
        return None
    return event if isinstance(event, AgentPaused) else None


def _tenants(census: Census, *statuses: str) -> list[str]:
    """Some of the tenants that have streams with one of these statuses, or with any."""
    found = (one.tenant for one in census.statuses if not statuses or one.status in statuses)
    return list(dict.fromkeys(found))[:TENANTS_MAX]


def _held_by_queue(census: Census) -> Counter[tuple[str, str]]:
    held = Counter[tuple[str, str]]()
    for one in census.held:
        held[one.tenant, one.queue] += one.count
    return held


def _queues(census: Census, held: Counter[tuple[str, str]], now: int) -> list[QueueView]:
    """Those with the longest due session first."""
    known = {(queue.tenant, queue.queue): queue for queue in census.queues}
    views = []
    for place in sorted(known.keys() | held.keys()):
        queue = known.get(place)
        oldest_s = None if queue is None or queue.oldest_us is None else (now - queue.oldest_us) / 1e6
        views.append(
            QueueView(
                *place,
                due=queue.due if queue else 0,
                later=queue.later if queue else 0,
                held=held[place],
                oldest_due_s=oldest_s,
                priority_min=queue.priority_min if queue else 0,
                priority_max=queue.priority_max if queue else 0,
            )
        )
    return sorted(views, key=lambda view: -1.0 if view.oldest_due_s is None else view.oldest_due_s, reverse=True)


def _suspect(suspect: Suspect, now: int) -> SuspectView:
    return SuspectView(
        *suspect.stream,
        agent=suspect.queue,
        status=suspect.status,
        attempts=suspect.attempts,
        taken_s=(now - suspect.claimed_us) / 1e6,
        worker=None if suspect.worker is None else suspect.worker.partition("/")[0],
    )
