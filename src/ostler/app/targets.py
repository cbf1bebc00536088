"""What `ostler.toml` says of relays: where each hands events to, and which."""

import re
from typing import Annotated, Literal

import msgspec

from ostler.adapters.bus.envelope import Address, address
from ostler.app.definition import Problem

Kind = Literal["redis", "nats", "kafka", "webhook"]

KINDS: dict[str, Kind] = {
    "redis": "redis",
    "rediss": "redis",
    "nats": "nats",
    "tls": "nats",
    "kafka": "kafka",
    "http": "webhook",
    "https": "webhook",
}
"""By the scheme of the address; `rediss` and `tls` are Redis and NATS over TLS."""

OPTIONS = {
    "redis": {"stream", "length_max"},
    "nats": {"stream", "subject"},
    "kafka": {"topic"},
    "webhook": {"give_up_s"},
}
"""Which of the fields belong to which kind only."""

LIKE = "redis://host:6379, nats://host:4222, kafka://host:9092/topic or https://host/path"
GIVE_UP_S = 3600.0

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_PLACE = re.compile(r"[\w.:-]+")

Positive = Annotated[int, msgspec.Meta(ge=1)]


class RelayTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[relays.NAME]`: hand the events of these `types` (patterns) and `tenants` over to the address `to`.

    `begin` is where in the log it begins when it first runs: a position, `start` or `end`. `secret_env` names the
    environment variable with the password of a broker, or with the secrets that sign webhooks, separated by spaces.
    A webhook that fails for `give_up_s` seconds on one event leaves it as a dead letter.
    """

    to: str
    types: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    begin: Literal["start", "end"] | Annotated[int, msgspec.Meta(ge=0)] = "start"
    stream: str | None = None
    subject: str | None = None
    topic: str | None = None
    length_max: Positive | None = None
    give_up_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    secret_env: str | None = None

    def __repr__(self) -> str:
        return "RelayTable(…)"  # an address may hold credentials


class RelayTarget(msgspec.Struct, frozen=True):
    """A relay as it is to be made. `secret` is what `secret_env` holds now; it is never printed, and never stored."""

    name: str
    kind: Kind
    table: RelayTable
    secret: str | None = None

    def __repr__(self) -> str:
        return f"RelayTarget({self.name!r}, {self.shown!r})"

    @property
    def address(self) -> Address:
        return address(self.table.to)

    @property
    def shown(self) -> str:
        """Where it hands events to, without credentials."""
        return self.address.shown


def kind_of(table: RelayTable) -> Kind | None:
    """What its address leads to; None if that is nothing known."""
    return KINDS.get(table.to.partition(":")[0].lower())


def problems_in_relays(relays: dict[str, RelayTable]) -> list[Problem]:
    """What is wrong with these tables beyond their form, with the path of each."""
    problems: list[Problem] = []
    for name, table in relays.items():
        at = f"relays.{name}"
        if not _NAME.fullmatch(name):
            problems.append((at, "is not a name of lower-case letters, digits, `-`, `_` and `.`"))
        problems += [(f"{at}{below}", problem) for below, problem in _problems_in_table(table)]
    return problems


def _problems_in_table(table: RelayTable) -> list[Problem]:
    problems: list[Problem] = []
    kind = kind_of(table)
    if kind is None:
        problems.append((".to", f"leads nowhere that is known here; write {LIKE}"))
    else:
        try:
            servers = address(table.to).servers
        except ValueError as error:
            problems.append((".to", f"{error}; write {LIKE}"))
        else:
            if len(servers) > 1 and kind not in ("kafka", "nats"):
                problems.append((".to", "names more than one server"))
        for option in sorted(set().union(*OPTIONS.values()) - OPTIONS[kind]):
            if getattr(table, option) is not None:
                problems.append((f".{option}", f"means nothing to {'a webhook' if kind == 'webhook' else kind}"))
        if kind == "kafka" and table.topic is not None and _path_of(table):
            problems.append((".topic", "is named by the address already"))
    for field in ("stream", "subject", "topic"):
        value = getattr(table, field)
        if value is not None and not _PLACE.fullmatch(value):
            problems.append((f".{field}", "is not a name of letters, digits, `-`, `_`, `.` and `:`"))
    for field in ("types", "tenants"):
        if any(not item for item in getattr(table, field)):
            problems.append((f".{field}", "holds an empty text, which nothing matches"))
    if table.secret_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", table.secret_env):
        problems.append((".secret_env", "is the name of an environment variable, never the secret itself"))
    return problems


def _path_of(table: RelayTable) -> str:
    try:
        return address(table.to).path.strip("/")
    except ValueError:
        return ""
