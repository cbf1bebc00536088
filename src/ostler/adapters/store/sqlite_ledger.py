"""The ledger in a SQLite file, for the workers of one machine; in the commits of what else they write."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.budget import (
    KEPT_ENDED_US,
    KEPT_SETTLED_US,
    Draw,
    Holder,
    Refused,
    Reserved,
    Seen,
    Total,
    Unit,
    counted,
    judge,
    settled,
)

FORGET_MAX = 1000
"""Rows of one kind that are dropped at a time."""

HOLDER = "SELECT key, is_settled FROM ledger_holders WHERE tenant = ? AND session = ? AND call = ?"
ENTRIES = "SELECT account, unit, amount, until, is_warned FROM ledger_entries WHERE holder = ?"
ACCOUNT = "SELECT key, used, warned FROM ledger_accounts WHERE tenant = ? AND name = ?"
SLIDE = "DELETE FROM ledger_slots WHERE account = ? AND until <= ? RETURNING amount"
SLID = "UPDATE ledger_accounts SET used = used - ? WHERE key = ?"
PUT_HOLDER = """
    INSERT INTO ledger_holders (tenant, session, call, until) VALUES (?, ?, ?, ?)
    ON CONFLICT (tenant, session, call) DO UPDATE SET until = excluded.until RETURNING key
"""
PUT_ACCOUNT = """
    INSERT INTO ledger_accounts (tenant, name, used, reserved, warned, ends)
    VALUES (:tenant, :name, :amount, :amount, :warned, :ends)
    ON CONFLICT (tenant, name) DO UPDATE SET used = used + excluded.used, reserved = reserved + excluded.reserved,
        warned = max(warned, excluded.warned), ends = max(ends, excluded.ends)
    RETURNING key
"""
PUT_SLOT = """
    INSERT INTO ledger_slots (account, until, amount) VALUES (?, ?, ?)
    ON CONFLICT (account, until) DO UPDATE SET amount = amount + excluded.amount
"""
PUT_ENTRY = "INSERT INTO ledger_entries (holder, account, unit, amount, until, is_warned) VALUES (?, ?, ?, ?, ?, ?)"
CHANGE_SLOT = "UPDATE ledger_slots SET amount = amount + ? WHERE account = ? AND until = ?"
CHANGE = "UPDATE ledger_accounts SET used = used + ?, reserved = reserved - ? WHERE key = ?"
CLEAR = "DELETE FROM ledger_entries WHERE holder = ?"
SETTLED = "UPDATE ledger_holders SET is_settled = 1, until = ? WHERE key = ?"
DROP = "DELETE FROM ledger_holders WHERE key = ?"
OVERDUE = """
    SELECT key, tenant, session, call FROM ledger_holders
    WHERE is_settled = 0 AND until <= ? ORDER BY until, tenant, session, call LIMIT ?
"""
POSTPONE = "UPDATE ledger_holders SET until = ? WHERE key = ?"
TOTALS = """
    SELECT name, used - coalesce((SELECT sum(amount) FROM ledger_slots WHERE account = key AND until <= :now), 0),
        reserved
    FROM ledger_accounts WHERE tenant = :tenant AND name IN (SELECT value FROM json_each(:names))
"""
NAMES = """
    SELECT name FROM ledger_accounts
    WHERE tenant = ? AND name > ? AND name >= ? AND name < ? || char(1114111) AND used <> 0 ORDER BY name LIMIT ?
"""
FORGET_HOLDERS = """
    DELETE FROM ledger_holders WHERE key IN (
        SELECT key FROM ledger_holders WHERE is_settled = 1 AND until <= ? ORDER BY until LIMIT ?
    )
