"""The ledger in the database of the events, for the workers of all machines. It takes none of the locks of the log."""

from collections.abc import Mapping, Sequence

from ostler.adapters.store.postgres.store import PostgresStore
from ostler.domain.budget import (
    KEPT_ENDED_US,
    KEPT_SETTLED_US,
    Draw,
    Holder,
    Refused,
    Reserved,
    Total,
    Unit,
    counted,
    settled,
)

FORGET_MAX = 1000
"""Rows of one kind that are dropped at a time."""

RESERVE = """
    SELECT warnings, lacking, taken FROM @schema.ledger_reserve(
        $1, $2, $3, $4, $5, $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[],
        $12::bigint[], $13::bigint[], $14::bigint[]
    )
"""
SETTLE = "SELECT @schema.ledger_settle($1, $2, $3, $4::text[], $5::bigint[], $6)"
RELEASE = "SELECT @schema.ledger_release($1, $2, $3)"
OVERDUE = """
    WITH late AS (
        SELECT key, until FROM @schema.ledger_holders WHERE NOT is_settled AND until <= $1
        ORDER BY until, tenant, session, call LIMIT $3 FOR UPDATE SKIP LOCKED
    ), told AS (
        UPDATE @schema.ledger_holders AS holder SET until = $2 FROM late WHERE holder.key = late.key
        RETURNING late.until, tenant, session, call
    )
    SELECT tenant, session, call FROM told ORDER BY until, tenant, session, call
"""
TOTALS = """
    SELECT name, reserved, (
        used - coalesce((SELECT sum(amount) FROM @schema.ledger_slots WHERE account = key AND until <= $3), 0)
    )::bigint FROM @schema.ledger_accounts WHERE tenant = $1 AND name = ANY ($2::text[])
"""
NAMES = """
    SELECT name FROM @schema.ledger_accounts
    WHERE tenant = $1 AND name > $2 AND name >= $3 AND starts_with(name, $3) AND used <> 0 ORDER BY name LIMIT $4
"""
FORGET = "SELECT @schema.ledger_forget($1, $2, $3)"


class PostgresLedger:
    """A `Ledger` beside a `PostgresStore`."""

    def __init__(self, store: PostgresStore) -> None:
        self._server = store.server

    async def reserve(self, holder: Holder, draws: Sequence[Draw], *, now_us: int, until_us: int) -> Reserved | Refused:
        if not draws:
            await self.release(holder)
            return Reserved()
        silences = [counted(draw, now_us) for draw in draws]
        leaving = [silence if draw.window_us else None for draw, silence in zip(draws, silences, strict=True)]
        ((warnings, lacking, taken),) = await self._server.fetch(
            self._server.sql(RESERVE),
            *holder,
            now_us,
            until_us,
            [draw.tenant for draw in draws],
            [draw.account for draw in draws],
            [draw.unit for draw in draws],
            [draw.amount for draw in draws],
            [draw.most for draw in draws],
            [draw.soft for draw in draws],
            leaving,
            silences,
            [moment or draw.ends_us for draw, moment in zip(draws, leaving, strict=True)],
        )
        if lacking is None:
            return Reserved(tuple(draws[number - 1].account for number in warnings))
        draw = draws[lacking - 1]
        assert draw.most is not None, "only what has a limit can lack something"
        return Refused(draw.account, taken, draw.most, draw.amount)

    async def settle(self, holder: Holder, used: Mapping[Unit, int] | None, *, now_us: int) -> None:
        units = list(used or {})
        amounts = [settled(unit, 0, used) for unit in units]
        await self._server.fetch(self._server.sql(SETTLE), *holder, units, amounts, now_us + KEPT_SETTLED_US)

    async def release(self, holder: Holder) -> None:
        await self._server.fetch(self._server.sql(RELEASE), *holder)

    async def overdue(self, *, now_us: int, again_us: int, limit: int = 100) -> list[Holder]:
        rows = await self._server.fetch(self._server.sql(OVERDUE), now_us, again_us, limit)
        return [Holder(*row) for row in rows]

    async def totals(self, tenant: str, accounts: Sequence[str], *, now_us: int) -> dict[str, Total]:
        rows = await self._server.fetch(self._server.sql(TOTALS), tenant, list(accounts), now_us)
        return {name: Total(used, min(used, reserved)) for name, reserved, used in rows if used}

    async def accounts(self, tenant: str, *, prefix: str = "", after: str = "", limit: int = 100) -> list[str]:
        rows = await self._server.fetch(self._server.sql(NAMES), tenant, after, prefix, limit)
        return [name for (name,) in rows]

    async def forget(self, *, now_us: int) -> None:
        await self._server.fetch(self._server.sql(FORGET), now_us, now_us - KEPT_ENDED_US, FORGET_MAX)
