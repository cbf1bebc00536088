"""Live text over PostgreSQL when the server, or the driver, is not well."""

import asyncio
from typing import Any, NoReturn

import asyncpg
import pytest

from ostler.adapters.live import postgres
from ostler.adapters.live.postgres import PostgresLive
from ostler.adapters.store.postgres.server import Address


class Confused:
    """A server to which no connection can be had."""

    address = Address("postgresql://nobody", "s")

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0
        self.is_asked_again = asyncio.Event()

    async def connect(self) -> NoReturn:
        self.asked += 1
        if self.asked == 3:
            self.is_asked_again.set()
        raise self.error

    async def once(self, query: str, *arguments: Any) -> NoReturn:
        raise self.error


@pytest.mark.parametrize(
    "error", [OSError("gone"), asyncpg.InternalClientError("unexpected state"), asyncpg.AdminShutdownError("bye")]
)
async def test_whoever_listens_asks_for_a_connection_until_one_can_be_had(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "RETRY_S", 0.001)
    server = Confused(error)
    live = PostgresLive(server)
    await live.serve()
    async with asyncio.timeout(10):
        await server.is_asked_again.wait()
    await live.close()
    assert server.asked >= 3
