"""Who acts."""

from typing import Literal

import msgspec

from ostler.domain.glob import matches_any

DEFAULT_TENANT = "default"

PrincipalKind = Literal["user", "agent", "service"]


class Principal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user, an agent or a service within one tenant, with the scopes and the roles it was given.

    A scope may be a glob (`crm.*`); `*` is every scope. Roles are what rules and approvals ask for (`finance`).
    """

    id: str
    kind: PrincipalKind = "user"
    tenant: str = DEFAULT_TENANT
    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def may(self, scope: str) -> bool:
        return matches_any(self.scopes, scope)


LOCAL_USER = Principal(id="local", scopes=("*",))
"""The person at the keyboard of an embedded runtime: the owner of the store's file."""


def agent_id(name: str, version: int) -> str:
    """The identity that an agent has of its own: `agent:coder@3`."""
    return f"agent:{name}@{version}"


def agent_principal(name: str, version: int, *, tenant: str, scopes: tuple[str, ...]) -> Principal:
    """An agent as one who acts: the actor, while the user whom it acts for is the subject (RFC 8693, section 4.1)."""
    return Principal(agent_id(name, version), "agent", tenant, scopes)
