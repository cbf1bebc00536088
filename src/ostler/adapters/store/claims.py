"""Putting due streams into the hands of workers, in a SQLite database: operations for a group's commit."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ostler.domain.scheduling import SUSPECT_ATTEMPTS, Candidate, Caps, back_off_us, choose
from ostler.kernel.event import StreamId
from ostler.ports import Claim

LANES_MAX = 256
"""Tenants, agents and priorities looked at for one claim; the next claim goes on behind them."""
LANE_MIN = 16
"""Streams looked at in each lane, at least."""
SUSPECTS_MAX = 1_000
"""Suspects looked at: most of them may still rest."""

Lane = tuple[str, str, int]
FIRST_LANE: Lane = ("", "", 0)

FREE_THE_DEAD = """
    WITH RECURSIVE holders (worker) AS (
        SELECT min(worker) FROM streams WHERE worker IS NOT NULL
        UNION ALL
        SELECT (SELECT min(worker) FROM streams AS later WHERE later.worker > holders.worker)
        FROM holders WHERE worker IS NOT NULL
    )
    UPDATE streams SET worker = NULL WHERE worker IN (
        SELECT worker FROM holders
        WHERE worker IS NOT NULL AND worker NOT IN (SELECT name FROM workers WHERE until > ?)
    )
"""
NEXT_LANE = """
    SELECT tenant, queue, -priority FROM streams INDEXED BY streams_by_lane
    WHERE due IS NOT NULL AND worker IS NULL AND (tenant, queue, -priority) > (?, ?, ?)
    ORDER BY tenant, queue, -priority LIMIT 1
"""
IN_LANE = """
    SELECT tenant, queue, priority, due, key, attempts, claimed FROM streams INDEXED BY streams_by_lane
    WHERE tenant = ? AND queue = ? AND -priority = ? AND due <= ? AND due IS NOT NULL AND worker IS NULL
      AND attempts < ?
    ORDER BY due, key LIMIT ?
"""
# The longest due of all, whatever their lane: none waits until a walk of very many lanes comes by.
OLDEST = """
    SELECT tenant, queue, priority, due, key, attempts, claimed FROM streams INDEXED BY streams_by_due
    WHERE due <= ? AND due IS NOT NULL AND worker IS NULL AND attempts < ?
      AND (? IS NULL OR queue IN (SELECT value FROM json_each(?)))
    ORDER BY due, key LIMIT ?
"""
SUSPECTS = """
    SELECT tenant, queue, priority, due, key, attempts, claimed FROM streams INDEXED BY streams_by_attempts
    WHERE attempts >= 2 AND attempts >= ? AND due <= ? AND worker IS NULL
      AND (? IS NULL OR queue IN (SELECT value FROM json_each(?)))
    ORDER BY due, key LIMIT ?
"""
ONLY = """
    SELECT tenant, queue, priority, due, key, attempts, claimed FROM streams
    WHERE tenant = ? AND name = ? AND due <= ? AND worker IS NULL
"""
HELD = "SELECT tenant, queue, count(*) FROM streams WHERE worker IS NOT NULL GROUP BY tenant, queue"
TAKE = """
    UPDATE streams SET worker = ?, epoch = epoch + 1, attempts = attempts + 1, claimed = ? WHERE key = ?
    RETURNING tenant, name, epoch, attempts
