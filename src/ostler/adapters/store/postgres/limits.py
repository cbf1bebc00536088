"""Limits in the database of the events, for the workers of all machines. They take none of the locks of the log."""

from collections.abc import Sequence

from ostler.adapters.store.postgres.store import PostgresStore
from ostler.domain.capacity import LOOK_AGAIN_MAX_US, LOOK_AGAIN_US, PATIENCE_US, TAKEN, Limit, Place, Wait

TAKE = """
    SELECT after, blocked_by FROM @schema.take_place(
        $1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5, $6, $7, $8, $9, $10, $11, $12, $13
    )
"""
GIVE_BACK = "SELECT @schema.give_back_places($1::text[], $2::bigint[], $3::bigint[])"


class PostgresLimiter:
    """A `Limiter` beside a `PostgresStore`."""

    def __init__(self, store: PostgresStore) -> None:
        self._server = store.server

    async def take(self, limits: Sequence[Limit], place: Place, *, now_us: int) -> Wait:
        if not limits:
            return TAKEN
        ((after_us, limit),) = await self._server.fetch(
            self._server.sql(TAKE),
            [limit.name for limit in limits],
            [limit.most for limit in limits],
            [limit.interval_us for limit in limits],
            [limit.slack_us for limit in limits],
            place.holder,
            place.epoch,
            place.until_us,
            place.since_us,
            place.priority,
            now_us,
            LOOK_AGAIN_US,
            LOOK_AGAIN_MAX_US,
            PATIENCE_US,
        )
        return Wait(after_us, limit)

    async def give_back(self, places: Sequence[Place]) -> None:
        columns = [[place.stay[column] for place in places] for column in range(3)]
        await self._server.fetch(self._server.sql(GIVE_BACK), *columns)
