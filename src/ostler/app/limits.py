"""What `ostler.toml` says of limits that hold for all workers together."""

from typing import Annotated

import msgspec

from ostler.app.definition import Problem
from ostler.domain.capacity import Quota, Quotas
from ostler.domain.scheduling import Caps

Positive = Annotated[int, msgspec.Meta(ge=1)]

NOTHING = "limits nothing; set at least one of: "


class ProviderLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[limits.providers.NAME]`: calls of models at once, and calls that begin in a minute."""

    model_calls: Positive | None = None
    model_calls_per_minute: Positive | None = None


class SharedLimit(ProviderLimit, frozen=True, forbid_unknown_fields=True):
    """`[limits.tenants.NAME]` or `[limits.agents.NAME]`: `sessions` in the hands of workers at once, and as above."""

    sessions: Positive | None = None


class LimitTables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[limits]`: by the name of a tenant, an agent or a provider; `*` is each of the others.

    What a table leaves out is as the table `*` of its kind says.
    """

    tenants: dict[str, SharedLimit] = {}
    agents: dict[str, SharedLimit] = {}
    providers: dict[str, ProviderLimit] = {}

    @property
    def caps(self) -> Caps:
        """How many sessions may be in the hands of workers."""
        return Caps(_sessions(self.tenants), _sessions(self.agents))

    @property
    def quotas(self) -> Quotas:
        """How many calls of models may be under way and begin."""
        return Quotas(_quotas(self.tenants), _quotas(self.agents), _quotas(self.providers))


def problems_in_limits(tables: LimitTables) -> list[Problem]:
    """What is wrong with these tables beyond their form, with the path of each."""
    problems: list[Problem] = []
    kinds: dict[str, tuple[type[ProviderLimit], dict[str, ProviderLimit]]] = {
        "tenants": (SharedLimit, {**tables.tenants}),
        "agents": (SharedLimit, {**tables.agents}),
        "providers": (ProviderLimit, {**tables.providers}),
    }
    for kind, (shape, limits) in kinds.items():
        for name, limit in limits.items():
            at = f"limits.{kind}.{name}"
            if not name:
                problems.append((at, "is nobody's name; `*` stands for all others"))
            if limit == shape():
                problems.append((at, NOTHING + ", ".join(shape.__struct_fields__)))
    for name in ("openai-chat", "openai-responses"):
        if name in tables.providers:
            problems.append((f"limits.providers.{name}", "is an API of `openai`; write limits.providers.openai"))
    return problems


def _sessions(limits: dict[str, SharedLimit]) -> dict[str, int]:
    return {name: limit.sessions for name, limit in limits.items() if limit.sessions is not None}


def _quotas(limits: dict[str, SharedLimit] | dict[str, ProviderLimit]) -> dict[str, Quota]:
    found = {name: Quota(limit.model_calls, limit.model_calls_per_minute) for name, limit in limits.items()}
    return {name: quota for name, quota in found.items() if quota != Quota()}