"""
VOUCH = "UPDATE streams SET attempts = 0 WHERE tenant = ? AND name = ? AND worker = ? AND attempts > 0"
RELEASE = "UPDATE streams SET worker = NULL, attempts = 0 WHERE tenant = ? AND name = ? AND worker = ?"
BEAT = "INSERT INTO workers (name, until) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET until = excluded.until"
FREE = "UPDATE streams SET worker = NULL WHERE worker = ?"
RETIRE = "DELETE FROM workers WHERE name = ?"

Operation = Callable[[sqlite3.Connection], object]


class Wish(NamedTuple):
    """What a worker asks for; see `EventStore.claim`."""

    worker: str
    now_us: int
    limit: int
    queues: Sequence[str] | None
    only: StreamId | None
    caps: Caps
    suspects: int


def claim(wish: Wish, begin: Lane) -> Callable[[sqlite3.Connection], tuple[list[Claim], Lane]]:
    """The operation that takes what is due; also tells the lane to begin behind next time."""

    def take(connection: sqlite3.Connection) -> tuple[list[Claim], Lane]:
        connection.execute(FREE_THE_DEAD, (wish.now_us,))
        candidates, end = _candidates(connection, wish, begin)
        is_contested = bool(candidates and wish.caps) or len({candidate.tenant for candidate in candidates}) > 1
        held = {(tenant, queue): count for tenant, queue, count in connection.execute(HELD)} if is_contested else {}
        chosen = choose(candidates, held, limit=wish.limit, caps=wish.caps, suspects=wish.suspects)
        claims = []
        for candidate in chosen:
            taken = connection.execute(TAKE, (wish.worker, wish.now_us, candidate.number)).fetchone()
            claims.append(Claim(StreamId(taken[0], taken[1]), taken[2], taken[3]))
        return claims, end

    return take


def _candidates(connection: sqlite3.Connection, wish: Wish, begin: Lane) -> tuple[list[Candidate], Lane]:
    """The head of every lane that the worker serves, and the lane to begin behind next time."""
    if wish.only is not None:
        rows = connection.execute(ONLY, (*wish.only, wish.now_us)).fetchall()
        return _eligible(rows, wish), begin
    lanes, end = _lanes(connection, wish, begin)
    size = max(LANE_MIN, 2 * wish.limit // max(1, len(lanes))) if len(lanes) > 1 else wish.limit + LANE_MIN
    rows = []
    for lane in lanes:
        rows += connection.execute(IN_LANE, (*lane, wish.now_us, SUSPECT_ATTEMPTS, size)).fetchall()
    queues = None if wish.queues is None else json.dumps(list(wish.queues))
    oldest = (wish.now_us, SUSPECT_ATTEMPTS, queues, queues, LANE_MIN)
    rows += connection.execute(OLDEST, oldest).fetchall()
    if wish.suspects:
        suspects = (SUSPECT_ATTEMPTS, wish.now_us, queues, queues, SUSPECTS_MAX)
        rows += connection.execute(SUSPECTS, suspects).fetchall()
    return _eligible(list(dict.fromkeys(rows)), wish), end


def _lanes(connection: sqlite3.Connection, wish: Wish, begin: Lane) -> tuple[list[Lane], Lane]:
    lanes: list[Lane] = []
    lane = begin
    for _ in range(LANES_MAX):
        found = connection.execute(NEXT_LANE, lane).fetchone()
        if found is None:
            if begin == FIRST_LANE:
                return lanes, FIRST_LANE
            return lanes + _lanes(connection, wish, FIRST_LANE)[0], FIRST_LANE
        lane = found
        if wish.queues is None or lane[1] in wish.queues:
            lanes.append(lane)
    return lanes, lane


def _eligible(rows: Sequence[tuple[str, str, int, int, int, int, int]], wish: Wish) -> list[Candidate]:
    """Without those of other agents, and suspects that still rest."""
    return [
        Candidate(tenant, queue, priority, due_us, key, attempts)
        for tenant, queue, priority, due_us, key, attempts, claimed_us in rows
        if claimed_us + back_off_us(attempts) <= wish.now_us and (wish.queues is None or queue in wish.queues)
    ]


def vouch(worker: str, streams: Sequence[StreamId]) -> Operation:
    """The operation that forgets earlier attempts at these streams."""
    rows = [(tenant, name, worker) for tenant, name in streams]
    return lambda connection: connection.executemany(VOUCH, rows)


def release(worker: str, streams: Sequence[StreamId]) -> Operation:
    """The operation that lets go of a worker's claims on these streams."""
    rows = [(tenant, name, worker) for tenant, name in streams]
    return lambda connection: connection.executemany(RELEASE, rows)


def beat(worker: str, until_us: int) -> Operation:
    """The operation that says until when a worker lives."""
    return lambda connection: connection.execute(BEAT, (worker, until_us))


def retire(worker: str) -> Operation:
    """The operation that forgets a worker and frees what it held."""

    def forget(connection: sqlite3.Connection) -> None:
        connection.execute(FREE, (worker,))
        connection.execute(RETIRE, (worker,))

    return forget
