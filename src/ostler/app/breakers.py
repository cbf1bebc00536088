"""What `ostler.toml` says of circuit breakers, and what keeps their states."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from ostler.adapters.bus.envelope import address
from ostler.app.definition import Problem
from ostler.app.plugins import BREAKERS, part
from ostler.domain.resilience.breaker import Breaker, Kind
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.errors import OstlerError
from ostler.ports import Breakers
from ostler.runtime.resilience.circuits import BreakerOf

PASSWORD = "OSTLER_BREAKERS_PASSWORD"
"""The environment variable with the password of the Redis server."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class BreakerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[breakers.providers.NAME]` or `[breakers.tools.NAME]`: when it opens, and for how long; as in `Breaker`."""

    failures: Positive | None = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    calls_min: Positive | None = None
    window_s: Seconds | None = None
    recovery_s: Seconds | None = None
    probe_s: Seconds | None = None


class BreakerTables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[breakers]`: by the name of a provider or tool; `*` is each of the others.

    What a table leaves out is as the table `*` of its kind says. Every provider has a breaker, and those tools that
    are named here. `redis` is the server on which all workers share them; else each process has its own. `prefix`
    begins the names of its keys.
    """

    providers: dict[str, BreakerTable] = {}
    tools: dict[str, BreakerTable] = {}
    redis: str | None = None
    prefix: str = "ostler:breakers:"

    def __repr__(self) -> str:
        return "BreakerTables(…)"  # an address may hold credentials

    def breaker_of(self) -> BreakerOf:
        """The settings of each breaker, found once."""
        known: dict[tuple[Kind, str], Breaker | None] = {}
        tables: dict[Kind, dict[str, BreakerTable]] = {"provider": self.providers, "tool": self.tools}

        def find(kind: Kind, name: str) -> Breaker | None:
            try:
                return known[kind, name]
            except KeyError:
                found = known[kind, name] = _breaker(tables[kind], name, always=kind == "provider")
                return found

        return find


def _breaker(tables: dict[str, BreakerTable], name: str, *, always: bool) -> Breaker | None:
    own, others = tables.get(name), tables.get(EVERYONE)
    if own is None and others is None and not always:
        return None
    said: dict[str, Any] = {}
    for table in (others, own):
        said |= {} if table is None else {at: value for at, value in msgspec.structs.asdict(table).items() if value}
    return Breaker(**said)


def problems_in_breakers(tables: BreakerTables) -> list[Problem]:
    """What is wrong with these tables beyond their form, with the path of each."""
    problems: list[Problem] = []
    for kind, named in (("providers", tables.providers), ("tools", tables.tools)):
        if "" in named:
            problems.append((f"breakers.{kind}.", "is nobody's name; `*` stands for all others"))
    if tables.redis is not None and not _is_redis(tables.redis):
        problems.append(("breakers.redis", "is no address of a Redis server; write redis://host:6379"))
    if not tables.prefix:
        problems.append(("breakers.prefix", "is empty: what is kept there could not be told from anything else"))
    return problems


def _is_redis(url: str) -> bool:
    try:
        found = address(url)
    except ValueError:
        return False
    return found.scheme in ("redis", "rediss") and len(found.servers) == 1


def breakers_of(
    tables: BreakerTables, variables: Mapping[str, str], trouble: Callable[[OstlerError], None]
) -> Breakers:
    """What keeps the states. `trouble` hears when a server that is to keep them does not answer."""
    made: Breakers
    if tables.redis is None:
        made = part(BREAKERS["memory"])()
    else:
        made = part(BREAKERS["redis"], extra="redis")(
            tables.redis, prefix=tables.prefix, password=variables.get(PASSWORD) or None, trouble=trouble
        )
    return made
