"""Who acts."""

from typing import Literal

import msgspec

DEFAULT_TENANT = "default"


class Principal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user, an agent or a service within one tenant, with the scopes it was given. `*` is every scope."""

    id: str
    kind: Literal["user", "agent", "service"] = "user"
    tenant: str = DEFAULT_TENANT
    scopes: tuple[str, ...] = ()

    def may(self, scope: str) -> bool:
        return "*" in self.scopes or scope in self.scopes


LOCAL_USER = Principal(id="local", scopes=("*",))
"""The person at the keyboard of an embedded runtime: the owner of the store's file."""
