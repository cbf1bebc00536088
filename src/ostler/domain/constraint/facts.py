"""Everything that rules may ask about one call, and the names by which they ask."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from ostler.domain.tool import Effect

Operation = Literal["tool", "model", "memory", "session"]
"""What kind of call it is: of a tool, of a model, a memory read or write, or the start of a child session."""


class Sources(Protocol):
    """What was said in a session, and by whom; see `ostler.domain.provenance`."""

    def said(self, value: object, sources: Sequence[str]) -> bool:
        """Whether `value` occurs in what one of these sources said.

        A source is written as in rules: `user`, `system`, `trusted`, `untrusted`, `tool.<glob>`, `memory.<glob>` or
        `role.<role>`. Of a list, every item must occur.
        """
        ...


class Facts(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """What is known of one call. Sets are frozen sets of words, moments are microseconds since 1970 UTC.

    `tool` is the tool's name; for another operation that of the model, the memory or the child's agent. `destinations`
    are the values of the arguments that say where something goes, `contents` those of the others; `dictated` are the
    values among both that only untrusted text has said (see `ostler.domain.provenance`); `addresses` are those that are
    written anywhere in the arguments, and `links` the web addresses among them (see `ostler.domain.addresses`).
    `labels` are those of everything that the model has seen. `inputs` are the values of the policy's declared inputs.
    `history` answers the policy's `history` questions, in their order. Budgets without a limit are None.
    """

    operation: Operation = "tool"
    tool: str = ""
    roles: frozenset[str] = frozenset()
    effect: Effect = "once"
    args: Mapping[str, Any] = {}
    destinations: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    dictated: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    agent: str = ""
    agent_version: int = 1
    principal: str = ""
    principal_kind: str = "user"
    principal_roles: frozenset[str] = frozenset()
    principal_scopes: frozenset[str] = frozenset()
    tenant: str = ""
    session: str = ""
    steps: int = 0
    tool_calls: int = 0
    tokens: int = 0
    cost_microusd: int = 0
    elapsed_us: int = 0
    tokens_left: int | None = None
    cost_left_microusd: int | None = None
    calls_left: int | None = None
    at_us: int = 0
    labels: frozenset[str] = frozenset()
    inputs: Mapping[str, Any] = {}
    history: tuple[float, ...] = ()
    sources: Sources | None = None


Kind = Literal["boolean", "number", "text", "set", "list", "duration", "money", "any"]


class Attribute(NamedTuple):
    """A name that rules may use, the type of its value, and what it is."""

    name: str
    kind: Kind
    about: str


VOCABULARY: tuple[Attribute, ...] = (
    Attribute("operation", "text", "what is called: tool, model, memory or session"),
    Attribute("tool.name", "text", "the name of the tool (of a model call, the model's)"),
    Attribute("effect", "text", "what the tool does to the world: read, idempotent, reconcilable or once"),
    Attribute("destinations", "list", "the values of the arguments that say where it goes or what it acts upon"),
    Attribute("contents", "list", "the values of the other arguments"),
    Attribute("dictated", "list", "the values of arguments that only untrusted text has said, word for word"),
    Attribute("addresses", "list", "the web, mail and account addresses written anywhere in the arguments"),
    Attribute("links", "list", "the web addresses written anywhere in the arguments"),
    Attribute("agent.name", "text", "the agent"),
    Attribute("agent.version", "number", "the version of its definition"),
    Attribute("principal.id", "text", "on whose behalf it acts"),
    Attribute("principal.kind", "text", "user, agent or service"),
    Attribute("principal.roles", "set", "the roles of the principal"),
    Attribute("principal.scopes", "set", "what the principal may do"),
    Attribute("tenant.id", "text", "the tenant"),
    Attribute("session.id", "text", "the session"),
    Attribute("session.steps", "number", "model calls so far"),
    Attribute("session.tool_calls", "number", "tool calls so far"),
    Attribute("session.tokens", "number", "tokens used so far"),
    Attribute("session.cost", "money", "what the session has cost so far, in USD"),
    Attribute("session.elapsed", "duration", "time since the start, without waits for people"),
    Attribute("budget.tokens_left", "number", "tokens that the tightest budget leaves"),
    Attribute("budget.cost_left", "money", "money that the tightest budget leaves, in USD"),
    Attribute("budget.calls_left", "number", "tool calls that the tightest budget leaves"),
    Attribute("time.hour", "number", "hour of the day in UTC, 0 to 23"),
    Attribute("time.weekday", "text", "mon, tue, wed, thu, fri, sat or sun, in UTC"),
    Attribute("time.date", "text", "the day in UTC, as 2026-01-31"),
    Attribute(
        "context.labels", "set", "the labels of everything that the model has seen: untrusted, private, secret …"
    ),
    Attribute("context.untrusted", "boolean", "whether the model has seen text that outsiders can write"),
    Attribute("context.private", "boolean", "whether the model has seen private data"),
    Attribute("risk_score", "number", "0 to 1: the sum of the parts that the policy's RISK lines name"),
)
"""Every name but `args.…` (the call's arguments), `role.…` (what the tool is declared to do) and declared inputs."""
