"""Which calls a rule speaks of."""

from collections.abc import Iterable
from typing import NamedTuple

from ostler.domain.constraint.facts import Operation
from ostler.domain.constraint.globs import matcher
from ostler.domain.constraint.syntax import Target
from ostler.domain.tool import Effect


class Called(NamedTuple):
    """What is called: all that is known of a call before its arguments are."""

    operation: Operation
    tool: str
    roles: frozenset[str]
    effect: Effect


def concerns(targets: Iterable[Target], called: Called) -> bool:
    """Whether any of these targets speaks of such calls. Tools alone have an effect."""
    return any(_is_meant(target, called) for target in targets)


def _is_meant(target: Target, called: Called) -> bool:
    match target.space:
        case "operation":
            return True
        case "role":
            return target.glob in called.roles
        case "effect":
            return called.operation == "tool" and target.glob == called.effect
        case "tool" | "model" | "memory" | "session":
            return called.operation == target.space and matcher(target.glob)(called.tool)
