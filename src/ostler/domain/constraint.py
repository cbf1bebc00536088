"""Rules about calls, and what a policy of them says of one call.

A `DENY` always wins, then `REQUIRE` (an approval), then `ALLOW`; with no match the policy's default holds. What cannot
be evaluated denies.
"""

import fnmatch
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec


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
    """A named, versioned set of rules. `default` holds for calls that no rule speaks of."""

    name: str = "default"
    version: int = 1
    rules: tuple[Rule, ...] = ()
    default: Literal["allow", "deny"] = "allow"


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a policy says of one call, and which rule said it (empty: the default)."""

    effect: Literal["allow", "deny", "require"]
    rule: str = ""
    reason: str = ""
    within_s: float | None = None


_PRECEDENCE = {"deny": 0, "require": 1, "allow": 2}


def judge(policy: Policy, tool: str, arguments: Mapping[str, Any]) -> Verdict:
    """The verdict of `policy` on a call with validated `arguments`."""
    best: tuple[int, Rule, str] | None = None
    for number, rule in enumerate(policy.rules, 1):
        rank = _PRECEDENCE[rule.effect]
        if (best is None or rank < best[0]) and _matches(rule, tool, arguments):
            best = (rank, rule, rule.name or f"{policy.name}#{number}")
            if rank == 0:
                break
    if best is not None:
        _, rule, name = best
        return Verdict(effect=rule.effect, rule=name, reason=rule.because, within_s=rule.within_s)
    if policy.default == "allow":
        return Verdict(effect="allow")
    return Verdict(effect="deny", rule=f"{policy.name}#default", reason="no rule allows it")


def _matches(rule: Rule, tool: str, arguments: Mapping[str, Any]) -> bool:
    if not _glob((rule.tool,)).fullmatch(tool):
        return False
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
    return _glob(globs).fullmatch(_text(value)) is not None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return " ".join(_text(item) for item in value)
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=4096)
def _glob(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Any of `patterns`, in which `*` is any text and everything else is itself. Case matters."""
    return re.compile("|".join(fnmatch.translate(_only_star(pattern)) for pattern in patterns) or "(?!)")


def _only_star(pattern: str) -> str:
    """Takes the special meaning from `[` and `?`, which appear in shell arguments as themselves."""
    return "".join(f"[{char}]" if char in "[?" else char for char in pattern)
