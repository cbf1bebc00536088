"""Groups of appends as the arguments of the functions that write them."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ostler.adapters.store.postgres.server import RETRY_FIRST_S, RETRY_GROWTH, RETRY_MAX_S, Server, is_in_doubt
from ostler.adapters.store.rules import stale, without_standing
from ostler.kernel.errors import OstlerError, StoreError
from ostler.kernel.event import StreamId
from ostler.ports import Append

KEYS_MAX = 10_000
"""Streams whose keys are remembered."""

APPEND_ONE = "SELECT @schema.append_one($1, $2, $3, $4, $5, $6, $7)"
APPEND = """
    SELECT keys, ends FROM @schema.append(
        $1::bigint[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::integer[],
        $7::text[], $8::text[], $9::bigint[], $10::integer[],
        $11::integer[], $12::bigint[], $13::integer[], $14::bytea[], $15::bytea[], $16::text
    )
"""
STATES = """
    SELECT number, epoch, coalesce((SELECT max(seq) FROM @schema.events WHERE stream = key), 0),
        (SELECT position FROM @schema.events WHERE stream = key AND seq = last AND hash = given.hash)
    FROM unnest($1::text[], $2::text[], $3::integer[], $4::bytea[]) WITH ORDINALITY
        AS given (tenant, name, last, hash, number)
    JOIN @schema.streams AS found USING (tenant, name)
"""


class Appender:
    """Writes groups of appends, each group in one statement.

    When the connection breaks, nobody knows whether the group was written. It is sent again until there is an answer,
    and an append that is refused then is looked up by the hash of its last record: if it is there, it was ours.
    """

    def __init__(self, server: Server, sender: str) -> None:
        self._server = server
        self._sender = sender
        self._keys: dict[StreamId, int] = {}
        self._in_doubt: set[bytes] = set()
        self._one = server.sql(APPEND_ONE)
        self._many = server.sql(APPEND)
        self._states = server.sql(STATES)

    async def write(self, appends: Sequence[Append]) -> list[Any]:
        """For each append its position, or the exception that refuses it alone."""
        outcomes: list[Any] = []
        for group in _to_different_streams(appends):
            try:
                outcomes += await self._write(group)
            except OstlerError as error:
                outcomes += [error] * len(group)
        return outcomes

    async def append_within(self, connection: Any, *appends: Append) -> None:
        """Appends to different streams as a part of another transaction. Raises `StaleWrite` if one is stale."""
        ((_, ends),) = await connection.fetch(self._many, *self._arguments(list(appends)), self._sender)
        for append, end in zip(appends, ends, strict=True):
            if end is None:
                raise stale(append, version=-1, epoch=-1)

    def forget(self, streams: Iterable[StreamId]) -> None:
        """These streams are gone."""
        for stream in streams:
            self._keys.pop(stream, None)

    async def _write(self, group: list[Append]) -> list[Any]:
        ends, was_in_doubt = await self._send(group)
        refused = [append for append, end in zip(group, ends, strict=True) if end is None]
        if not refused:
            return ends
        known = self._in_doubt if not was_in_doubt else None
        refusals = await self._explain(refused, known)
        return [refusals[append.stream] if end is None else end for append, end in zip(group, ends, strict=True)]

    async def _send(self, group: list[Append]) -> tuple[list[int | None], bool]:
        """Where each append ends, None if refused; and whether an earlier try may have been written."""
        loop = asyncio.get_running_loop()
        end, delay_s, was_in_doubt = loop.time() + self._server.patience_s, RETRY_FIRST_S, False
        while True:
            try:
                return await self._try(group), was_in_doubt
            except StoreError:
                raise
            except Exception as error:
                was_in_doubt = was_in_doubt or is_in_doubt(error)
                translated = self._server.translated(error)
                if not translated.retryable or loop.time() + delay_s >= end:
                    if was_in_doubt:
                        self._in_doubt.update(append.records[-1].hash for append in group if append.records)
                    raise translated from error
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * RETRY_GROWTH, RETRY_MAX_S)

    async def _try(self, group: list[Append]) -> list[int | None]:
        if len(group) == 1:
            append = group[0]
            key = self._keys.get(append.stream)
            if key is not None and append.standing is None and append.records:
                return await self._try_one(key, append)
        arguments = self._arguments(group)
        ((keys, ends),) = await self._server.write(self._many, *arguments, self._sender)
        for append, key, end in zip(group, keys, ends, strict=True):
            if key is not None and end is not None:
                self._keys[append.stream] = key
        while len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        return list(ends)

    async def _try_one(self, key: int, append: Append) -> list[int | None]:
        records = append.records
        ((end,),) = await self._server.write(
            self._one,
            key,
            append.expected,
            append.epoch,
            [record.at_us for record in records],
            [record.hash for record in records],
            [record.data for record in records],
            self._sender,
        )
        return [end]

    def _arguments(self, group: list[Append]) -> list[list[Any]]:
        keys = [self._keys.get(append.stream) for append in group]
        standings = [append.standing for append in group]
        records = [(owner, record) for owner, append in enumerate(group, 1) for record in append.records]
        return [
            keys,
            [append.stream.tenant for append in group],
            [append.stream.name for append in group],
            [append.expected for append in group],
            [append.epoch for append in group],
            [len(append.records) for append in group],
            [standing and standing.queue for standing in standings],
            [standing and standing.status for standing in standings],
            [standing and standing.due_us for standing in standings],
            [standing.priority if standing else 0 for standing in standings],
            [owner for owner, _ in records],
            [record.at_us for _, record in records],
            [record.seq for _, record in records],
            [record.hash for _, record in records],
            [record.data for _, record in records],
        ]

    async def _explain(self, refused: list[Append], in_doubt: set[bytes] | None) -> dict[StreamId, Any]:
        """Why each was refused, or its position after all if it had been written before we knew.

        Only appends in doubt are looked for, which is all of them if `in_doubt` is None.
        """
        rows = await self._server.fetch(
            self._states,
            [append.stream.tenant for append in refused],
            [append.stream.name for append in refused],
            [append.expected + len(append.records) for append in refused],
            [append.records[-1].hash if append.records else b"" for append in refused],
        )
        found = {number: (epoch, version, position) for number, epoch, version, position in rows}
        explained: dict[StreamId, Any] = {}
        for number, append in enumerate(refused, 1):
            epoch, version, position = found.get(number, (0, 0, None))
            if position is not None and (in_doubt is None or append.records[-1].hash in in_doubt):
                self._in_doubt.discard(append.records[-1].hash)
                explained[append.stream] = position
            elif version == 0 and not append.expected and not append.epoch and append.standing is None:
                explained[append.stream] = without_standing(append)
            else:
                self._keys.pop(append.stream, None)
                explained[append.stream] = stale(append, version=version, epoch=epoch)
        return explained


def _to_different_streams(appends: Sequence[Append]) -> Iterator[list[Append]]:
    """Runs of appends of which no two are to the same stream."""
    group: dict[StreamId, Append] = {}
    for append in appends:
        if append.stream in group:
            yield list(group.values())
            group = {}
        group[append.stream] = append
    if group:
        yield list(group.values())
