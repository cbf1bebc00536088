"""The Merkle tree of each tenant's events, kept beside the log: added to as the log grows, and never taken from.

Leaf k is the hash of the tenant's k-th event in order of position, counted from 0. It is kept by itself, in tiles of
256: what is erased or removed from the log leaves its hash here, and so everything else stays provable. Tiles of
higher levels hold the roots of every 256 of what is below, so that a proof takes a handful of rows.
"""

import asyncio
import struct
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import msgspec

from ostler.kernel.errors import StaleWrite, StoreCorrupt
from ostler.kernel.event import Record
from ostler.kernel.merkle import (
    Frontier,
    Range,
    Subtree,
    combined,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    subtrees,
)
from ostler.ports import EventStore, Row, ViewStore

VIEW = "audit.tree@1"
"""The name under which the view store keeps it. No read model of the catalogue: it cannot be made anew."""
WIDTH = 256
HEIGHT = 8
PAGE = 1_000
PAGES_MAX = 10
"""Pages of the log that are folded into the tree by one commit."""
TENANTS_MAX = 1_000
"""Tenants whose edge is remembered between two commits."""
TILES_MAX = 256
"""Tiles that are remembered for proofs."""

_ENTRY = struct.Struct(">Q32s")
_EDGE = "edge"


class Entry(NamedTuple):
    """One leaf: the position that its event has, or had, in the log, and the hash of the event."""

    position: int
    hash: bytes


class Edge(msgspec.Struct, frozen=True):
    """How far a tree has grown: what a frontier is made of."""

    size: int = 0
    roots: tuple[bytes, ...] = ()


