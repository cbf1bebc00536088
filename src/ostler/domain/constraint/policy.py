"""A policy as data: rules as they stand in agent files, or the text of a policy in the language of rules."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ostler.domain.constraint.globs import matches_any


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule over calls of the tools that `tool` (a glob such as `files.*`) names.

    `where` maps an argument's dotted path (`argv`, `argv.0`, `options.host`) to globs, any of which must match; all
    paths must. A list is matched as its items joined by spaces, other values as their JSON text. A path that the call
    does not have never matches an allow, and always matches a deny or a require: a missing fact must not open a door.
    Only a `require` has `within_s`: unanswered so long, the approval expires.
    """

    effect: Literal["allow", "deny", "require"]
    tool: str
    because: str = ""
    where: dict[str, tuple[str, ...]] = {}
    unless: dict[str, tuple[str, ...]] = {}
    within_s: float | None = None
    name: str = ""


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named, versioned set of rules: `rules`, or `text` in the language of rules.

    `default` holds for calls that no rule speaks of; a text names its own, which is to deny unless it says otherwise.
    """

    name: str = "default"
    version: int = 1
    rules: tuple[Rule, ...] = ()
    default: Literal["allow", "deny"] = "allow"
    text: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def arguments_match(rule: Rule, arguments: Mapping[str, Any]) -> bool:
    """Whether the arguments of a call are such that a rule holds for it; its tool is not looked at."""
    on_missing = rule.effect != "allow"
    return all(_holds(path, globs, arguments, on_missing) for path, globs in rule.where.items()) and not (
        rule.unless and all(_holds(path, globs, arguments, not on_missing) for path, globs in rule.unless.items())
    )


def _holds(path: str, globs: tuple[str, ...], arguments: Mapping[str, Any], on_missing: bool) -> bool:
    value: Any = arguments
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return on_missing
    return matches_any(_text(value), globs)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return " ".join(_text(item) for item in value)
    return msgspec.json.encode(value).decode()
