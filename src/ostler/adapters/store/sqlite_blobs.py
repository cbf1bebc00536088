"""Bodies in the SQLite file of the events that refer to them."""

import hashlib
import sqlite3
from collections.abc import Sequence

from ostler.adapters.store.rules import checked_body
from ostler.adapters.store.sqlite import SqliteStore
from ostler.kernel.event import StreamId

USE = "INSERT INTO blob_users (tenant, name, digest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
USE_FOUND = """
    INSERT INTO blob_users (tenant, name, digest) SELECT tenant, ?, digest FROM blobs WHERE tenant = ? AND digest = ?
    ON CONFLICT DO NOTHING
"""
PUT = "INSERT INTO blobs (tenant, digest, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
LEAVE = "DELETE FROM blob_users WHERE tenant = ? AND name = ? RETURNING digest"
DROP = """
    DELETE FROM blobs WHERE tenant = :tenant AND digest = :digest
      AND NOT EXISTS (SELECT 1 FROM blob_users AS users WHERE users.tenant = :tenant AND users.digest = :digest)
"""
GET = "SELECT body FROM blobs WHERE tenant = ? AND digest = ?"


class SqliteBlobStore:
    """A `BlobStore` in the file of a `SqliteStore`, and in its commits."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def put(self, stream: StreamId, body: bytes) -> str:
        digest = hashlib.sha256(body)

        def keep(connection: sqlite3.Connection) -> None:
            connection.execute(PUT, (stream.tenant, digest.digest(), body))
            connection.execute(USE, (*stream, digest.digest()))

        await self._store.write(keep)
        return digest.hexdigest()

    async def share(self, stream: StreamId, digests: Sequence[str]) -> None:
        users = [(stream.name, stream.tenant, bytes.fromhex(digest)) for digest in digests]
        await self._store.write(lambda connection: connection.executemany(USE_FOUND, users))

    async def drop(self, streams: Sequence[StreamId]) -> None:
        def leave(connection: sqlite3.Connection) -> None:
            for stream in streams:
                digests = connection.execute(LEAVE, stream).fetchall()
                connection.executemany(DROP, [{"tenant": stream.tenant, "digest": digest} for (digest,) in digests])

        await self._store.write(leave)

    async def get(self, tenant: str, digest: str) -> bytes:
        try:
            rows = await self._store.fetch(GET, (tenant, bytes.fromhex(digest)))
        except ValueError:
            rows = []
        return checked_body(rows[0][0] if rows else None, digest)
