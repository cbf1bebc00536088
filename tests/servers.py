"""Where the servers are that tests use, and a place on each that is a test's own."""

import asyncio
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

POSTGRES = os.environ.get("OSTLER_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")


def need(url: str) -> None:
    """Skip the test if nothing listens there, which in CI makes it fail."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5432), timeout=2).close()
    except OSError as error:
        pytest.skip(f"no server at {url}: {error}")


@contextmanager
def fresh_schema() -> Iterator[str]:
    """The URL of a PostgreSQL store that is not there yet, and is gone afterwards."""
    need(POSTGRES)
    schema = f"ostler_test_{secrets.token_hex(6)}"
    try:
        yield f"{POSTGRES}?schema={schema}"
    finally:
        asyncio.run(drop_schema(schema))


async def drop_schema(schema: str) -> None:
    connection = await asyncpg.connect(POSTGRES)
    try:
        await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    finally:
        await connection.close()
