"""Counting streams by where they stand: what all stores share of it, and how a SQLite file does it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ostler.domain.scheduling import SUSPECT_ATTEMPTS
from ostler.kernel.event import StreamId
from ostler.ports import (
    CENSUS_GROUPS_MAX,
    CENSUS_SUSPECTS_MAX,
    Census,
    HeldCount,
    QueueCount,
    Standing,
    StatusCount,
    Suspect,
)

TURN = 50
"""Queries before the event loop gets a turn."""

# To leap over a group one column at a time: SQLite does not seek by `(tenant, status) > (?, ?)`, it walks.
NEXT_STATUS = """
    SELECT * FROM (
        SELECT tenant, status FROM streams INDEXED BY streams_by_status
        WHERE tenant = :tenant AND status > :status ORDER BY status LIMIT 1
    ) UNION ALL SELECT * FROM (
        SELECT tenant, status FROM streams INDEXED BY streams_by_status
        WHERE tenant > :tenant ORDER BY tenant, status LIMIT 1
    ) LIMIT 1
"""
COUNT_STATUS = """
    SELECT count(*) FROM (
        SELECT 1 FROM streams INDEXED BY streams_by_status WHERE tenant = ? AND status = ? LIMIT ?
    )
"""
NEXT_LANE = """
    SELECT * FROM (
        SELECT tenant, queue, -priority FROM streams INDEXED BY streams_by_lane
        WHERE due IS NOT NULL AND worker IS NULL AND tenant = :tenant AND queue = :queue AND -priority > :rank
        ORDER BY -priority LIMIT 1
    ) UNION ALL SELECT * FROM (
        SELECT tenant, queue, -priority FROM streams INDEXED BY streams_by_lane
        WHERE due IS NOT NULL AND worker IS NULL AND tenant = :tenant AND queue > :queue
        ORDER BY queue, -priority LIMIT 1
    ) UNION ALL SELECT * FROM (
        SELECT tenant, queue, -priority FROM streams INDEXED BY streams_by_lane
        WHERE due IS NOT NULL AND worker IS NULL AND tenant > :tenant ORDER BY tenant, queue, -priority LIMIT 1
    ) LIMIT 1
"""
COUNT_LANE = """
    SELECT count(*), min(due) FROM (
        SELECT due FROM streams INDEXED BY streams_by_lane
        WHERE tenant = ? AND queue = ? AND -priority = ? AND due > ? AND due <= ? AND worker IS NULL
        ORDER BY due LIMIT ?
    )
"""
HELD = """
    SELECT worker, tenant, queue, count(*) FROM streams WHERE worker IS NOT NULL
    GROUP BY worker, tenant, queue ORDER BY worker, tenant, queue
"""
SUSPECTS = """
    SELECT tenant, name, queue, status, attempts, claimed, worker FROM streams INDEXED BY streams_by_attempts
    WHERE attempts >= 2 ORDER BY attempts DESC, key LIMIT ?
"""
LATEST = 2**63 - 1

Fetch = Callable[[str, Sequence[Any] | Mapping[str, Any]], Awaitable[list[Any]]]
"""Runs one query with these parameters."""


class Stood(NamedTuple):
    """A stream as it stands."""

    name: StreamId
    standing: Standing
    worker: str | None
    attempts: int
    claimed_us: int


class Lane(NamedTuple):
    """What a tenant has in a queue with one priority, in nobody's hands."""

    tenant: str
    queue: str
    priority: int
    due: int
    later: int
    oldest_us: int | None


def queues(lanes: Iterable[Lane], most: int) -> list[QueueCount]:
    """Lanes put together, whatever their priority."""
    found: dict[tuple[str, str], list[Lane]] = {}
    for lane in lanes:
        found.setdefault((lane.tenant, lane.queue), []).append(lane)
    return [
        QueueCount(
            tenant,
            queue,
            due=min(most, sum(lane.due for lane in together)),
            later=min(most, sum(lane.later for lane in together)),
            oldest_us=min((lane.oldest_us for lane in together if lane.oldest_us is not None), default=None),
            priority_min=min(lane.priority for lane in together),
            priority_max=max(lane.priority for lane in together),
        )
        for (tenant, queue), together in sorted(found.items())
    ]


