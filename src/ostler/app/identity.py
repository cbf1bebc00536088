"""The directory of a tenant as its log has it: who there is, what was granted to whom, and tokens for it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ostler.app.bootstrap import Parts
from ostler.app.plugins import part
from ostler.domain import directory as rules
from ostler.domain.directory import IDENTITY, IDENTITY_CODEC, Directory, IdentityEvent
from ostler.domain.glob import outside
from ostler.domain.grant import Grant, Wanted, attenuate
from ostler.domain.identity import DEFAULT_TENANT, Principal
from ostler.domain.secret import Secret
from ostler.kernel.errors import NotFound, SecretMissing, TokenRefused
from ostler.kernel.event import StreamId
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.ports import Clock, Entropy, EventStore, Vault
from ostler.runtime.register import Register

if TYPE_CHECKING:
    from ostler.adapters.tokens.ring import KeyRing
    from ostler.adapters.tokens.signed import Verified
    from ostler.adapters.vault.file import FileVault

TOKEN_LIFE_S_MAX = 3600
"""No token holds longer."""
TOKEN_KEYS = "OSTLER_TOKEN_KEYS"
"""The secret that holds the keys which sign the tokens of a tenant."""
ISSUER = "ostler"
EXTRA = "signing"


class Identity:
    """Reads and changes the directory of one tenant. What was read once is kept, and only what is new read again."""

    def __init__(self, store: EventStore, clock: Clock, entropy: Entropy, *, tenant: str = DEFAULT_TENANT) -> None:
        self.tenant = tenant
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._stream = StreamId(tenant, IDENTITY)
        self._register: Register[IdentityEvent, Directory] = Register(
            store, self._stream, IDENTITY_CODEC, rules.evolve, Directory(tenant)
        )

    async def directory(self) -> Directory:
        """As of now. Raises `StoreCorrupt`, `UnknownEvent`."""
        return await self._register.refresh()

    async def history(self) -> list[tuple[int, IdentityEvent]]:
        """All that ever changed, with the moments in microseconds since 1970."""
        return [(record.at_us, IDENTITY_CODEC.decode(record.data)) for record in await self._store.read(self._stream)]

    async def add(self, principal: Principal, by: Principal) -> None:
        """Raises `DefinitionInvalid`, `Conflict`, `NotAllowed`."""
        await self._append(lambda now: rules.add(now, principal, by))

    async def change(
        self, name: str, by: Principal, *, scopes: tuple[str, ...] | None = None, roles: tuple[str, ...] | None = None
    ) -> None:
        """Raises `NotFound`, `DefinitionInvalid`, `NotAllowed`."""
        await self._append(lambda now: rules.change(now, name, by, scopes=scopes, roles=roles))

    async def remove(self, name: str, by: Principal, because: str = "") -> None:
        """Raises `NotFound`, `NotAllowed`."""
        await self._append(lambda now: rules.remove(now, name, by, because))

    async def lend(
        self, wanted: Wanted, by: Principal, *, subject: str | None = None, parent: str | None = None
    ) -> Grant:
        """Issue a grant: out of the grant `parent`, or of the rights that `subject` has (None: `by`).

        Raises `GrantWidened`, `NotAllowed`, `NotFound`, `DefinitionInvalid`.
        """
        grant_id = make_id("gra", self._clock.now_us() // 1000, self._entropy.chance(CHANCE_BYTES))

        def decide(now: Directory) -> IdentityEvent:
            if parent is not None:
                grant = attenuate(now.chain(parent)[-1], wanted, grant_id=grant_id)
            else:
                owner = by if subject in (None, by.id) else now.principal(subject or by.id)
                grant = Grant(
                    id=grant_id,
                    tenant=self.tenant,
                    subject=owner.id,
                    actor=wanted.actor,
                    scopes=owner.scopes if wanted.scopes is None else wanted.scopes,
                    tools=("*",) if wanted.tools is None else wanted.tools,
                    expires_us=wanted.expires_us,
                    depth=wanted.depth or 0,
                )
            return rules.issue(now, grant, by, self._clock.now_us())

        await self._append(decide)
        return (await self.directory()).grants[grant_id]

    async def revoke(self, grant_id: str, by: Principal, because: str = "") -> None:
        """Raises `NotFound`, `NotAllowed`, `Conflict`."""
        await self._append(lambda now: rules.revoke(now, grant_id, by, because))

    async def fault(self, grant_id: str) -> str:
        """Why nothing may be done under this grant now; empty if it is in force. Raises `NotFound`."""
        return (await self.directory()).fault(grant_id, self._clock.now_us())

    async def mint(self, grant_id: str, ring: "KeyRing", *, audience: str, life_s: int) -> str:
        """A signed token for a grant that is in force. Raises `TokenRefused`, `NotFound`, `ConfigurationError`."""
        directory = await self.directory()
        if fault := directory.fault(grant_id, self._clock.now_us()):
            raise TokenRefused(f"No token is made: {fault}.")
        chain = directory.chain(grant_id)
        token: str = part("ostler.adapters.tokens.signed:mint", extra=EXTRA)(
            chain, ring, issuer=ISSUER, audience=audience, now_us=self._clock.now_us(), life_s=life_s
        )
        return token

    async def verify(self, token: str, ring: "KeyRing", *, audience: str) -> "Verified":
        """A token of our own: signed, in time, for us, and of a grant that is in force and gives no less.

        Raises `TokenRefused`.
        """
        directory, now_us = await self.directory(), self._clock.now_us()
        verified = verify_foreign(
            token, ring, audience=audience, tenant=self.tenant, now_us=now_us, revoked=directory.revoked
        )
        try:
            fault, own = directory.fault(verified.grant.id, now_us), directory.chain(verified.grant.id)[-1]
        except NotFound as error:
            raise TokenRefused(f"The grant {verified.grant.id} of the token is not known here.") from error
        if fault:
            raise TokenRefused(f"The token is worth nothing any more: {fault}.")
        if _is_wider(verified.grant, own):
            raise TokenRefused(f"The token says more than the grant {own.id} gives.")
        return verified

    async def _append(self, decide: Callable[[Directory], IdentityEvent]) -> None:
        """Decide upon the directory as it is, and append; again, if somebody else was quicker."""
        await self._register.write(lambda now: [decide(now)], at_us=self._clock.now_us())


def identity_of(parts: Parts, tenant: str = DEFAULT_TENANT) -> Identity:
    """The directory of a tenant in this store."""
    return Identity(parts.store, parts.clock, parts.entropy, tenant=tenant)


async def resolve_principal(parts: Parts, tenant: str, name: str) -> Principal:
    """The principal of this id, with the scopes and roles that it has now. `local` owns the store. Raises `NotFound`.

    This says who somebody is taken for, and proves nothing: whoever can write to the store can be anybody in it.
    """
    return (await identity_of(parts, tenant).directory()).principal(name)


def verify_foreign(
    token: str, ring: "KeyRing", *, audience: str, tenant: str, now_us: int, revoked: Mapping[str, str] | None = None
) -> "Verified":
    """A token that the owner of these keys issued for us. Raises `TokenRefused`."""
    verified: Verified = part("ostler.adapters.tokens.signed:verify", extra=EXTRA)(
        token, ring, audience=audience, tenant=tenant, now_us=now_us, revoked=revoked or {}
    )
    return verified


def shown_token(token: str) -> dict[str, Any]:
    """What a token says of itself, header and claims, which proves nothing. Raises `TokenRefused`."""
    said: dict[str, Any] = part("ostler.adapters.tokens.signed:shown", extra=EXTRA)(token)
    return said


async def token_keys(vault: Vault, tenant: str) -> "KeyRing":
    """The keys that sign the tokens of a tenant; none if there are none yet. Raises `VaultError`."""
    ring = part("ostler.adapters.tokens.ring:KeyRing", extra=EXTRA)
    try:
        found: KeyRing = ring.read((await vault.get(tenant, TOKEN_KEYS)).reveal())
    except SecretMissing:
        found = ring([])
    return found


async def rotate_token_keys(vault: "FileVault", tenant: str) -> "KeyRing":
    """Make a new key, which signs from now on; those before it still verify. Raises `VaultError`."""
    ring = (await token_keys(vault, tenant)).rotated()
    await vault.set(tenant, Secret(TOKEN_KEYS, ring.private()))
    return ring


def read_keys(text: str) -> "KeyRing":
    """The public keys of somebody else, from a JSON Web Key Set. Raises `ConfigurationError`."""
    ring: KeyRing = part("ostler.adapters.tokens.ring:KeyRing", extra=EXTRA).read(text)
    return ring


def _is_wider(one: Grant, other: Grant) -> bool:
    """Whether `one` is not wholly within `other`, which has the same id."""
    is_same = (one.tenant, one.subject, one.actor, one.parent) == (
        other.tenant, other.subject, other.actor, other.parent,
    )  # fmt: skip
    is_longer = other.expires_us is not None and (one.expires_us is None or one.expires_us > other.expires_us)
    more = outside(one.scopes, other.scopes) or outside(one.tools, other.tools)
    return not is_same or is_longer or one.depth > other.depth or bool(more)


async def grant_of(parts: Parts, tenant: str, name: str) -> Grant:
    """The grant of this id. Raises `NotFound`."""
    return (await identity_of(parts, tenant).directory()).chain(name)[-1]


async def grant_problems(parts: Parts, grant: Grant, by: Principal, actor: str) -> list[str]:
    """Why `by` cannot have `actor` (`agent:coder@3`) work under this grant; nothing if it is theirs, and in force."""
    if (grant.tenant, grant.subject) != (by.tenant, by.id):
        return [f"{grant.id} is not a grant of {by.id}"]
    if grant.actor != actor:
        return [f"{grant.id} is to {grant.actor}, not to {actor}"]
    directory = await identity_of(parts, by.tenant).directory()
    if directory.grants.get(grant.id) != grant:
        return [f"{grant.id} was not issued here: `ostler token list` shows those that were"]
    fault = directory.fault(grant.id, parts.clock.now_us())
    return [fault] if fault else []
