"""Counting streams by where they stand."""

from collections.abc import Sequence
from typing import Any

from ostler.adapters.store.census import Lane, queues, suspect
from ostler.adapters.store.postgres.server import Server
from ostler.ports import CENSUS_GROUPS_MAX, CENSUS_SUSPECTS_MAX, Census, HeldCount, StatusCount

# Walks that leap from group to group through an index. The order within a group keeps the server from reading the whole
# table for a few rows.
STATUSES = """
    WITH RECURSIVE groups (tenant, status) AS (
        (SELECT tenant, status FROM @schema.streams ORDER BY tenant, status LIMIT 1)
        UNION ALL
        SELECT later.* FROM groups CROSS JOIN LATERAL (
            SELECT tenant, status FROM @schema.streams WHERE (tenant, status) > (groups.tenant, groups.status)
            ORDER BY tenant, status LIMIT 1
        ) AS later
    ), walked AS MATERIALIZED (SELECT * FROM groups LIMIT $1)
    SELECT tenant, status, CASE WHEN status <> ALL ($2::text[]) THEN (
        SELECT count(*) FROM (
            SELECT FROM @schema.streams AS found
            WHERE found.tenant = walked.tenant AND found.status = walked.status ORDER BY key LIMIT $3
        ) AS counted
    ) END FROM walked ORDER BY tenant, status
"""
LANES = """
    WITH RECURSIVE lanes (tenant, queue, rank) AS (
        (SELECT tenant, queue, -priority FROM @schema.streams WHERE due IS NOT NULL AND worker IS NULL
         ORDER BY tenant, queue, -priority LIMIT 1)
        UNION ALL
        SELECT later.* FROM lanes CROSS JOIN LATERAL (
            SELECT tenant, queue, -priority FROM @schema.streams
            WHERE due IS NOT NULL AND worker IS NULL
              AND (tenant, queue, -priority) > (lanes.tenant, lanes.queue, lanes.rank)
            ORDER BY tenant, queue, -priority LIMIT 1
        ) AS later
    ), walked AS MATERIALIZED (SELECT * FROM lanes LIMIT $1)
    SELECT tenant, queue, -rank, (
        SELECT count(*) FROM (
            SELECT FROM @schema.streams AS found
            WHERE found.tenant = walked.tenant AND found.queue = walked.queue AND -priority = rank
              AND due <= $2 AND worker IS NULL ORDER BY due, key LIMIT $3
        ) AS counted
    ), (
        SELECT count(*) FROM (
            SELECT FROM @schema.streams AS found
            WHERE found.tenant = walked.tenant AND found.queue = walked.queue AND -priority = rank
              AND due > $2 AND worker IS NULL ORDER BY due, key LIMIT $3
        ) AS counted
    ), (
        SELECT due FROM @schema.streams AS found
        WHERE found.tenant = walked.tenant AND found.queue = walked.queue AND -priority = rank
          AND due <= $2 AND worker IS NULL ORDER BY due, key LIMIT 1
    ) FROM walked
"""
HELD = """
    SELECT worker, tenant, queue, count(*) FROM @schema.streams WHERE worker IS NOT NULL
    GROUP BY worker, tenant, queue ORDER BY worker, tenant, queue
"""
SUSPECTS = """
    SELECT tenant, name, queue, status, attempts, claimed, worker FROM @schema.streams
    WHERE attempts >= 2 ORDER BY attempts DESC, key LIMIT $1
"""


async def census(server: Server, *, now_us: int, without: Sequence[str], most: int) -> Census:
    """See `EventStore.census`."""
    sql = server.sql

    async def ask(connection: Any) -> tuple[list[Any], ...]:
        # The server would take longer to compile these queries than to answer them.
        await connection.execute("SET LOCAL jit = off")
        return (
            await connection.fetch(sql(STATUSES), CENSUS_GROUPS_MAX + 1, list(without), most),
            await connection.fetch(sql(LANES), CENSUS_GROUPS_MAX + 1, now_us, most),
            await connection.fetch(sql(HELD)),
            await connection.fetch(sql(SUSPECTS), CENSUS_SUSPECTS_MAX),
        )

    groups, lanes, held, suspects = await server.patiently(lambda: server.transact(ask))
    return Census(
        [StatusCount(*row) for row in groups[:CENSUS_GROUPS_MAX] if row[2] is not None],
        queues([Lane(*row) for row in lanes[:CENSUS_GROUPS_MAX]], most),
        [HeldCount(*row) for row in held],
        [suspect(tuple(row)) for row in suspects],
        is_whole=max(len(groups), len(lanes)) <= CENSUS_GROUPS_MAX,
    )
