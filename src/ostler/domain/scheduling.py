"""Which of the sessions that are due go first: fairness among tenants, priority and age within one."""

import heapq
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from ostler.kernel.event import StreamId

SUSPECT_ATTEMPTS = 2
"""A session that a worker has taken so often without letting go in good order is a suspect: its workers died."""
ATTEMPTS_MAX = 5
"""A suspect that has been taken so often is not tried again."""
EVERYONE = "*"


class Caps(msgspec.Struct, frozen=True):
    """How many sessions may be in the hands of workers at once, by tenant and by queue; `*` is for all others.

    Of the queues that are `barred` in a tenant (`*`: in all), none may be.
    """

    tenants: Mapping[str, int] = {}
    queues: Mapping[str, int] = {}
    barred: frozenset[tuple[str, str]] = frozenset()

    def tenant(self, name: str) -> int | None:
        return self.tenants.get(name, self.tenants.get(EVERYONE))

    def without(self, tenants: Collection[str], queues: frozenset[tuple[str, str]] = frozenset()) -> "Caps":
        """These, and nothing of such tenants, and of such queues of tenants."""
        if not tenants and not queues:
            return self
        return Caps({**self.tenants, **dict.fromkeys(tenants, 0)}, self.queues, self.barred | queues)

    def bars(self, tenant: str, queue: str) -> bool:
        """Whether nothing may be taken from this queue of the tenant."""
        return (tenant, queue) in self.barred or (EVERYONE, queue) in self.barred

    def queue(self, name: str) -> int | None:
        return self.queues.get(name, self.queues.get(EVERYONE))

    def __bool__(self) -> bool:
        return bool(self.tenants or self.queues or self.barred)


NO_CAPS = Caps()


class Candidate(NamedTuple):
    """A stream that is due and in nobody's hands; of higher `priority` first, then longest due, then oldest."""

    tenant: str
    queue: str
    priority: int
    due_us: int
    number: int
    attempts: int

    @property
    def is_suspect(self) -> bool:
        return self.attempts >= SUSPECT_ATTEMPTS

    @property
    def place(self) -> tuple[int, int, int]:
        return -self.priority, self.due_us, self.number


def back_off_us(attempts: int) -> int:
    """How long a suspect rests since it was last taken: 1, 2, 4 … s."""
    return 0 if attempts < SUSPECT_ATTEMPTS else 2 ** (attempts - SUSPECT_ATTEMPTS) * 1_000_000


def choose(
    candidates: Iterable[Candidate],
    held: Mapping[tuple[str, str], int],
    *,
    limit: int,
    caps: Caps,
    suspects: int = 1,
) -> list[Candidate]:
    """Up to `limit` of the candidates, in the order in which they are to be taken.

    `held` counts what is in the hands of workers by tenant and queue. The turn is always of the tenant of whom workers
    hold least, so that one with thousands of sessions does not keep another waiting; within a tenant it is of the
    candidate with the first place. Never more than the caps allow, and at most `suspects` suspects: they run one by
    one, so that it becomes clear which of them brings workers down.
    """
    held_by_tenant: dict[str, int] = {}
    held_by_queue: dict[str, int] = {}
    for (tenant, queue), count in held.items():
        held_by_tenant[tenant] = held_by_tenant.get(tenant, 0) + count
        held_by_queue[queue] = held_by_queue.get(queue, 0) + count
    waiting: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.place, reverse=True):
        if caps.barred and caps.bars(candidate.tenant, candidate.queue):
            continue
        waiting.setdefault(candidate.tenant, []).append(candidate)
    turns = [(held_by_tenant.get(tenant, 0), line[-1].place, tenant) for tenant, line in waiting.items()]
    heapq.heapify(turns)
    chosen: list[Candidate] = []
    while turns and len(chosen) < limit:
        count, _, tenant = heapq.heappop(turns)
        if not _has_room(count, caps.tenant(tenant)):
            continue
        line = waiting[tenant]
        candidate = line.pop()
        if _has_room(held_by_queue.get(candidate.queue, 0), caps.queue(candidate.queue)) and (
            suspects > 0 or not candidate.is_suspect
        ):
            chosen.append(candidate)
            held_by_queue[candidate.queue] = held_by_queue.get(candidate.queue, 0) + 1
            suspects -= candidate.is_suspect
            count += 1
        if line:
            heapq.heappush(turns, (count, line[-1].place, tenant))
    return chosen


def _has_room(count: int, cap: int | None) -> bool:
    return cap is None or count < cap


class WorkerSettings(msgspec.Struct, frozen=True):
    """`queues` are the agents whose sessions it takes (None: all), `only` one session that it is there for.

    It holds up to `concurrency` sessions, and takes no more than `claims_per_s` on, so that a restart of everything is
    no stampede. `caps` are for all workers together. Its claims hold for `lease_s` after its last sign of life, which
    it gives three times as often; every `sweep_s` it looks for sessions that have become due by time alone, or whose
    worker died. On `stop` it waits `grace_s` for calls under way. `keeps_views`: it also brings the views of the store
    up to date while it runs, unless another one does.
    """

    concurrency: int = 1000
    claims_per_s: float = 1000.0
    caps: Caps = NO_CAPS
    lease_s: float = 30.0
    sweep_s: float = 1.0
    grace_s: float = 20.0
    queues: tuple[str, ...] | None = None
    only: StreamId | None = None
    keeps_views: bool = False
    version: str = ""
