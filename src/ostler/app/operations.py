"""What operators do to a PostgreSQL store as a whole."""

from typing import Any

from ostler.app.bootstrap import Parts
from ostler.app.plugins import part
from ostler.kernel.errors import UsageError

PLACE = "ostler.adapters.store.postgres"


async def finish_migrations(parts: Parts) -> list[str]:
    """Apply every pending migration; returns their names. Raises `Conflict` while workers run that may need the old."""
    schema: Any = part(f"{PLACE}.schema:Schema")(_server(parts), part(f"{PLACE}.schema:migrations")())
    now = parts.clock.now_us()
    applied: list[str] = await schema.finish(living=len([1 for _, until in await parts.store.workers() if until > now]))
    return applied


async def grant_tenant(parts: Parts, tenant: str, role: str) -> None:
    """Let a role of the database read the rows of one tenant only. Raises `NotFound` if there is no such role."""
    await part(f"{PLACE}.tenants:grant_tenant")(_server(parts), tenant, role)


def _server(parts: Parts) -> Any:
    server = getattr(parts.store, "server", None)
    if server is None:
        raise UsageError(
            "This store is a file, or in memory: it has no server.", hint="Name one with --store postgresql://…"
        )
    return server
