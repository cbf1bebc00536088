"""Putting due streams into the hands of workers."""

from collections.abc import Sequence
from typing import Any

from ostler.adapters.store.postgres.server import Server
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

# The heads of the lanes behind a given one; a walk that leaps from lane to lane through the index.
IN_LANES = """
    WITH RECURSIVE lanes (tenant, queue, rank) AS (
        (SELECT tenant, queue, -priority FROM @schema.streams
         WHERE due IS NOT NULL AND worker IS NULL AND (tenant, queue, -priority) > ($1, $2, $3)
         ORDER BY tenant, queue, -priority LIMIT 1)
        UNION ALL
        SELECT later.* FROM lanes CROSS JOIN LATERAL (
            SELECT tenant, queue, -priority FROM @schema.streams
            WHERE due IS NOT NULL AND worker IS NULL
              AND (tenant, queue, -priority) > (lanes.tenant, lanes.queue, lanes.rank)
            ORDER BY tenant, queue, -priority LIMIT 1
        ) AS later
    ), walked AS MATERIALIZED (SELECT * FROM lanes LIMIT $4),
    size AS (SELECT greatest($5, 2 * $6 / greatest(1, count(*))) + $5 AS streams FROM walked)
    SELECT walked.tenant, walked.queue, -rank, due, key, attempts, claimed
    FROM walked LEFT JOIN LATERAL (
        SELECT due, key, attempts, claimed FROM @schema.streams AS found
        WHERE found.tenant = walked.tenant AND found.queue = walked.queue AND -priority = rank
          AND due <= $7 AND worker IS NULL AND attempts < $9
          AND (walked.queue = ANY ($8::text[])) IS NOT FALSE
        ORDER BY due, key LIMIT (SELECT streams FROM size)
    ) AS head ON true
"""
# The longest due of all, whatever their lane: none waits until a walk of very many lanes comes by.
OLDEST = """
    SELECT tenant, queue, priority, due, key, attempts, claimed FROM @schema.streams
    WHERE due <= $1 AND worker IS NULL AND attempts < $2 AND (queue = ANY ($3::text[])) IS NOT FALSE
    ORDER BY due, key LIMIT $4
"""
SUSPECTS = """
    SELECT tenant, queue, priority, due, key, attempts, claimed FROM @schema.streams
    WHERE attempts >= 2 AND attempts >= $2 AND due <= $1 AND worker IS NULL
      AND (queue = ANY ($3::text[])) IS NOT FALSE
    ORDER BY due, key LIMIT $4
"""
ONLY = """
    SELECT tenant, queue, priority, due, key, attempts, claimed FROM @schema.streams
    WHERE tenant = $1 AND name = $2 AND due <= $3 AND worker IS NULL
"""
HELD = "SELECT tenant, queue, count(*) FROM @schema.streams WHERE worker IS NOT NULL GROUP BY tenant, queue"
TAKEN = """
    SELECT tenant, name, epoch, attempts FROM @schema.streams WHERE worker = $1 AND claimed = ANY ($2::bigint[])
    ORDER BY key
"""
TAKE = """
    SELECT tenant, name, taken.epoch, taken.attempts
    FROM @schema.take($1, $2, $3) AS taken JOIN unnest($1) WITH ORDINALITY AS wanted (key, number) USING (key)
    JOIN @schema.streams USING (key) ORDER BY number
"""


class Claimer:
    """Claims for one process. Remembers which lanes it has looked at, where there are too many to look at all.

    When the connection breaks, nobody knows whether streams were taken. They bear the moment of the claim, and are
    looked for with the next one: else they would be in the hands of a worker that does not know of them.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lane = FIRST_LANE
        self._in_doubt: set[int] = set()

    async def claim(
        self,
        worker: str,
        *,
        now_us: int,
        limit: int,
        queues: Sequence[str] | None,
        only: StreamId | None,
        caps: Caps,
        suspects: int,
    ) -> list[Claim]:
        """See `EventStore.claim`. Claims take turns, so that none exceeds a cap because another was looking too."""
        sql = self._server.sql

        async def take(connection: Any) -> list[Claim]:
            await connection.fetch(sql("SELECT @schema.lock_claims(), @schema.free_the_dead($1)"), now_us)
            taken = await connection.fetch(sql(TAKEN), worker, list(self._in_doubt)) if self._in_doubt else []
            self._in_doubt.add(now_us)
            if taken:
                return [_claim(row) for row in taken]
            if only is not None:
                rows = await connection.fetch(sql(ONLY), *only, now_us)
                rows = [row for row in rows if queues is None or row[1] in queues]
            else:
                rows = await self._in_lanes(connection, now_us, limit, queues)
                wanted = None if queues is None else list(queues)
                rows += await connection.fetch(sql(OLDEST), now_us, SUSPECT_ATTEMPTS, wanted, LANE_MIN)
                if suspects:
                    rows += await connection.fetch(sql(SUSPECTS), now_us, SUSPECT_ATTEMPTS, wanted, SUSPECTS_MAX)
                rows = list({row[4]: row for row in rows}.values())
            candidates = [Candidate(*row[:6]) for row in rows if row[6] + back_off_us(row[5]) <= now_us]
            held = {}
            if candidates and (caps or len({candidate.tenant for candidate in candidates}) > 1):
                held = {(tenant, queue): count for tenant, queue, count in await connection.fetch(sql(HELD))}
            chosen = choose(candidates, held, limit=limit, caps=caps, suspects=suspects)
            if not chosen:
                return []
            keys = [candidate.number for candidate in chosen]
            return [_claim(row) for row in await connection.fetch(sql(TAKE), keys, worker, now_us)]

        claims = await self._server.patiently(lambda: self._server.transact(take))
        self._in_doubt.clear()
        return claims

    async def _in_lanes(
        self, connection: Any, now_us: int, limit: int, queues: Sequence[str] | None
    ) -> list[tuple[str, str, int, int, int, int, int]]:
        wanted = None if queues is None else list(queues)
        begin, rows = self._lane, []
        while True:
            found = await connection.fetch(
                self._server.sql(IN_LANES), *begin, LANES_MAX, LANE_MIN, limit, now_us, wanted, SUSPECT_ATTEMPTS
            )
            rows += [row for row in found if row[3] is not None]
            lanes = sorted({(tenant, queue, -priority) for tenant, queue, priority, *_ in found})
            if len(lanes) == LANES_MAX:
                self._lane = lanes[-1]
                return rows
            self._lane = FIRST_LANE
            if begin == FIRST_LANE:
                return rows
            begin = FIRST_LANE


def _claim(row: Any) -> Claim:
    tenant, name, epoch, attempts = row
    return Claim(StreamId(tenant, name), epoch, attempts)
