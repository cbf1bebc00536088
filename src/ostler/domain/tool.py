"""What a tool promises, what is asked of it, and what came of it."""

from typing import Any, Literal, get_args

import msgspec

from ostler.domain.memory.settings import MemorySettings

Effect = Literal["read", "idempotent", "reconcilable", "once"]
"""What a tool does to the world, and so what recovery may do with a call that was begun and has no outcome:

`read`          changes nothing: performed again; reads of one turn run in parallel
`idempotent`    performed again with the same key: the second time changes nothing
`reconcilable`  the tool is asked whether the call with this key happened, and performs it only if not
`once`          never performed again: the outcome is recorded as unknown
"""

CODE = "code.run"
"""The tool that runs programs which the agent writes; their calls of other tools go through the gate one by one."""

Isolation = Literal["none", "interpreter", "landlock", "bwrap", "remote"]
"""Where a tool runs, from the weakest to the strongest; a tool names the weakest that it may run in.

`none`         in this process: code that is trusted
`interpreter`  a restricted interpreter without files, network or processes
`landlock`     a process that the kernel keeps from files and TCP; weaker, and only where the settings name it
`bwrap`        a process of another user, in namespaces of its own, with a filter of system calls and limits
`remote`       another kernel or machine
"""

TIERS: tuple[Isolation, ...] = get_args(Isolation)
"""From the weakest to the strongest."""


def is_at_least(tier: Isolation, minimum: Isolation) -> bool:
    """Whether one tier is as strong as another, or stronger."""
    return TIERS.index(tier) >= TIERS.index(minimum)


Role = Literal[
    "reads_untrusted",
    "reads_private",
    "sends_out",
    "moves_money",
    "deletes",
    "shares",
    "changes_permissions",
    "looks_up",
    "remembers",
    "recalls",
]
"""What a tool does that policies care about, in the words of `--roles` files and of rules (`role.sends_out`).

`reads_untrusted`      its output may hold text that outsiders wrote: web pages, mail, files that others share, reviews
`reads_private`        its output may hold private data: the user's own, or that of the house
`sends_out`            what it is given leaves for somebody else or another machine; fetching an address is sending it
`moves_money`          it moves money, or promises it: a payment, an order, a booking
`deletes`              it takes something away
`shares`               it lets others see something, or invites them to it
`changes_permissions`  it changes who may do what, or how somebody proves who they are
`looks_up`             its output is a register that the house keeps, such as an address book: a list of whole entries
`remembers`            what it is given is kept beyond the session, for later ones to read
`recalls`              its output is what was remembered, each memory with the labels that it was written with
"""

OUTWARD: frozenset[Role] = frozenset({"sends_out", "moves_money", "deletes", "shares", "changes_permissions"})
"""The roles of tools that do something, which therefore say by `destinations` where it goes or what it acts upon."""

FailureKind = Literal["not_found", "invalid", "blocked", "transient", "permanent", "timeout", "cancelled", "unknown"]
"""Why a call has no good outcome. `transient` and `timeout` may go well later; `unknown` may have happened."""


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as agents, the gate and models see it: data, without code.

    `parameters` is a JSON Schema of an object; `scopes` must all be held by the principal; output above
    `output_bytes_max` is kept in the blob store with a preview in the event. `roles` say what it does that policies
    care about, `destinations` which arguments say where it goes or what it acts upon. `credentials` are names in the
    vault, given to the tool when it is called. `isolation` is the weakest tier that it may run in.
    A result that does not fit the JSON Schema `returns` is withheld. `attempts` are made of a call that fails for the
    moment (`transient`), unless its effect is `once`. With `share_s`, equal calls of a tenant that are under way at
    the same time are one, and its result is that of those that come up to so many seconds later; only for `read`.
    `fitness` are the targets that are measured before and after each call, and `compensate` the tool that the runtime
    asks for if a call has lowered one of them.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    effect: Effect = "once"
    timeout_s: float = 60.0
    scopes: tuple[str, ...] = ()
    output_bytes_max: int = 32 * 1024
    roles: tuple[Role, ...] = ()
    destinations: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    isolation: Isolation = "none"
    returns: dict[str, Any] | None = None
    attempts: int = 3
    share_s: float | None = None
    fitness: tuple[str, ...] = ()
    compensate: str = ""


