"""A PostgreSQL server as the store sees it: connections, patience with it, and its errors in our words."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import msgspec

from ostler.kernel.errors import (
    ConfigurationError,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnreachable,
)

T = TypeVar("T")

CONNECTIONS_MAX = 4
"""Connections of one process, beside the one that appends and the one that listens."""
COMMAND_TIMEOUT_S = 10.0
"""How long the server may take for one statement. A connection that is silent for longer is given up as broken; well
below a worker's lease, so that a half-open one does not cost it its sessions."""
CONNECT_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 2.0
"""How long a transaction of ours may stand still before the server ends it. Its locks are what everybody waits for, and
whoever opened it may have been stopped, or cut off."""
PATIENCE_S = 30.0
"""How long a store whose server does not answer is tried again."""
RETRY_FIRST_S = 0.02
RETRY_GROWTH = 1.6
RETRY_MAX_S = 1.0

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,39}")

_BROKEN = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver's own confusion about a connection that broke while it was used
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
)
"""After these nobody knows whether what was sent has been done."""
_IN_THE_WAY = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)
"""After these it has not been done, and may be at the next try."""


class Address(msgspec.Struct, frozen=True):
    """Where the store is: what the driver takes, the schema that holds everything, and whether a pooler that gives out
    connections by the transaction (PgBouncer) is in between.
    """

    dsn: str
    schema: str = "ostler"
    is_pooled: bool = False

    def __str__(self) -> str:
        """Without the password."""
        parts = urlsplit(self.dsn)
        place = parts.netloc.rpartition("@")[2]
        return f"postgresql://{place}{parts.path}?schema={self.schema}"


