"""Rows of views in memory: the whole contract but durability."""

from collections.abc import Sequence

from ostler.adapters.store.rules import stale_view
from ostler.ports import Row


class MemoryViewStore:
    """A `ViewStore` that lives and dies with the process. Whoever shares the object shares the store."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._rows: dict[tuple[str, str], dict[str, bytes]] = {}

    async def position(self, view: str) -> int:
        return self._positions.get(view, 0)

    async def advance(self, view: str, *, after: int, position: int, rows: Sequence[Row] = ()) -> None:
        if self._positions.get(view, 0) != after:
            raise stale_view(view, after=after)
        for row in rows:
            if row.body is None:
                self._rows.get((view, row.tenant), {}).pop(row.key, None)
            else:
                self._rows.setdefault((view, row.tenant), {})[row.key] = bytes(row.body)
        self._positions[view] = position

    async def rows(self, view: str, tenant: str, keys: Sequence[str]) -> dict[str, bytes]:
        kept = self._rows.get((view, tenant), {})
        return {key: kept[key] for key in keys if key in kept}

    async def page(self, view: str, tenant: str, *, after: str = "", limit: int = 100) -> list[tuple[str, bytes]]:
        kept = self._rows.get((view, tenant), {})
        # Code points sort as their UTF-8 does.
        return [(key, kept[key]) for key in sorted(key for key in kept if key > after)[:limit]]

    async def forget(self, view: str) -> None:
        self._positions.pop(view, None)
        for name, tenant in list(self._rows):
            if name == view:
                del self._rows[name, tenant]
