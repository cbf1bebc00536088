"""To whom a memory belongs, and so who may ever see it."""

from hashlib import sha256
from typing import Literal

import msgspec

from ostler.kernel.errors import UsageError
from ostler.kernel.event import StreamId

Level = Literal["tenant", "agent", "user", "session"]
"""How far a memory reaches: every agent of the tenant, one agent, what that agent keeps for one user, one session."""

MEMORY = "memory"
"""The queue and the status of the streams that memories stand in. No agent's name may be this."""
PREFIX = "memory/"
"""What the names of these streams begin with."""


class Scope(msgspec.Struct, frozen=True, order=True, gc=False, omit_defaults=True):
    """Exactly one owner: each part is within those before it, and none may be left out before one that is given.

    There is no scope that means all. Raises `UsageError` for one that names nobody.
    """

    tenant: str
    agent: str = ""
    user: str = ""
    session: str = ""

    def __post_init__(self) -> None:
        parts = (self.tenant, self.agent, self.user, self.session)
        given = parts.index("") if "" in parts else len(parts)
        if not given or any(parts[given:]):
            raise UsageError(
                "A memory has no owner without a scope: name the tenant, and then the agent, the user, the session.",
                hint="Each of them belongs to the one before it, and none may be left out between.",
            )

    @property
    def level(self) -> Level:
        if self.session:
            return "session"
        if self.user:
            return "user"
        return "agent" if self.agent else "tenant"

    @property
    def stream(self) -> StreamId:
        """Where its memories are written. The name tells nobody whose they are."""
        digest = sha256(f"{self.agent}\0{self.user}\0{self.session}".encode()).hexdigest()
        return StreamId(self.tenant, f"{PREFIX}{self.level}/{digest[:32]}")

    def at(self, level: Level) -> "Scope":
        """The scope of this level that it lies in, or is. Raises `UsageError` if it lies in none of that level."""
        for scope in self.visible:
            if scope.level == level:
                return scope
        raise UsageError(f"{self} is in no scope of the level {level!r}.")

    @property
    def visible(self) -> "tuple[Scope, ...]":
        """What may be seen from here: this scope and those that it lies in, the narrowest first. Nothing else, ever."""
        found = [self]
        if self.session:
            found.append(Scope(self.tenant, self.agent, self.user))
        if self.user:
            found.append(Scope(self.tenant, self.agent))
        if self.agent:
            found.append(Scope(self.tenant))
        return tuple(found)

    def __str__(self) -> str:
        return "/".join(part for part in (self.tenant, self.agent, self.user, self.session) if part)
