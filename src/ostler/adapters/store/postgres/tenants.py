"""Roles of the database that see one tenant only."""

from typing import Any

from ostler.adapters.store.postgres.server import Server
from ostler.kernel.errors import NotFound

READABLE = (
    "streams, events, blobs, blob_users, views, view_rows, tenant_roles, memory_scopes, memories, memory_recalls, "
    "memory_entities, memory_names, memory_spaces, memory_vectors"
)


async def grant_tenant(server: Server, tenant: str, role: str) -> None:
    """Let `role` read the rows of this tenant, and of no other any more; it can write nothing.

    Raises `NotFound` if the database has no such role, and `StoreError` if we may not grant anything.
    """
    tables = ", ".join(f"@schema.{table}" for table in READABLE.split(", "))

    async def work(connection: Any) -> None:
        quoted = await connection.fetchval("SELECT quote_ident(rolname) FROM pg_roles WHERE rolname = $1", role)
        if quoted is None:
            raise NotFound(f"The database has no role {role!r}.", hint=f"Make it: CREATE ROLE {role} LOGIN;")
        await connection.execute(server.sql(f"GRANT USAGE ON SCHEMA @schema TO {quoted}"))
        await connection.execute(server.sql(f"GRANT SELECT ON {tables} TO {quoted}"))
        note = "INSERT INTO @schema.tenant_roles VALUES ($1, $2) ON CONFLICT (role) DO UPDATE SET tenant = $2"
        await connection.execute(server.sql(note), role, tenant)

    await server.patiently(lambda: server.transact(work))
