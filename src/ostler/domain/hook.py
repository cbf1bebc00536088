"""Hooks: what people's own code may say of a call, and what follows from several answers.

A hook is stricter than the gate or changes what is asked; it never opens what the gate has closed. What it changes is
judged by the gate like anything else.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from ostler.domain.constraint.verdict import Decision
from ostler.domain.model import AskedCall, Message
from ostler.kernel.canonical import digest

HookPoint = Literal["pre_tool", "post_tool", "pre_model", "post_model", "on_end"]
"""When hooks are asked.

`pre_tool`    before the gate judges a tool call for the last time; may rewrite its arguments
`post_tool`   when a tool has returned, before that is recorded; may rewrite the output
`pre_model`   before a model is asked; may rewrite the system prompt of this one request
`post_model`  when a model has replied, before that is recorded; may rewrite the text
`on_end`      before an answer ends the session; may rewrite it
"""


class Continue(msgspec.Struct, frozen=True, tag="continue", tag_field="effect"):
    """The hook has nothing against it."""


class Deny(msgspec.Struct, frozen=True, tag="deny", tag_field="effect"):
    """It must not be. The model is told the reason."""

    reason: str


class Ask(msgspec.Struct, frozen=True, tag="ask", tag_field="effect"):
    """A person is to decide; only before a tool or a model is called. The person is told the reason."""

    reason: str


class Rewrite(msgspec.Struct, frozen=True, tag="rewrite", tag_field="effect", omit_defaults=True):
    """It may be, with this value in place of the old one: arguments (a dict) before a tool is called, else a text."""

    value: Any
    reason: str = ""


HookAnswer = Continue | Deny | Ask | Rewrite


class ToolAsked(msgspec.Struct, frozen=True, kw_only=True):
    """What a `pre_tool` hook is shown: a call whose arguments fit the tool's schema."""

    session: str
    tenant: str
    agent: str
    call: str
    tool: str
    arguments: dict[str, Any]


class ToolAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """What a `post_tool` hook is shown: the outcome of a call, already screened."""

    session: str
    tenant: str
    agent: str
    call: str
    tool: str
    arguments: dict[str, Any]
    output: str
    ok: bool = True
    is_json: bool = False


class ModelAsked(msgspec.Struct, frozen=True, kw_only=True):
    """What a `pre_model` hook is shown: the request that is about to be made."""

    session: str
    tenant: str
    agent: str
    call: str
    model: str
    system: str
    messages: Sequence[Message] = ()


class ModelAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """What a `post_model` hook is shown: a whole reply, already screened."""

    session: str
    tenant: str
    agent: str
    call: str
    model: str
    text: str
    calls: tuple[AskedCall, ...] = ()


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What an `on_end` hook is shown: the answer that the session is about to end with."""

    session: str
    tenant: str
    agent: str
    answer: str


Subject = ToolAsked | ToolAnswered | ModelAsked | ModelAnswered | Ending

_REWRITTEN: Mapping[HookPoint, tuple[type[Subject], str, type]] = {
    "pre_tool": (ToolAsked, "arguments", dict),
    "post_tool": (ToolAnswered, "output", str),
    "pre_model": (ModelAsked, "system", str),
    "post_model": (ModelAnswered, "text", str),
    "on_end": (Ending, "answer", str),
}
"""What hooks are shown at each point, which part of it they may rewrite, and the type of that part."""


class Ruling(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one hook said at one point. `before` and `after` are digests of what it rewrote; see `digest_of`.

    `is_fault`: the hook itself said nothing of use, and so the answer is a denial.
    """

    hook: str
    point: HookPoint
    answer: HookAnswer
    before: str = ""
    after: str = ""
    is_fault: bool = False


class Combined(NamedTuple):
    """What several hooks said together.

    `rewrite` is the last one, if any; each hook was shown what those before it had left. `ask` is never set with
    `deny`. `reason` is that of the denial, or those of every hook that asks; `hooks` are those that it came from.
    """

    effect: Literal["continue", "rewrite", "ask", "deny"]
    reason: str = ""
    hooks: tuple[str, ...] = ()
    rewrite: Rewrite | None = None


def combine(rulings: Iterable[Ruling]) -> Combined:
    """One answer from several: a denial wins, then a question to a person, then the rewrites in their order.

    The rewritten value counts for a question, too: a person approves what would really be done.
    """
    denied: list[tuple[str, str]] = []
    asked: list[tuple[str, str]] = []
    rewritten: list[tuple[str, Rewrite]] = []
    for ruling in rulings:
        match ruling.answer:
            case Deny(reason):
                denied.append((ruling.hook, reason))
            case Ask(reason):
                asked.append((ruling.hook, reason))
            case Rewrite() as rewrite:
                rewritten.append((ruling.hook, rewrite))
            case Continue():
                pass
    last = rewritten[-1][1] if rewritten else None
    if denied:
        return Combined("deny", denied[0][1], (denied[0][0],))
    if asked:
        return Combined("ask", "; ".join(reason for _, reason in asked), tuple(hook for hook, _ in asked), last)
    if rewritten:
        reasons = "; ".join(rewrite.reason for _, rewrite in rewritten if rewrite.reason)
        return Combined("rewrite", reasons, tuple(hook for hook, _ in rewritten), last)
    return Combined("continue")


def strictest(decision: Decision, combined: Combined) -> Decision:
    """What holds when the gate says `decision` of a call and hooks say `combined` of it: never less than either.

    After a rewrite, `decision` has to be what the gate says of the rewritten call.
    """
    if decision == "deny" or combined.effect == "deny":
        return "deny"
    return "require" if decision == "require" or combined.effect == "ask" else "allow"


def shown_at(point: HookPoint) -> type[Subject]:
    """What hooks are shown at a point."""
    return _REWRITTEN[point][0]


def value_of(point: HookPoint, subject: Subject) -> Any:
    """The part of a subject that hooks may rewrite."""
    return getattr(subject, _REWRITTEN[point][1])


def rewritten(point: HookPoint, subject: Subject, value: Any) -> Subject:
    """The subject with another value in the part that hooks may rewrite."""
    return msgspec.structs.replace(subject, **{_REWRITTEN[point][1]: value})


def problem_with(point: HookPoint, answer: object) -> str:
    """What is wrong with an answer at a point; empty if nothing is."""
    if not isinstance(answer, Continue | Deny | Ask | Rewrite):
        return f"returned {_described(answer)} instead of Continue, Deny, Ask or Rewrite"
    if not isinstance(getattr(answer, "reason", ""), str):
        return "gave a reason that is no text"
    if isinstance(answer, Ask) and point not in ("pre_tool", "pre_model"):
        return f"asked for a person, which cannot be done at {point}"
    return _problem_with_value(point, answer.value) if isinstance(answer, Rewrite) else ""


def digest_of(value: object) -> str:
    """SHA-256, in hexadecimal, of canonical JSON; where a number is too large for that, of JSON with sorted keys."""
    try:
        return digest(value)
    except ValueError:
        return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def _problem_with_value(point: HookPoint, value: object) -> str:
    wanted = _REWRITTEN[point][2]
    if type(value) is not wanted:
        return f"rewrote to {_described(value)}, and at {point} it takes {_WORDS[wanted]}"
    try:
        is_plain = msgspec.json.decode(msgspec.json.encode(value)) == value
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        is_plain = False
    return "" if is_plain else "rewrote to something that is not plain JSON"


_WORDS: Mapping[type, str] = {dict: "a dict", str: "a text"}


def _described(value: object) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
