"""Who there is in a tenant and what was granted to whom, as a stream of its own."""

import re
from collections.abc import Iterable, Mapping

import msgspec

from ostler.domain.glob import outside
from ostler.domain.grant import Grant, has_expired, problems_in, widened
from ostler.domain.identity import DEFAULT_TENANT, LOCAL_USER, Principal, PrincipalKind
from ostler.domain.suggest import did_you_mean
from ostler.kernel.codec import Codec
from ostler.kernel.errors import Conflict, DefinitionInvalid, GrantWidened, NotAllowed, NotFound
from ostler.kernel.event import Event

IDENTITY = "identity"
"""The stream of each tenant that these events stand in, its queue and its status. No agent's name may be this."""
WRITE = "identity.write"
"""The scope of whoever may change the directory, as far as their own rights reach."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}")
_WORD = re.compile(r"[A-Za-z0-9_.:*-]{1,64}")


class PrincipalAdded(Event, tag="principal.added"):
    """There is one more who may act in this tenant."""

    id: str
    by: str
    kind: PrincipalKind = "user"
    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


class PrincipalChanged(Event, tag="principal.changed"):
    """From now on it has these scopes and roles; None are those that it had."""

    id: str
    by: str
    scopes: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None


class PrincipalRemoved(Event, tag="principal.removed"):
    """It may not act any more, and nothing may be done under grants that were for or to it."""

    id: str
    by: str
    because: str = ""


class GrantIssued(Event, tag="grant.issued"):
    """Rights were lent."""

    grant: Grant
    by: str


class GrantRevoked(Event, tag="grant.revoked"):
    """The grant is void, and so are all that were made from it."""

    id: str
    by: str
    because: str = ""


IdentityEvent = PrincipalAdded | PrincipalChanged | PrincipalRemoved | GrantIssued | GrantRevoked

IDENTITY_CODEC: Codec[IdentityEvent] = Codec(IdentityEvent)


class Directory(msgspec.Struct, frozen=True):
    """The principals and grants of one tenant. `revoked` says of each void grant why it is."""

    tenant: str = DEFAULT_TENANT
    principals: Mapping[str, Principal] = {}
    grants: Mapping[str, Grant] = {}
    revoked: Mapping[str, str] = {}

    def principal(self, name: str) -> Principal:
        """Whoever owns the store is always there. Raises `NotFound`."""
        if name == LOCAL_USER.id:
            return msgspec.structs.replace(LOCAL_USER, tenant=self.tenant)
        found = self.principals.get(name)
        if found is None:
            near = did_you_mean(name, list(self.principals))
            hint = f"Did you mean {near!r}?" if near else "`ostler principal list` shows who there is."
            raise NotFound(f"There is no principal {name!r}.", hint=hint)
        return found

    def chain(self, grant_id: str) -> list[Grant]:
        """The grant and all that it was made from, the first one first. Raises `NotFound`."""
        found: list[Grant] = []
        wanted: str | None = grant_id
        while wanted is not None:
            grant = self.grants.get(wanted)
            if grant is None or grant in found:
                raise NotFound(f"There is no grant {wanted!r}.", hint="`ostler token list` shows the grants.")
            found.append(grant)
            wanted = grant.parent
        return found[::-1]

    def fault(self, grant_id: str, now_us: int) -> str:
        """Why nothing may be done under this grant now; empty if it is in force. Raises `NotFound`."""
        for grant in self.chain(grant_id):
            if grant.id in self.revoked:
                return f"the grant {grant.id} was revoked ({self.revoked[grant.id] or 'no reason was given'})"
            if has_expired(grant, now_us):
                return f"the grant {grant.id} has expired"
        return ""


def evolve(directory: Directory, events: Iterable[IdentityEvent]) -> Directory:
    """The directory after these events."""
    principals, grants = dict(directory.principals), dict(directory.grants)
    revoked = dict(directory.revoked)
    for event in events:
        match event:
            case PrincipalAdded():
                principals[event.id] = Principal(event.id, event.kind, directory.tenant, event.scopes, event.roles)
            case PrincipalChanged():
                principals[event.id] = _changed(principals[event.id], event.scopes, event.roles)
            case PrincipalRemoved():
                del principals[event.id]
                void = [grant.id for grant in grants.values() if event.id in (grant.subject, grant.actor)]
                revoked |= dict.fromkeys(void, f"{event.id} was removed")
            case GrantIssued():
                grants[event.grant.id] = event.grant
            case GrantRevoked():
                revoked[event.id] = event.because
    return Directory(directory.tenant, principals, grants, revoked)


def add(directory: Directory, principal: Principal, by: Principal) -> PrincipalAdded:
    """Raises `DefinitionInvalid`, `Conflict` if there is one of this id, `NotAllowed`."""
    problems = [] if _ID.fullmatch(principal.id) else [("id", f"{principal.id!r} is no id: letters, digits, '._@:+-'")]
    if principal.id == LOCAL_USER.id:
        problems.append(("id", f"{principal.id!r} is whoever owns the store, and always there"))
    if principal.id.startswith("agent:") != (principal.kind == "agent"):
        problems.append(("id", "those of agents, and no others, begin with 'agent:'"))
    _check(principal, problems)
    if principal.id in directory.principals:
        raise Conflict(f"There is a principal {principal.id!r} already.", hint="`ostler principal show` shows it.")
    _must_reach(directory, by, principal)
    return PrincipalAdded(principal.id, by.id, principal.kind, principal.scopes, principal.roles)


def change(
    directory: Directory,
    name: str,
    by: Principal,
    *,
    scopes: tuple[str, ...] | None = None,
    roles: tuple[str, ...] | None = None,
) -> PrincipalChanged:
    """Raises `NotFound`, `DefinitionInvalid`, `NotAllowed`."""
    before = _changeable(directory, name)
    after = _changed(before, scopes, roles)
    _check(after, [])
    for one in (before, after):
        _must_reach(directory, by, one)
    return PrincipalChanged(name, by.id, scopes, roles)


def remove(directory: Directory, name: str, by: Principal, because: str = "") -> PrincipalRemoved:
    """Raises `NotFound`, `NotAllowed`."""
    _must_reach(directory, by, _changeable(directory, name))
    return PrincipalRemoved(name, by.id, because)


def issue(directory: Directory, grant: Grant, by: Principal, now_us: int) -> GrantIssued:
    """Lend rights: of one's own, of those that one holds a grant of, or of others within one's own rights.

    Raises `DefinitionInvalid`, `Conflict`, `NotFound`, `NotAllowed`, `GrantWidened`.
    """
    _must_belong(directory, by)
    problems = problems_in(grant)
    if grant.tenant != directory.tenant:
        problems.append(f"it is for the tenant {grant.tenant}, not {directory.tenant}")
    if has_expired(grant, now_us):
        problems.append("its end is over already")
    if problems:
        raise DefinitionInvalid("the grant", [("", problem) for problem in problems])
    if grant.id in directory.grants:
        raise Conflict(f"There is a grant {grant.id!r} already.")
    subject = by if by.id == grant.subject else directory.principal(grant.subject)
    if beyond := outside(grant.scopes, subject.scopes):
        raise GrantWidened(f"{subject.id} does not have what is to be lent: {', '.join(beyond)}.")
    holder = subject.id
    if grant.parent is None and by.kind == "agent":
        raise NotAllowed(f"{by.id} is an agent: it can hand on what was granted to it, and nothing else.")
    if grant.parent is not None:
        if fault := directory.fault(grant.parent, now_us):
            raise NotAllowed(f"Nothing can be lent: {fault}.")
        parent = directory.grants[grant.parent]
        holder = parent.actor
        if problems := widened(parent, grant):
            raise GrantWidened(f"The grant {grant.id} is more than {parent.id} gives: {'; '.join(problems)}.")
    if by.id not in (subject.id, holder):
        _must_reach(directory, by, subject)
    return GrantIssued(grant, by.id)


def revoke(directory: Directory, grant_id: str, by: Principal, because: str = "") -> GrantRevoked:
    """By its subject, by whoever handed it on, or by whoever may change its subject. Raises `NotFound`, `NotAllowed`,
    and `Conflict` if it is void already.
    """
    _must_belong(directory, by)
    chain = directory.chain(grant_id)
    if grant_id in directory.revoked:
        raise Conflict(f"The grant {grant_id} was revoked before.")
    subject = chain[-1].subject
    if by.id not in (subject, *(grant.actor for grant in chain[:-1])):
        _must_reach(directory, by, directory.principals.get(subject) or directory.principal(LOCAL_USER.id))
    return GrantRevoked(grant_id, by.id, because)


def _changeable(directory: Directory, name: str) -> Principal:
    if name == LOCAL_USER.id:
        raise NotAllowed(f"{name!r} is whoever owns the store, and always the same.")
    return directory.principal(name)


def _changed(principal: Principal, scopes: tuple[str, ...] | None, roles: tuple[str, ...] | None) -> Principal:
    return msgspec.structs.replace(
        principal,
        scopes=principal.scopes if scopes is None else scopes,
        roles=principal.roles if roles is None else roles,
    )


def _check(principal: Principal, problems: list[tuple[str, str]]) -> None:
    words = [("scopes", scope) for scope in principal.scopes] + [("roles", role) for role in principal.roles]
    problems += [
        (field, f"{word!r} is none: up to 64 letters, digits, '_', '.', ':', '-'")
        for field, word in words
        if not _WORD.fullmatch(word) or (field == "roles" and "*" in word)
    ]
    if problems:
        raise DefinitionInvalid(f"the principal {principal.id!r}", problems)


def _must_reach(directory: Directory, by: Principal, other: Principal) -> None:
    """Nobody gives what they do not have, or takes from those who have more. Raises `NotAllowed`.

    The scopes of an agent are what it may do at most for others, and nothing that it may do by itself.
    """
    _must_belong(directory, by)
    if by.kind == "agent":
        raise NotAllowed(f"{by.id} is an agent: it can hand on what was granted to it, and nothing else.")
    if not by.may(WRITE):
        raise NotAllowed(f"{by.id} lacks the scope {WRITE}.", hint="Ask somebody who may change the directory.")
    beyond = outside(other.scopes, by.scopes)
    if "*" not in by.scopes:
        beyond += [role for role in other.roles if role not in by.roles]
    if beyond:
        raise NotAllowed(
            f"{by.id} does not have what {other.id} has, or is to have: {', '.join(beyond)}.",
            hint="Nobody can give more than they have themselves.",
        )


def _must_belong(directory: Directory, by: Principal) -> None:
    """Nobody of another tenant changes anything, whatever their id and scopes there. Raises `NotAllowed`."""
    if by.tenant != directory.tenant:
        raise NotAllowed(f"{by.id} is of the tenant {by.tenant}, and this is the directory of {directory.tenant}.")
