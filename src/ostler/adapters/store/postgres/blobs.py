"""Bodies in the database of the events that refer to them."""

import hashlib
from collections.abc import Sequence
from typing import Any

from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.rules import checked_body
from ostler.kernel.event import StreamId

PUT = """
    WITH kept AS (
        INSERT INTO @schema.blobs (tenant, digest, body) VALUES ($1, $3, $4) ON CONFLICT DO NOTHING
    )
    INSERT INTO @schema.blob_users (tenant, name, digest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
SHARE = """
    INSERT INTO @schema.blob_users (tenant, name, digest)
    SELECT tenant, $2, digest FROM @schema.blobs WHERE tenant = $1 AND digest = ANY ($3::bytea[])
    ON CONFLICT DO NOTHING
"""
LOCK = "LOCK TABLE @schema.blob_users IN SHARE ROW EXCLUSIVE MODE"
LEAVE = """
    DELETE FROM @schema.blob_users AS users USING unnest($1::text[], $2::text[]) AS gone (tenant, name)
    WHERE (users.tenant, users.name) = (gone.tenant, gone.name) RETURNING users.tenant, users.digest
"""
DROP = """
    DELETE FROM @schema.blobs AS body USING unnest($1::text[], $2::bytea[]) AS gone (tenant, digest)
    WHERE (body.tenant, body.digest) = (gone.tenant, gone.digest) AND NOT EXISTS (
        SELECT FROM @schema.blob_users AS users WHERE (users.tenant, users.digest) = (body.tenant, body.digest)
    )
"""
GET = "SELECT body FROM @schema.blobs WHERE tenant = $1 AND digest = $2"


class PostgresBlobStore:
    """A `BlobStore` beside a `PostgresStore`."""

    def __init__(self, store: PostgresStore) -> None:
        self._server = store.server

    async def put(self, stream: StreamId, body: bytes) -> str:
        digest = hashlib.sha256(body)
        await self._server.fetch(self._server.sql(PUT), *stream, digest.digest(), body)
        return digest.hexdigest()

    async def share(self, stream: StreamId, digests: Sequence[str]) -> None:
        await self._server.fetch(self._server.sql(SHARE), *stream, [bytes.fromhex(digest) for digest in digests])

    async def drop(self, streams: Sequence[StreamId]) -> None:
        sql = self._server.sql

        async def leave(connection: Any) -> None:
            # Nobody may begin to use a body while it is found to be used by nobody.
            await connection.execute(sql(LOCK))
            names = [stream.tenant for stream in streams], [stream.name for stream in streams]
            left = await connection.fetch(sql(LEAVE), *names)
            await connection.fetch(sql(DROP), [tenant for tenant, _ in left], [digest for _, digest in left])

        await self._server.patiently(lambda: self._server.transact(leave))

    async def get(self, tenant: str, digest: str) -> bytes:
        try:
            rows = await self._server.fetch(self._server.sql(GET), tenant, bytes.fromhex(digest))
        except ValueError:
            rows = []
        return checked_body(bytes(rows[0][0]) if rows else None, digest)