"""
ENDED = "SELECT key FROM ledger_accounts WHERE ends <= ? AND reserved = 0 ORDER BY ends LIMIT ?"
DROP_SLOTS = "DELETE FROM ledger_slots WHERE account = ?"
DROP_ACCOUNT = "DELETE FROM ledger_accounts WHERE key = ?"


class _Entry(NamedTuple):
    account: int
    unit: str
    amount: int
    until_us: int | None
    is_warned: int


class SqliteLedger:
    """A `Ledger` in the file of a `SqliteStore`, and in its commits."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def reserve(self, holder: Holder, draws: Sequence[Draw], *, now_us: int, until_us: int) -> Reserved | Refused:
        def reserve(connection: sqlite3.Connection) -> Reserved | Refused:
            key, is_settled = _find(connection, holder)
            if is_settled:
                return Reserved()
            held = [] if key is None else _entries(connection, key)
            own = {entry.account: entry for entry in held}
            verdict = judge(draws, [_seen(connection, draw, own, now_us) for draw in draws])
            if isinstance(verdict, Reserved):
                if key is not None:
                    _undo(connection, key, held)
                ((key,),) = connection.execute(PUT_HOLDER, (*holder, until_us)).fetchall()
                for draw in draws:
                    _enter(connection, key, draw, now_us, is_warned=draw.account in verdict.warnings)
            return verdict

        if not draws:
            await self.release(holder)
            return Reserved()
        return await self._store.write(reserve)

    async def settle(self, holder: Holder, used: Mapping[Unit, int] | None, *, now_us: int) -> None:
        def settle(connection: sqlite3.Connection) -> None:
            key, is_settled = _find(connection, holder)
            if key is None or is_settled:
                return
            for entry in _entries(connection, key):
                _change(connection, entry, settled(entry.unit, entry.amount, used))
            connection.execute(CLEAR, (key,))
            connection.execute(SETTLED, (now_us + KEPT_SETTLED_US, key))

        await self._store.write(settle)

    async def release(self, holder: Holder) -> None:
        def release(connection: sqlite3.Connection) -> None:
            key, is_settled = _find(connection, holder)
            if key is not None and not is_settled:
                _undo(connection, key, _entries(connection, key))
                connection.execute(DROP, (key,))

        await self._store.write(release)

    async def overdue(self, *, now_us: int, again_us: int, limit: int = 100) -> list[Holder]:
        def overdue(connection: sqlite3.Connection) -> list[Holder]:
            rows = connection.execute(OVERDUE, (now_us, limit)).fetchall()
            connection.executemany(POSTPONE, [(again_us, key) for key, *_ in rows])
            return [Holder(*names) for _, *names in rows]

        # Nobody waits for a commit to learn that nothing is overdue, which is nearly always so.
        if not await self._store.fetch(OVERDUE, (now_us, 1)):
            return []
        return await self._store.write(overdue)

    async def totals(self, tenant: str, accounts: Sequence[str], *, now_us: int) -> dict[str, Total]:
        wanted = {"tenant": tenant, "names": json.dumps(accounts), "now": now_us}
        rows = await self._store.fetch(TOTALS, wanted)
        return {name: Total(used, min(used, reserved)) for name, used, reserved in rows if used}

    async def accounts(self, tenant: str, *, prefix: str = "", after: str = "", limit: int = 100) -> list[str]:
        return [name for (name,) in await self._store.fetch(NAMES, (tenant, after, prefix, prefix, limit))]

    async def forget(self, *, now_us: int) -> None:
        def forget(connection: sqlite3.Connection) -> None:
            connection.execute(FORGET_HOLDERS, (now_us, FORGET_MAX))
            keys = connection.execute(ENDED, (now_us - KEPT_ENDED_US, FORGET_MAX)).fetchall()
            connection.executemany(DROP_SLOTS, keys)
            connection.executemany(DROP_ACCOUNT, keys)

        await self._store.write(forget)


def _find(connection: sqlite3.Connection, holder: Holder) -> tuple[int | None, bool]:
    """The key of a holder, None if it is not known, and whether it is settled."""
    row = connection.execute(HOLDER, holder).fetchone()
    return (None, False) if row is None else (row[0], bool(row[1]))


def _entries(connection: sqlite3.Connection, key: int) -> list[_Entry]:
    return [_Entry(*row) for row in connection.execute(ENTRIES, (key,)).fetchall()]


def _seen(connection: sqlite3.Connection, draw: Draw, own: Mapping[int, _Entry], now_us: int) -> Seen:
    row = connection.execute(ACCOUNT, (draw.tenant, draw.account)).fetchone()
    if row is None:
        return Seen(0, False)
    account, used, warned_us = row
    left = [amount for (amount,) in connection.execute(SLIDE, (account, now_us)).fetchall()] if draw.window_us else []
    if left:
        used -= sum(left)
        connection.execute(SLID, (sum(left), account))
    entry = own.get(account)
    if entry is None:
        return Seen(used, warned_us > now_us)
    is_counted = entry.until_us is None or entry.until_us > now_us
    return Seen(used - (entry.amount if is_counted else 0), warned_us > now_us and not entry.is_warned)


def _enter(connection: sqlite3.Connection, key: int, draw: Draw, now_us: int, *, is_warned: bool) -> None:
    until_us = counted(draw, now_us) if draw.window_us else None
    values = {
        "tenant": draw.tenant,
        "name": draw.account,
        "amount": draw.amount,
        "warned": counted(draw, now_us) if is_warned else 0,
        "ends": until_us or draw.ends_us,
    }
    ((account,),) = connection.execute(PUT_ACCOUNT, values).fetchall()
    if until_us is not None:
        connection.execute(PUT_SLOT, (account, until_us, draw.amount))
    connection.execute(PUT_ENTRY, (key, account, draw.unit, draw.amount, until_us, is_warned))


def _undo(connection: sqlite3.Connection, key: int, entries: Sequence[_Entry]) -> None:
    for entry in entries:
        _change(connection, entry, 0)
    connection.execute(CLEAR, (key,))


def _change(connection: sqlite3.Connection, entry: _Entry, amount: int) -> None:
    """Count this amount in place of what was reserved; of what has left its window, nothing counts."""
    more = amount - entry.amount
    if entry.until_us is not None:
        slots = connection.execute(CHANGE_SLOT, (more, entry.account, entry.until_us)).rowcount
        more = more if slots else 0
    connection.execute(CHANGE, (more, entry.amount, entry.account))