class Tree:
    """The trees of all tenants of one store. Any number of them may grow at once: each event is added exactly once."""

    def __init__(self, store: EventStore, views: ViewStore) -> None:
        self._store = store
        self._views = views
        self._growing: dict[str, _Growing] = {}
        self._position: int | None = None
        self._tiles: dict[tuple[str, str], bytes] = {}
        self._last: _Leaves | None = None

    async def catch_up(self, progress: Callable[[int], None] = lambda events: None) -> int:
        """Add every event up to the head of the log, for all tenants; returns the position that was reached.

        `progress` is told how many events were added so far. Raises `StoreError`.
        """
        added = 0
        while True:
            if self._position is None:
                self._position = await self._views.position(VIEW)
                self._growing.clear()
            try:
                count, is_last = await self._advance(self._position)
            except BaseException as error:
                self._position = None  # whether it was written is not known: what is remembered may be wrong
                if isinstance(error, StaleWrite):
                    continue  # somebody else was faster
                raise
            added += count
            progress(added)
            if is_last:
                return self._position

    async def frontier(self, tenant: str) -> Frontier:
        """The tree of a tenant as far as it has grown."""
        found = await self._views.rows(VIEW, tenant, [_EDGE])
        edge = _unpack(found[_EDGE]) if _EDGE in found else Edge()
        return Frontier(edge.size, edge.roots)

    async def root(self, tenant: str, size: int) -> bytes:
        """The root of a tenant's first `size` events, of which there are as many."""
        return await self._root_of(tenant, Range(0, size))

    async def inclusion(self, tenant: str, index: int, size: int) -> list[bytes]:
        """The proof that leaf `index` is among the first `size` (RFC 6962, 2.1.1)."""
        return [await self._root_of(tenant, leaves) for leaves in inclusion_path(index, size)]

    async def consistency(self, tenant: str, old: int, new: int) -> list[bytes]:
        """The proof that the first `new` events begin with the first `old` (RFC 6962, 2.1.2)."""
        return [await self._root_of(tenant, leaves) for leaves in consistency_path(old, new)]

    async def roots_of(self, tenant: str, leaves: Range) -> list[bytes]:
        """The roots of the subtrees that make up a range, from left to right."""
        return [await self._root(tenant, subtree) for subtree in subtrees(leaves)]

    async def entries(self, tenant: str, leaves: Range) -> AsyncIterator[Entry]:
        """The leaves of a range, in order."""
        for tile in range(leaves.start // WIDTH, -(-leaves.end // WIDTH)):
            entries = await self._entries(tenant, tile)
            first = tile * WIDTH
            for entry in entries[max(leaves.start - first, 0) : leaves.end - first]:
                yield entry

    async def entry(self, tenant: str, index: int) -> Entry | None:
        """One leaf; None if there is none of this index."""
        entries = await self._entries(tenant, index // WIDTH)
        return entries[index % WIDTH] if index % WIDTH < len(entries) else None

    async def index_of(self, tenant: str, position: int, size: int) -> int:
        """How many of a tenant's first `size` events stand before this position: the index of the one that is there."""
        low, high = 0, -(-size // WIDTH)
        if self._last is not None and self._last.key[0] == tenant and self._last.spans(position):
            low = high = self._last.key[1]
        while low < high:
            middle = (low + high) // 2
            entries = await self._entries(tenant, middle)
            if not entries:
                raise _damaged(tenant)
            if entries[-1].position < position:
                low = middle + 1
            else:
                high = middle
        if low * WIDTH >= size:
            return size
        return min(size, low * WIDTH + bisect_left(await self._entries(tenant, low), (position, b"")))

    async def _advance(self, after: int) -> tuple[int, bool]:
        """Add some pages of the log; returns how many events these were, and whether there are no more."""
        position, count, is_last = after, 0, False
        touched: dict[str, _Growing] = {}
        for _ in range(PAGES_MAX):
            records = await self._store.tail(after=position, limit=PAGE)
            for record in records:
                growing = touched.get(record.stream.tenant) or await self._of(record.stream.tenant)
                touched[record.stream.tenant] = growing
                growing.add(record)
            count += len(records)
            is_last = len(records) < PAGE
            if is_last and not records:
                break
            position = records[-1].position
            if is_last:
                break
            await asyncio.sleep(0)
        if position != after:
            rows = [row for tenant, growing in touched.items() for row in growing.rows(tenant)]
            await self._views.advance(VIEW, after=after, position=position, rows=rows)
            self._position = position
            self._tiles.clear()
            self._last = None
        if len(self._growing) > TENANTS_MAX:
            self._growing.clear()
        return count, is_last

    async def _of(self, tenant: str) -> "_Growing":
        if tenant not in self._growing:
            frontier = await self.frontier(tenant)
            keys = [_key(level, count // WIDTH) for level, count in enumerate(_counts(frontier.size))]
            found = await self._views.rows(VIEW, tenant, keys)
            self._growing[tenant] = _Growing(frontier, [found.get(key, b"") for key in keys])
        return self._growing[tenant]

    async def _root_of(self, tenant: str, leaves: Range) -> bytes:
        return combined(await self.roots_of(tenant, leaves))

    async def _root(self, tenant: str, subtree: Subtree) -> bytes:
        """The root of one subtree, out of the tile that has it, or what is below it."""
        layer, height = divmod(subtree.level, HEIGHT)
        first = subtree.number << height
        place = slice(first % WIDTH, first % WIDTH + (1 << height))
        if layer:
            tile = await self._tile(tenant, layer, first // WIDTH)
            hashes = [tile[start : start + 32] for start in range(0, len(tile), 32)][place]
        else:
            hashes = [leaf_hash(entry.hash) for entry in (await self._entries(tenant, first // WIDTH))[place]]
        if len(hashes) != 1 << height:
            raise _damaged(tenant)
        while len(hashes) > 1:
            hashes = [node_hash(*hashes[start : start + 2]) for start in range(0, len(hashes), 2)]
        return hashes[0]

    async def _entries(self, tenant: str, number: int) -> list[Entry]:
        """The leaves of one tile. That which was used last is kept as it is used: readers go through them in order."""
        if self._last is None or self._last.key != (tenant, number):
            entries = [Entry(*one) for one in _ENTRY.iter_unpack(await self._tile(tenant, 0, number))]
            self._last = _Leaves((tenant, number), entries)
        return self._last.entries

    async def _tile(self, tenant: str, layer: int, number: int) -> bytes:
        key = _key(layer, number)
        if (tenant, key) not in self._tiles:
            found = await self._views.rows(VIEW, tenant, [key])
            size = 32 if layer else _ENTRY.size
            if len(found.get(key, b"")) % size:
                raise _damaged(tenant)
            if len(self._tiles) >= TILES_MAX:
                self._tiles.pop(next(iter(self._tiles)))
            self._tiles[tenant, key] = found.get(key, b"")
        return self._tiles[tenant, key]


class _Leaves(NamedTuple):
    """One tile of leaves, ready to be looked at."""

    key: tuple[str, int]
    entries: list[Entry]

    def spans(self, position: int) -> bool:
        return bool(self.entries) and self.entries[0].position <= position <= self.entries[-1].position


class _Growing:
    """The right edge of one tenant's tree in memory, and the tiles that have changed since they were last written."""

    def __init__(self, frontier: Frontier, tiles: Sequence[bytes]) -> None:
        self._frontier = frontier
        self._tiles = [bytearray(tile) for tile in tiles]
        self._full: dict[str, bytes] = {}

    def add(self, record: Record) -> None:
        """Add one event."""
        completed = self._frontier.add(leaf_hash(record.hash))
        self._put(0, _ENTRY.pack(record.position, record.hash), _ENTRY.size, self._frontier.size)
        for level in range(HEIGHT, len(completed), HEIGHT):
            self._put(level // HEIGHT, completed[level], 32, self._frontier.size >> level)

    def _put(self, layer: int, item: bytes, size: int, count: int) -> None:
        """Put the `count`-th item of a layer into its tile."""
        if layer == len(self._tiles):
            self._tiles.append(bytearray())
        tile = self._tiles[layer]
        tile += item
        if len(tile) == WIDTH * size:
            self._full[_key(layer, count // WIDTH - 1)] = bytes(tile)
            self._tiles[layer] = bytearray()

    def rows(self, tenant: str) -> list[Row]:
        """What is to be written."""
        full, self._full = self._full, {}
        size = self._frontier.size
        opened = {
            _key(layer, count // WIDTH): bytes(tile)
            for layer, (tile, count) in enumerate(zip(self._tiles, _counts(size), strict=False))
            if tile
        }
        edge = msgspec.msgpack.encode(Edge(size, tuple(self._frontier.roots)))
        return [Row(tenant, key, body) for key, body in [*full.items(), *opened.items(), (_EDGE, edge)]]


def _counts(size: int) -> list[int]:
    """How many items each layer of a tree of `size` leaves has, those of the leaves first."""
    counts = [size]
    while counts[-1] >= WIDTH:
        counts.append(counts[-1] // WIDTH)
    return counts


def _key(layer: int, number: int) -> str:
    return f"{layer}/{number:012}"


def _unpack(body: bytes) -> Edge:
    try:
        return msgspec.msgpack.decode(body, type=Edge)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt("The edge of an audit tree is damaged.") from error


def _damaged(tenant: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"The audit tree of {tenant} is damaged: a tile is missing or of the wrong size.",
        hint="Restore the store from a backup; checkpoints that were kept elsewhere tell how far it can be trusted.",
    )
