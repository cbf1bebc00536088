"""Everything that is kept of tenants, behind one door: what a tenant does, and what it is answered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ostler.adapters.vault.environment import EnvironmentVault
from ostler.adapters.vault.file import FileVault, Key
from ostler.app.identity import Identity
from ostler.domain.budget import Draw, Holder
from ostler.domain.capacity import Limit, Place
from ostler.domain.grant import Wanted
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.domain.secret import Secret
from ostler.kernel.errors import OstlerError
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.ports import Append, BlobStore, EventStore, Ledger, Limiter, Row, Standing, ViewStore

Step = tuple[str, Any, int]
"""What is done (the name of a method of `House`), to what, and a number that says which way."""

NAMES = ("ses_a", "ses_ab", "ses_b")
BODIES = (b"hay", b"straw")
VIEW = "herds@1"
FAR_US = 10**18
STATUSES = ("queued", "running")
GUARD = "guard"
"""A tenant that writes whenever another has to be kept from having the newest stream of the store."""


class House(msgspec.Struct):
    """The ports of one store, and the vaults and directories beside it."""

    store: EventStore
    blobs: BlobStore
    views: ViewStore
    limiter: Limiter
    ledger: Ledger
    vault: FileVault
    directories: dict[str, Identity]
    now: int = 1_700_000_000_000_000

    @classmethod
    def of(
        cls, store: EventStore, blobs: BlobStore, views: ViewStore, limiter: Limiter, ledger: Ledger, folder: Path
    ) -> "House":
        return cls(store, blobs, views, limiter, ledger, FileVault(folder / "vault", Key("key file", bytes(32))), {})

    async def do(self, tenant: str, step: Step) -> object:
        """What the tenant is answered, or the kind of error that is raised, without anything that is its own."""
        method, what, number = step
        act: Callable[[str, Any, int], Any] = getattr(self, method)
        try:
            return await act(tenant, what, number)
        except OstlerError as error:
            return type(error).__name__

    def now_us(self) -> int:
        return self.now

    def chance(self, size: int) -> bytes:
        self.now += 1
        return self.now.to_bytes(size, "big")

    # Events

    async def append(self, tenant: str, name: str, number: int) -> object:
        records = await self.store.read(StreamId(tenant, name))
        standing = Standing("stable", STATUSES[number % 2], None, number)
        await self.store.append(self._append(StreamId(tenant, name), records, standing, stale=number == 3))
        return len(records)

    async def read(self, tenant: str, name: str, number: int) -> object:
        records = await self.store.read(StreamId(tenant, name), after=number)
        assert {record.stream for record in records} <= {StreamId(tenant, name)}
        return [(record.seq, record.data) for record in records]

    async def tail(self, tenant: str, name: str, number: int) -> object:
        """The log of all: whose an event is stands beside it."""
        records = await self.store.tail(limit=10_000)
        return [(one.stream.name, one.seq, one.data) for one in records if one.stream.tenant == tenant]

    async def streams(self, tenant: str, name: str, number: int) -> object:
        queue, statuses = ("stable" if number == 1 else None), (STATUSES[:1] if number == 2 else ())
        found = await self.store.streams(tenant, prefix=name[: 4 + number], queue=queue, statuses=statuses)
        assert {info.stream.tenant for info in found} <= {tenant}
        return [(info.stream.name, info.version, info.standing, info.worker is None) for info in found]

    async def census(self, tenant: str, name: str, number: int) -> object:
        counted = await self.store.census(now_us=FAR_US)
        return [(one.status, one.count) for one in counted.statuses if one.tenant == tenant]

    async def claim(self, tenant: str, name: str, number: int) -> object:
        """Take the stream as a worker of this tenant's, if it is due, and let it go, but for one time in four."""
        stream, worker = StreamId(tenant, name), f"wrk_{tenant}"
        records = await self.store.read(stream)
        if not records:
            return None
        await self.store.append(Append(stream, len(records), [], Standing("stable", "queued", 1)))
        await self.store.beat(worker, until_us=FAR_US)
        claims = await self.store.claim(worker, now_us=self.now, limit=9, only=stream)
        assert {one.stream for one in claims} <= {stream}
        await self.store.release(worker, [stream])
        await self.store.append(Append(stream, len(records), [], Standing("stable", "queued", None)))
        return [one.epoch for one in claims]

    async def remove(self, tenant: str, name: str, number: int) -> object:
        stream = StreamId(tenant, name)
        records = await self.store.read(stream)
        guard = StreamId(GUARD, f"{tenant}-{self.chance(10).hex()}")
        await self.store.append(self._append(guard, [], Standing("stable", "queued", None)))
        await self.store.remove({stream: len(records) + (number == 3)}, await self._note(tenant))
        await self.blobs.drop([stream])
        return len(records)

    async def erase(self, tenant: str, name: str, number: int) -> object:
        stream = StreamId(tenant, name)
        records = await self.store.read(stream)
        only = [len(records)] if number == 2 and records else None
        await self.store.erase(stream, len(records) + (number == 3), await self._note(tenant), only=only)
        return len(records)

    # Bodies and rows

    async def put(self, tenant: str, name: str, number: int) -> object:
        return await self.blobs.put(StreamId(tenant, name), BODIES[number % 2])

    async def get(self, tenant: str, name: str, number: int) -> object:
        digests = [await self.blobs.put(StreamId(GUARD, name), body) for body in BODIES]
        return await self.blobs.get(tenant, digests[number % 2])

    async def share(self, tenant: str, name: str, number: int) -> object:
        digests = [await self.blobs.put(StreamId(GUARD, name), body) for body in BODIES]
        await self.blobs.share(StreamId(tenant, name), digests[: number % 3])
        return await self.get(tenant, name, number)

    async def drop(self, tenant: str, name: str, number: int) -> None:
        await self.blobs.drop([StreamId(tenant, name)])

    async def advance(self, tenant: str, name: str, number: int) -> None:
        position = await self.views.position(VIEW)
        row = Row(tenant, name, b"%d" % number if number else None)
        await self.views.advance(VIEW, after=position, position=position + 1, rows=[row])

    async def rows(self, tenant: str, name: str, number: int) -> object:
        return await self.views.rows(VIEW, tenant, NAMES[:number])

    async def page(self, tenant: str, name: str, number: int) -> object:
        return await self.views.page(VIEW, tenant, after=name if number else "")

    # Limits and budgets

    async def take(self, tenant: str, name: str, number: int) -> object:
        wait = await self.limiter.take([_limit(tenant)], _place(tenant, name), now_us=self.now)
        return wait.after_us > 0

    async def give_back(self, tenant: str, name: str, number: int) -> None:
        await self.limiter.give_back([_place(tenant, name)])

    async def reserve(self, tenant: str, name: str, number: int) -> object:
        draw = Draw(tenant=tenant, account="day", amount=number, most=5, unit="tokens", soft=3)
        return await self.ledger.reserve(Holder(tenant, name, "1"), [draw], now_us=self.now, until_us=FAR_US)

    async def settle(self, tenant: str, name: str, number: int) -> None:
        await self.ledger.settle(Holder(tenant, name, "1"), {"tokens": number}, now_us=self.now)

    async def release(self, tenant: str, name: str, number: int) -> None:
        await self.ledger.release(Holder(tenant, name, "1"))

    async def totals(self, tenant: str, name: str, number: int) -> object:
        accounts = await self.ledger.accounts(tenant)
        return accounts, await self.ledger.totals(tenant, ["day", "night"], now_us=self.now)

    # Directory and vault

    async def add(self, tenant: str, name: str, number: int) -> None:
        await self._directory(tenant).add(Principal(name, "user", tenant, (f"crm.{number}",)), _owner(tenant))

    async def leave(self, tenant: str, name: str, number: int) -> None:
        await self._directory(tenant).remove(name, _owner(tenant))

    async def lend(self, tenant: str, name: str, number: int) -> object:
        grant = await self._directory(tenant).lend(Wanted("agent:clerk@1"), _owner(tenant), subject=name)
        assert grant.tenant == tenant
        return grant.scopes

    async def directory(self, tenant: str, name: str, number: int) -> object:
        seen = await self._directory(tenant).directory()
        tenants = {one.tenant for one in seen.principals.values()} | {one.tenant for one in seen.grants.values()}
        assert tenants <= {tenant}
        people = [(one.id, one.scopes) for one in seen.principals.values()]
        return people, [(one.subject, one.scopes) for one in seen.grants.values()], len(seen.revoked)

    async def hide(self, tenant: str, name: str, number: int) -> object:
        return await self.vault.set(tenant, Secret(name.upper(), f"a secret value, number {number}"))

    async def reveal(self, tenant: str, name: str, number: int) -> object:
        return await self.vault.names(tenant), (await self.vault.get(tenant, name.upper())).reveal()

    async def reveal_environment(self, tenant: str, name: str, number: int) -> object:
        """Of an environment in which only others have secrets."""
        others = {f"OSTLER_SECRET_{other}TOKEN": "a secret value" for other in ("", "OTHER__", "ACME_B__")}
        return await EnvironmentVault(others).names(tenant)

    def _directory(self, tenant: str) -> Identity:
        if tenant not in self.directories:
            self.directories[tenant] = Identity(self.store, self, self, tenant=tenant)
        return self.directories[tenant]

    async def _note(self, tenant: str) -> Append:
        stream = StreamId(tenant, "housekeeping")
        standing = Standing("housekeeping", "housekeeping", None)
        return self._append(stream, await self.store.read(stream), standing)

    def _append(self, stream: StreamId, before: list[Record], standing: Standing, *, stale: bool = False) -> Append:
        seq, previous = len(before) + 1 + stale, before[-1].hash if before else GENESIS
        data = b'{"type":"hay.eaten","bale":%d}' % seq
        record = Record(stream, seq, self.now, data, link(previous, stream, seq, self.now, data))
        return Append(stream, seq - 1, [record], standing)


def _limit(tenant: str) -> Limit:
    return Limit(f"tenants.{tenant}.model_calls", 2)


def _place(tenant: str, name: str) -> Place:
    return Place(f"{tenant}/{name}/1", 1, FAR_US, 0)


def _owner(tenant: str) -> Principal:
    return msgspec.structs.replace(LOCAL_USER, tenant=tenant)