def address(url: str) -> Address:
    """Read `postgresql://user@host:port/database?schema=ostler&pgbouncer=true`; what else is in it goes to the driver.

    Raises `ConfigurationError`.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    schema = options.pop("schema", "ostler")
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"{schema!r} is no name for a schema.", hint="Use up to 40 small letters, digits and underscores."
        )
    pooled = options.pop("pgbouncer", "false")
    if pooled not in ("true", "false"):
        raise ConfigurationError(f"pgbouncer={pooled} means nothing.", hint="Write pgbouncer=true or leave it out.")
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(options), ""))
    return Address(dsn, schema, pooled == "true")


class Server:
    """A bounded set of connections, each held for one statement or one transaction and never while anything else is
    waited for.

    A server that does not answer is tried again for `patience_s`; then `StoreUnreachable` is raised.
    """

    def __init__(self, address: Address, *, patience_s: float = PATIENCE_S) -> None:
        self.address = address
        self.patience_s = patience_s
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._writer: asyncpg.Connection[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False

    def sql(self, text: str) -> str:
        """`text` with the schema in place of `@schema`."""
        return text.replace("@schema", self.address.schema)

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """All rows of one query that changes nothing, or may well be done twice."""
        return await self.patiently(lambda: self.once(query, *arguments))

    async def once(self, query: str, *arguments: Any) -> list[Any]:
        """All rows of one statement, in a transaction of its own, tried once.

        Raises what the driver raises; see `is_in_doubt`.
        """
        pool = await self._connected()
        async with pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
            if not self.address.is_pooled:
                return await connection.fetch(query, *arguments)
            # The pooler may give each message another server connection, except within a transaction.
            async with self._transaction(connection):
                return await connection.fetch(query, *arguments)

    async def write(self, query: str, *arguments: Any) -> list[Any]:
        """As `once`, on a connection that is kept for this: there is one writer at a time."""
        if self.address.is_pooled:
            return await self.once(query, *arguments)
        connection = self._writer
        if connection is None or connection.is_closed():
            if self._is_closed:
                raise StoreError(f"The store {self.address} is closed.")
            connection = self._writer = await self.connect()
        try:
            return await connection.fetch(query, *arguments)
        except _BROKEN:
            self._writer = None
            connection.terminate()
            raise

    async def transact(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work` returns when it is given a connection in a transaction, which is then committed; tried once."""
        pool = await self._connected()
        async with pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection, self._transaction(connection):
            return await work(connection)

    async def alone(self, statement: str) -> None:
        """A statement that must not be in a transaction, on a connection of its own, for as long as it takes."""

        async def work() -> None:
            connection = await asyncpg.connect(self.address.dsn, **self._options() | {"command_timeout": None})
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        await self.patiently(work)

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` returns once the server can be reached and nobody is in the way; it may be done twice.

        Raises a `StoreError` for everything that the driver raises.
        """
        loop = asyncio.get_running_loop()
        end, delay_s = loop.time() + self.patience_s, RETRY_FIRST_S
        while True:
            try:
                return await attempt()
            except (*_BROKEN, *_IN_THE_WAY) as error:
                if self._is_closed or loop.time() + delay_s >= end:
                    raise self.translated(error) from error
            except asyncpg.PostgresError as error:
                raise self.translated(error) from error
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * RETRY_GROWTH, RETRY_MAX_S)

    async def connect(self) -> asyncpg.Connection:
        """A connection of one's own, beside the others."""
        return await asyncpg.connect(self.address.dsn, **self._options())

    async def close(self) -> None:
        self._is_closed = True
        pool, self._pool = self._pool, None
        writer, self._writer = self._writer, None
        for connection in (writer, pool):
            if connection is None:
                continue
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await connection.close()
            except (TimeoutError, *_BROKEN):
                connection.terminate()

    def translated(self, error: Exception) -> StoreError:
        """The driver's error in our words. Credentials are not in them."""
        said = f"{self.address}: {str(error) or type(error).__name__}"
        if isinstance(error, asyncpg.DiskFullError | asyncpg.OutOfMemoryError):
            return StoreFull(f"The server of the store is full. {said}", hint="Make room there; nothing is lost.")
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            return StoreReadOnly(
                f"This server only reads. {said}",
                hint="It is a standby: name the primary, or several hosts and target_session_attrs=read-write.",
            )
        if isinstance(error, _IN_THE_WAY):
            return StoreBusy(f"Others were in the way for too long. {said}")
        if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InsufficientPrivilegeError):
            return StoreError(f"The server refuses us. {said}", hint="Check user, password and rights.")
        if isinstance(error, asyncpg.InvalidCatalogNameError):
            return StoreError(f"There is no such database. {said}", hint="Make it with `createdb`, or name another.")
        if isinstance(error, asyncpg.InvalidSQLStatementNameError | asyncpg.DuplicatePreparedStatementError):
            return StoreError(f"A pooler is in between. {said}", hint="Add `pgbouncer=true` to the URL of the store.")
        if isinstance(error, asyncpg.DataCorruptedError | asyncpg.IndexCorruptedError):
            return StoreCorrupt(f"The server finds its data damaged. {said}", hint="Restore it from a backup.")
        if isinstance(error, _BROKEN):
            return StoreUnreachable(
                f"The server does not answer. {said}", hint="Check that it runs and can be reached."
            )
        return StoreError(f"The server could not do it. {said}")

    @asynccontextmanager
    async def _transaction(self, connection: Any) -> AsyncIterator[None]:
        async with connection.transaction(isolation="read_committed"):
            if self.address.is_pooled:
                await connection.execute(_SET_LOCAL)
            yield

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"timeout": CONNECT_TIMEOUT_S, "command_timeout": COMMAND_TIMEOUT_S}
        if self.address.is_pooled:  # a pooler passes no settings on, and its connections know no statements of ours
            return options | {"statement_cache_size": 0}
        return options | {"server_settings": _settings()}

    async def _connected(self) -> "asyncpg.Pool[asyncpg.Record]":
        if self._is_closed:
            raise StoreError(f"The store {self.address} is closed.")
        if self._pool is not None:
            return self._pool
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self.address.dsn, min_size=0, max_size=CONNECTIONS_MAX, reset=_leave_as_it_is, **self._options()
                )
            return self._pool


def is_in_doubt(error: Exception) -> bool:
    """Whether what was sent may have been done all the same."""
    return isinstance(error, _BROKEN)


def _settings() -> dict[str, str]:
    """What every transaction of ours is to run under, whatever the server's own settings are.

    Every query of ours has an index that fits it, and rows by the page: a plan that was made while a table was small,
    or before its statistics were, must not walk it once it is large, nor be compiled for longer than it runs.
    """
    return {
        "default_transaction_isolation": "read committed",
        "enable_seqscan": "off",
        "idle_in_transaction_session_timeout": str(int(IDLE_TIMEOUT_S * 1000)),
        "jit": "off",
    }


_SET_LOCAL = "".join(
    f"SET LOCAL {name} = '{value}';" for name, value in _settings().items() if name != "default_transaction_isolation"
)


async def _leave_as_it_is(connection: asyncpg.Connection) -> None:
    """No statement of ours changes its connection, so that nothing needs to be put back."""
