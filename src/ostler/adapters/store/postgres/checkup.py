"""What can be said of a PostgreSQL server as the place of a store, without changing anything."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from ostler.adapters.store.postgres.schema import Schema, migrations
from ostler.adapters.store.postgres.server import CONNECTIONS_MAX, Server, address
from ostler.kernel.errors import OstlerError
from ostler.ports import Finding

PATIENCE_S = 3.0
"""How long a server that does not answer is tried: whoever asks a doctor wants to know now."""
CLOCKS_MAX_S = 1.0
LONG_S = 300
"""How long a transaction may take before it is told of."""
SHOWN_MAX = 5
PER_PROCESS = CONNECTIONS_MAX + 2
"""Connections that one process may have, the one that listens included."""
PROCESSES = 2
"""Processes for which there is to be room: a worker, and whoever looks at it."""
DEAD_ROWS_MIN = 100_000
DEAD_SHARE = 0.5

DURABILITY = {
    "synchronous_commit": "Work that was acknowledged can be lost when the server crashes.",
    "fsync": "The database can be lost as a whole when the machine crashes.",
    "full_page_writes": "A page that was half written when the machine crashed is damaged for good.",
}
CONNECTIONS = """
    SELECT current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer,
        count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
LONG = """
    SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::bigint, coalesce(state, 'unknown'), application_name
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND xact_start < clock_timestamp() - make_interval(secs => $1) ORDER BY xact_start LIMIT $2
"""
TABLES = """
    SELECT table_of.relname, n_live_tup, n_dead_tup, coalesce('autovacuum_enabled=false' = ANY (reloptions), false)
        OR coalesce('autovacuum_enabled=off' = ANY (reloptions), false)
    FROM pg_stat_user_tables AS table_of JOIN pg_class ON pg_class.oid = relid WHERE schemaname = $1 ORDER BY 1
"""
SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relkind = 'r'
"""

Connection = Any
Check = Callable[[Connection, Server], Awaitable[Finding]]


async def checkup(url: str, *, deep: bool) -> tuple[list[Finding], bool]:
    """What is found, and whether the store is to be opened: that would make one, or bring it up to date."""
    place = address(url)
    server = Server(place, patience_s=PATIENCE_S)
    try:
        connection = await server.connect()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        trouble = server.translated(error)
        return [Finding("store", "bad", trouble.message, trouble.hint)], False
    try:
        schema, may_open = await _schema(server)
        found = [await _server(connection, server), schema]
        for check in CHECKS:
            found.append(await check(connection, server))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        trouble = server.translated(error)
        return [Finding("store", "bad", trouble.message, trouble.hint)], False
    finally:
        connection.terminate()
        await server.close()
    return found, may_open


async def _schema(server: Server) -> tuple[Finding, bool]:
    """What is still to be done to the schema, and whether the store can be opened without doing it."""
    try:
        pending = await Schema(server, migrations()).pending()
    except OstlerError as error:
        return Finding("schema", "bad", error.message, error.hint), False
    if pending is None:
        todo = "Nothing is needed: the first session that is started makes one."
        return Finding("schema", "ok", f"there is no store at {server.address} yet", todo), False
    if not pending:
        return Finding("schema", "ok", "up to date"), True
    names = ", ".join(migration.name for migration in pending)
    if pending[0].is_additive:
        todo = "`ostler store migrate`; or start a worker of this version: whoever connects applies what only adds."
        why = "Older workers may go on beside it. Nothing else of the store was looked at."
        return Finding("schema", "warn", f"not applied yet: {names}", todo, why), False
    todo = "Stop the workers, then `ostler store migrate`; until then everything works as it is."
    why = "They take away what only older workers need, so that no command applies them by itself."
    return Finding("schema", "warn", f"not applied yet: {names}", todo, why), True


async def _server(connection: Connection, server: Server) -> Finding:
    version = await connection.fetchval("SHOW server_version")
    size = await connection.fetchval(SIZE, server.address.schema)
    found = f"{server.address}: PostgreSQL {version}, {size / 1e6:.1f} MB"
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        todo = "Name the primary, or several hosts and target_session_attrs=read-write."
        return Finding("store", "bad", f"{found}, a standby", todo, "Nothing can be written there.")
    return Finding("store", "ok", found)


async def _durability(connection: Connection, server: Server) -> Finding:
    said = {name: await connection.fetchval(f"SHOW {name}") for name in DURABILITY}
    found = ", ".join(f"{name} {value}" for name, value in said.items())
    off = [name for name, value in said.items() if value == "off"]
    if not off:
        return Finding("durability", "ok", found)
    todo = f"Set {' and '.join(f'{name} = on' for name in off)} for this server, database or user."
    return Finding("durability", "warn", found, todo, " ".join(DURABILITY[name] for name in off))


async def _clocks(connection: Connection, server: Server) -> Finding:
    asked_s = time.time()
    now_s = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    apart_s = now_s - (asked_s + time.time()) / 2
    found = f"the server's is {abs(apart_s):.3f} s {'ahead of' if apart_s > 0 else 'behind'} that of this machine"
    if abs(apart_s) > CLOCKS_MAX_S:
        why = "Leases and events go by the server's clock; everything else here, such as certificates, by this one."
        return Finding("clocks", "warn", found, "Let both machines set their clocks by NTP.", why)
    return Finding("clocks", "ok", found)


async def _connections(connection: Connection, server: Server) -> Finding:
    most, taken = await connection.fetchrow(CONNECTIONS)
    free, needed = most - taken, PROCESSES * PER_PROCESS
    found = f"{free} of {most} free; a process of Ostler takes up to {PER_PROCESS}"
    if free < needed:
        todo = "Raise max_connections, end idle clients, or put PgBouncer in between (`pgbouncer=true` in the URL)."
        return Finding("connections", "warn", found, todo, "A worker that gets none stands still.")
    return Finding("connections", "ok", found)


async def _transactions(connection: Connection, server: Server) -> Finding:
    rows = await connection.fetch(LONG, LONG_S, SHOWN_MAX)
    if not rows:
        return Finding("transactions", "ok", f"none is older than {LONG_S // 60} min")
    found = "; ".join(
        f"pid {pid} for {age_s // 60} min ({state}, {name or 'no name'})" for pid, age_s, state, name in rows
    )
    why = "What was changed since they began cannot be cleaned up; tables and indexes grow, and everything gets slower."
    return Finding(
        "transactions", "warn", found, f"SELECT pg_terminate_backend({rows[0][0]}), if nobody needs it.", why
    )


async def _vacuum(connection: Connection, server: Server) -> Finding:
    rows = await connection.fetch(TABLES, server.address.schema)
    why = (
        "Rows that are replaced stay in the table until it is vacuumed; the queue of sessions is replaced all the time."
    )
    off = [name for name, _, _, is_off in rows if is_off]
    if await connection.fetchval("SHOW autovacuum") == "off" or off:
        found = f"autovacuum is off for {', '.join(off)}" if off else "autovacuum is off"
        return Finding("vacuum", "warn", found, "Switch it on.", why)
    bloated = [
        (name, dead) for name, live, dead, _ in rows if dead > DEAD_ROWS_MIN and dead > DEAD_SHARE * (live + dead)
    ]
    if bloated:
        found = ", ".join(f"{name}: {dead:,} dead rows" for name, dead in bloated)
        schema = server.address.schema
        todo = f"VACUUM {', '.join(f'{schema}.{name}' for name, _ in bloated)}; and look for long transactions."
        return Finding("vacuum", "warn", found, todo, why)
    return Finding("vacuum", "ok", "autovacuum is on, no table is bloated")


async def _pooler(connection: Connection, server: Server) -> Finding:
    """A pooler tells a process id of its own, or of another server connection."""
    is_seen = await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid()
    if is_seen and not server.address.is_pooled:
        todo = "Add `pgbouncer=true` to the URL of the store."
        why = "Prepared statements and notifications are lost between two transactions; commands fail now and then."
        return Finding("pooler", "warn", "one is in between, and the URL of the store does not say so", todo, why)
    if server.address.is_pooled and not is_seen:
        todo = "Take `pgbouncer=true` out of the URL, if there is none."
        why = "Without it workers are notified of new work; with it they ask for it all the time."
        return Finding("pooler", "warn", "the URL of the store says that there is one, and none is seen", todo, why)
    return Finding("pooler", "ok", "in between, as the URL says" if is_seen else "none in between")


CHECKS: tuple[Check, ...] = (_durability, _clocks, _connections, _transactions, _vacuum, _pooler)
