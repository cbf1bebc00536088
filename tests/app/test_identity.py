"""The directory in a store: nobody's change is lost, damage is found, tokens follow what was revoked."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.tokens.ring import KeyRing
from ostler.adapters.tokens.signed import mint
from ostler.adapters.vault.file import FileVault, Key
from ostler.app.identity import ISSUER, TOKEN_KEYS, Identity, rotate_token_keys, token_keys
from ostler.domain.directory import IDENTITY, Directory
from ostler.domain.grant import Wanted
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.kernel.errors import Conflict, NotFound, StoreCorrupt, TokenRefused
from ostler.kernel.event import Record, StreamId
from ostler.ports import EventStore

OWNER = msgspec.structs.replace(LOCAL_USER, tenant="acme")
ADA = Principal("ada", "user", "acme", ("crm.*", "pay"), ("finance",))
HOUR_US = 3_600_000_000


class SetClock:
    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.us


class Counting:
    def __init__(self) -> None:
        self.count = 0

    def chance(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")


CLOCK = SetClock()
ENTROPY = Counting()


def opened(store: EventStore, tenant: str = "acme") -> Identity:
    return Identity(store, CLOCK, ENTROPY, tenant=tenant)


async def test_what_one_process_changes_another_sees() -> None:
    store = MemoryStore()
    one, other = opened(store), opened(store)
    await one.add(ADA, OWNER)
    assert (await other.directory()).principal("ada") == ADA
    await other.change("ada", OWNER, roles=())
    assert (await one.directory()).principal("ada").roles == ()
    await one.remove("ada", OWNER, "gone")
    with pytest.raises(NotFound):
        (await other.directory()).principal("ada")
    assert [type(event).__name__ for _, event in await one.history()] == [
        "PrincipalAdded",
        "PrincipalChanged",
        "PrincipalRemoved",
    ]


async def test_changes_at_the_same_time_are_all_kept_and_decided_upon_what_is() -> None:
    store = MemoryStore()
    many = [opened(store) for _ in range(6)]
    await asyncio.gather(*(one.add(Principal(f"user-{n}", tenant="acme"), OWNER) for n, one in enumerate(many)))
    assert len((await many[0].directory()).principals) == 6
    same = await asyncio.gather(*(one.add(ADA, OWNER) for one in many), return_exceptions=True)
    assert sorted(type(result).__name__ for result in same) == ["Conflict"] * 5 + ["NoneType"]


class YieldingStore(MemoryStore):
    """Lets others go on while it reads, as a store on a server does."""

    async def read(self, stream: StreamId, *, after: int = 0, limit: int | None = None) -> list[Record]:
        found = await super().read(stream, after=after, limit=limit)
        await asyncio.sleep(0)
        return found


async def test_one_directory_is_read_by_many_at_once() -> None:
    store = YieldingStore()
    writer, reader = opened(store), opened(store)
    await writer.add(ADA, OWNER)
    await writer.remove("ada", OWNER)
    assert await asyncio.gather(*(reader.directory() for _ in range(5))) == [Directory("acme")] * 5


async def test_what_is_in_one_tenants_directory_is_in_no_others() -> None:
    store = MemoryStore()
    await opened(store).add(ADA, OWNER)
    grant = await opened(store).lend(Wanted("agent:clerk@1"), ADA)
    rival = opened(store, "rival")
    assert await rival.directory() == Directory("rival")
    with pytest.raises(NotFound):
        await rival.fault(grant.id)


async def test_a_directory_that_was_altered_is_not_believed(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "ostler.db")
    await opened(store).add(Principal("bob", tenant="acme"), OWNER)
    await opened(store).add(ADA, OWNER)
    records = await store.read(StreamId("acme", IDENTITY))

    class Altered(MemoryStore):
        async def read(self, stream: StreamId, *, after: int = 0, limit: int | None = None) -> list[Record]:
            wider = records[0].data.replace(b'"by":"local"', b'"by":"local","scopes":["*"]')
            return [msgspec.structs.replace(records[0], data=wider), *records[1:]][after:]

    with pytest.raises(StoreCorrupt, match="Event 1 of identity of acme"):
        await opened(Altered()).directory()
    await store.close()


async def test_a_grant_is_lent_handed_on_and_taken_back() -> None:
    identity = opened(MemoryStore())
    await identity.add(ADA, OWNER)
    root = await identity.lend(Wanted("agent:clerk@1", ("crm.*",), expires_us=CLOCK.us + HOUR_US, depth=1), ADA)
    assert (root.subject, root.actor, root.scopes, root.tools) == ("ada", "agent:clerk@1", ("crm.*",), ("*",))
    child = await identity.lend(Wanted("agent:helper@1", tools=("crm.find",)), ADA, parent=root.id)
    assert (child.parent, child.tools, child.depth) == (root.id, ("crm.find",), 0)
    assert await identity.fault(child.id) == ""
    await identity.revoke(root.id, ADA, "done")
    assert await identity.fault(child.id) == f"the grant {root.id} was revoked (done)"
    by_owner = await identity.lend(Wanted("agent:clerk@1"), OWNER, subject="ada")
    assert (by_owner.subject, by_owner.scopes) == ("ada", ADA.scopes)


RING = KeyRing([]).rotated()


async def test_a_token_holds_until_its_grant_is_revoked() -> None:
    identity = opened(MemoryStore())
    await identity.add(ADA, OWNER)
    grant = await identity.lend(Wanted("agent:clerk@1", ("crm.*",), depth=1), ADA)
    child = await identity.lend(Wanted("agent:helper@1"), ADA, parent=grant.id)
    token = await identity.mint(child.id, RING, audience="mill", life_s=60)
    verified = await identity.verify(token, RING, audience="mill")
    assert (verified.grant.actor, verified.grant.scopes) == ("agent:helper@1", ("crm.*",))
    with pytest.raises(TokenRefused, match="is for 'mill'"):
        await identity.verify(token, RING, audience="bakery")
    await identity.revoke(grant.id, ADA)
    with pytest.raises(TokenRefused, match="revoked"):
        await identity.verify(token, RING, audience="mill")
    with pytest.raises(TokenRefused, match="revoked"):
        await identity.mint(child.id, RING, audience="mill", life_s=60)


async def test_a_token_is_worth_nothing_when_its_subject_is_gone() -> None:
    identity = opened(MemoryStore())
    await identity.add(ADA, OWNER)
    grant = await identity.lend(Wanted("agent:clerk@1"), ADA)
    token = await identity.mint(grant.id, RING, audience="mill", life_s=60)
    await identity.remove("ada", OWNER)
    with pytest.raises(TokenRefused, match="revoked"):
        await identity.verify(token, RING, audience="mill")


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": ("*",)},
        {"scopes": ("crm.*", "pay")},
        {"tools": ("*",)},
        {"subject": "local"},
        {"actor": "agent:other@1"},
        {"expires_us": CLOCK.us + 2 * HOUR_US},
        {"depth": 5},
        {"id": "gra_unknown"},
    ],
    ids=str,
)
async def test_a_token_that_says_more_than_its_grant_is_refused_though_the_key_is_ours(
    change: dict[str, object],
) -> None:
    identity = opened(MemoryStore())
    await identity.add(ADA, OWNER)
    wanted = Wanted("agent:clerk@1", ("crm.*",), ("crm.*",), CLOCK.us + HOUR_US // 2, 1)
    grant = await identity.lend(wanted, ADA)
    own = mint([grant], RING, issuer=ISSUER, audience="mill", now_us=CLOCK.us)
    assert (await identity.verify(own, RING, audience="mill")).grant == grant
    forged = msgspec.structs.replace(grant, **change)
    token = mint([forged], RING, issuer=ISSUER, audience="mill", now_us=CLOCK.us)
    with pytest.raises(TokenRefused):
        await identity.verify(token, RING, audience="mill")


async def test_the_keys_of_a_tenant_are_in_the_vault_and_nobody_elses(tmp_path: Path) -> None:
    vault = FileVault(tmp_path / "vault", Key("key file", bytes(32)))
    with pytest.raises(Exception, match="no key to sign"):
        (await token_keys(vault, "acme")).signing()
    first = await rotate_token_keys(vault, "acme")
    second = await rotate_token_keys(vault, "acme")
    assert (await token_keys(vault, "acme")).private() == second.private() != first.private()
    assert len((await token_keys(vault, "acme")).public()["keys"]) == 2
    assert (await token_keys(vault, "rival")).public() == {"keys": []}
    assert await vault.names("acme") == [TOKEN_KEYS]


async def test_nobody_changes_what_they_do_not_see() -> None:
    identity = opened(MemoryStore())
    with pytest.raises(NotFound):
        await identity.remove("ada", OWNER)
    await identity.add(ADA, OWNER)
    with pytest.raises(Conflict):
        await identity.add(ADA, OWNER)