class Taint(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a text may be made of that an agent writes: the `labels` of all that it has seen, and who said that.

    `sources` are `user`, `system`, `tool.<name>`, `memory.<kind>`.
    """

    labels: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


class ToolRequest(msgspec.Struct, frozen=True, gc=False):
    """One attempt of an allowed call. `key` is the same for every attempt (`ses_…/3.1`).

    `workspace` is the folder the session may work in and `sandbox` the isolation it was started with;
    `isolation` is the weakest tier that the call may run in. A program that an
    agent wrote may call `callable_tools`; where it was suspended by such a call before, `snapshot` is what it was then,
    and `answer` what came of the call. `agent` and `user` are whose session it is, and `taint` is what the arguments
    may be made of, of a tool that remembers.
    """

    tool: str
    arguments: dict[str, Any]
    key: str
    tenant: str
    timeout_s: float
    attempt: int = 1
    workspace: str | None = None
    sandbox: str = "bwrap"
    isolation: Isolation = "none"
    callable_tools: tuple[ToolSpec, ...] = ()
    snapshot: bytes | None = None
    answer: "ToolOutcome | None" = None
    agent: str = ""
    user: str = ""
    taint: Taint | None = None
    memory: MemorySettings | None = None


class Suspension(msgspec.Struct, frozen=True, gc=False):
    """A program that an agent wrote waits for what comes of another call. `snapshot` is all that it is now."""

    tool: str
    arguments: dict[str, Any]
    snapshot: bytes


class ToolOutcome(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What came of a call. `output` is text, or the JSON text of a value if `is_json`; on failure, the reason.

    `blob` is the content hash of the whole output and `size` its bytes where `output` is only its beginning. With a
    `suspension` it is no outcome yet.
    """

    ok: bool
    output: str
    kind: FailureKind | None = None
    is_json: bool = False
    blob: str | None = None
    size: int | None = None
    suspension: Suspension | None = None


def succeeded(value: object) -> ToolOutcome:
    """The outcome of a tool that returned `value`: text as it is, anything else as JSON.

    A value of the form `{"ok": false, "error": …}` is the failure that it says it is.
    """
    if isinstance(value, ToolOutcome):
        return value
    if isinstance(value, str):
        return ToolOutcome(ok=True, output=value)
    if isinstance(value, dict) and value.get("ok") is False:
        return ToolOutcome(ok=False, output=str(value.get("error", "the tool said no more")), kind="permanent")
    return ToolOutcome(ok=True, output=msgspec.json.encode(value).decode(), is_json=True)


def failed(kind: FailureKind, reason: str) -> ToolOutcome:
    """The outcome of a call that went wrong, with the reason that the model is told."""
    return ToolOutcome(ok=False, output=reason, kind=kind)


def observation(outcome: ToolOutcome) -> str:
    """What the model is told: `{"ok":true,"data":…}` or `{"ok":false,"error":…,"kind":…}`, as JSON text.

    JSON strings cannot contain a bare line break, so no output can pass for a header of the text grammar.
    """
    if not outcome.ok:
        return _encode({"ok": False, "error": outcome.output, "kind": outcome.kind or "permanent"})
    data = msgspec.Raw(outcome.output.encode()) if outcome.is_json and not outcome.blob else outcome.output
    if outcome.blob is None:
        return _encode({"ok": True, "data": data})
    return _encode({"ok": True, "data": data, "truncated": True, "bytes": outcome.size, "blob": outcome.blob})


def _encode(value: dict[str, object]) -> str:
    return msgspec.json.encode(value).decode()