def of_all(streams: Sequence[Stood], *, now_us: int, without: Sequence[str], most: int) -> Census:
    """The census of streams that can all be looked at."""
    statuses = Counter((stream.name.tenant, stream.standing.status) for stream in streams)
    held = Counter(
        (stream.worker, stream.name.tenant, stream.standing.queue) for stream in streams if stream.worker is not None
    )
    dues: dict[tuple[str, str, int], list[int]] = {}
    for name, standing, worker, *_ in streams:
        if standing.due_us is not None and worker is None:
            dues.setdefault((name.tenant, standing.queue, -standing.priority), []).append(standing.due_us)
    lanes = [
        Lane(
            tenant, queue, -rank, due := sum(at <= now_us for at in moments), len(moments) - due, _oldest(moments, due)
        )
        for (tenant, queue, rank), moments in sorted(dues.items())[:CENSUS_GROUPS_MAX]
    ]
    suspects = [stream for stream in streams if stream.attempts >= SUSPECT_ATTEMPTS]
    suspects.sort(key=lambda stream: -stream.attempts)
    return Census(
        [
            StatusCount(tenant, status, min(most, count))
            for (tenant, status), count in sorted(statuses.items())[:CENSUS_GROUPS_MAX]
            if status not in without
        ],
        queues(lanes, most),
        [HeldCount(*whose, count) for whose, count in sorted(held.items())],
        [
            Suspect(name, standing.queue, standing.status, attempts, claimed_us, worker)
            for name, standing, worker, attempts, claimed_us in suspects[:CENSUS_SUSPECTS_MAX]
        ],
        is_whole=max(len(statuses), len(dues)) <= CENSUS_GROUPS_MAX,
    )


def _oldest(moments: Sequence[int], due: int) -> int | None:
    return min(moments) if due else None


async def census(fetch: Fetch, *, now_us: int, without: Sequence[str], most: int) -> Census:
    """The census of a SQLite file: it leaps through indexes from group to group, and counts each by its index."""
    groups, statuses_whole = await _walk(fetch, NEXT_STATUS, {"tenant": "", "status": ""})
    statuses = []
    for number, (tenant, status) in enumerate(groups):
        if status not in without:
            ((count,),) = await fetch(COUNT_STATUS, (tenant, status, most))
            statuses.append(StatusCount(tenant, status, count))
        await _rest(number)
    places, lanes_whole = await _walk(fetch, NEXT_LANE, {"tenant": "", "queue": "", "rank": -LATEST})
    lanes = []
    for number, place in enumerate(places):
        ((due, oldest_us),) = await fetch(COUNT_LANE, (*place, -LATEST, now_us, most))
        ((later, _),) = await fetch(COUNT_LANE, (*place, now_us, LATEST, most))
        tenant, queue, rank = place
        lanes.append(Lane(tenant, queue, -rank, due, later, oldest_us))
        await _rest(number)
    held = [HeldCount(*row) for row in await fetch(HELD, ())]
    suspects = [suspect(row) for row in await fetch(SUSPECTS, (CENSUS_SUSPECTS_MAX,))]
    return Census(statuses, queues(lanes, most), held, suspects, statuses_whole and lanes_whole)


async def _walk(fetch: Fetch, query: str, first: dict[str, Any]) -> tuple[list[tuple[Any, ...]], bool]:
    """The groups that there are, and whether these are all."""
    found: list[tuple[Any, ...]] = []
    while rows := await fetch(query, dict(zip(first, found[-1], strict=True)) if found else first):
        if len(found) == CENSUS_GROUPS_MAX:
            return found, False
        found.append(tuple(rows[0]))
        await _rest(len(found))
    return found, True


async def _rest(number: int) -> None:
    if number % TURN == 0:
        await asyncio.sleep(0)


def suspect(row: Sequence[Any]) -> Suspect:
    """A row of a query for suspects: tenant, name, queue, status, attempts, claimed, worker."""
    tenant, name, *rest = row
    return Suspect(StreamId(tenant, name), *rest)
