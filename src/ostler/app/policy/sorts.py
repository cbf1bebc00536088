"""The sorts of call that there are to look at: every call is of one, and no target tells two of a sort apart."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ostler.app.policy.words import Kind, Pattern, kinds
from ostler.domain.constraint.facts import Operation
from ostler.domain.constraint.syntax import (
    Allow,
    Deny,
    Expression,
    Input,
    Parsed,
    Require,
    Risk,
    Statement,
    Target,
    condition_of,
)
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import UsageError

Inputs = Mapping[str, Input]
_NAMED: tuple[Operation, ...] = ("tool", "model", "memory", "session")


class Sort(NamedTuple):
    """Calls that no target and no question for the name tells apart; `spec` is the tool, if it is a known one."""

    operation: Operation
    name: str
    matched: frozenset[Pattern]
    spec: ToolSpec | None = None


def inputs_of(parsed: Parsed) -> Inputs:
    """The declared inputs by their names."""
    return {one.name: one for one in parsed.inputs}


def conditions_of(statement: Statement) -> Iterator[Expression]:
    """The conditions that a statement has."""
    if isinstance(statement, Risk | Allow | Deny | Require):
        condition = condition_of(statement)
        if condition is not None:
            yield condition


def sorts(policies: Sequence[Parsed], names: Iterable[Pattern], tools: Sequence[ToolSpec] | None = None) -> list[Sort]:
    """Every sort of call that these policies tell apart; of tools, only those that are known, if any are.

    `names` are the patterns that conditions hold against the name of a tool. Raises `UsageError` if there are too many.
    """
    asked = list(names)
    found = []
    for operation in _NAMED:
        patterns = {*asked, *(Pattern.glob(target.glob) for target in _targets(policies) if target.space == operation)}
        if operation == "tool" and tools is not None:
            found += [_known(spec, patterns) for spec in tools]
            continue
        if operation in ("memory", "session") and not any(one.space == operation for one in _targets(policies)):
            patterns = set(asked)
        found += [Sort(operation, one.example, one.matched) for one in _kinds(patterns, operation)]
    return found


def _targets(policies: Sequence[Parsed]) -> Iterator[Target]:
    for parsed in policies:
        for statement in parsed.statements:
            yield from getattr(statement, "targets", ())


def _kinds(patterns: set[Pattern], operation: Operation) -> list[Kind]:
    found = kinds(patterns, examples=[f"other_{operation}"])
    if found is None:
        raise UsageError(
            f"The names of {operation}s in these rules overlap in more ways than anybody can look at.",
            hint="Use fewer globs with a star on both sides.",
        )
    return [one for one in found if one.example]


def _known(spec: ToolSpec, patterns: Iterable[Pattern]) -> Sort:
    return Sort("tool", spec.name, frozenset(one for one in patterns if one.matches(spec.name)), spec)
