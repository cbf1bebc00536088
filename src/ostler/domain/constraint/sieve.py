"""Whether any of many conditions holds, asked with few questions.

Conditions that share a kind of question about a value are put behind one that all of them need: a value is compared
with the loosest of their bounds, or looked up in all of their sets at once. Where that fails, none of them can hold.
"""

import ast
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from ostler.domain.constraint import nodes

Kind = Literal["one of", "above", "below", "true", "false", "holds", "other"]


class Test(NamedTuple):
    """One part of a condition: a question about the value of a variable, or (`other`) anything else.

    `value` is the set of texts or numbers (`one of`), the words of which a set must hold one (`holds`), or the bound
    and whether it is excluded (`above`, `below`); `node` is the whole of it as code.
    """

    kind: Kind
    variable: str
    value: Any
    node: ast.expr


Clause = tuple[Test, ...]
"""Tests that must all hold; those before others may guard them."""

DEPTH_MAX = 12
"""So many questions are asked one behind the other; what is left after them is asked in full."""

_WEIGHTS: dict[Kind, int] = {"one of": 4, "holds": 4, "above": 2, "below": 2, "true": 2, "false": 1, "other": 0}
"""How likely a question is to rule a condition out."""


def sieve(clauses: Sequence[Clause], hit: list[ast.stmt], depth: int = 0) -> list[ast.stmt]:
    """Code that does `hit` if the tests of any clause all hold. `hit` must leave the function."""
    found: list[ast.stmt] = []
    left = list(clauses)
    while left:
        if any(not clause for clause in left):
            return [*found, *hit]
        kind, variable = _best(left)
        if kind == "other" or len(left) == 1 or depth == DEPTH_MAX:
            return [*found, *(nodes.when(nodes.all_of([test.node for test in clause]), hit) for clause in left)]
        inside, left = _divided(left, kind, variable)
        found += _behind(kind, variable, inside, hit, depth + 1)
    return found


def _best(clauses: Sequence[Clause]) -> tuple[Kind, str]:
    """The question that speaks of most conditions, weighed by how likely it is to rule them out."""
    scores: dict[tuple[Kind, str], int] = {}
    for clause in clauses:
        for group in {(test.kind, test.variable) for test in clause}:
            scores[group] = scores.get(group, 0) + _WEIGHTS[group[0]]
    return max(scores, key=lambda group: (scores[group], group))


def _divided(clauses: Sequence[Clause], kind: Kind, variable: str) -> tuple[list[tuple[Test, Clause]], list[Clause]]:
    """The clauses with such a test, each as the test and the rest, and the clauses without."""
    inside: list[tuple[Test, Clause]] = []
    outside: list[Clause] = []
    for clause in clauses:
        at = next((n for n, test in enumerate(clause) if (test.kind, test.variable) == (kind, variable)), None)
        if at is None:
            outside.append(clause)
        else:
            inside.append((clause[at], clause[:at] + clause[at + 1 :]))
    return inside, outside


def _behind(
    kind: Kind, variable: str, inside: list[tuple[Test, Clause]], hit: list[ast.stmt], depth: int
) -> list[ast.stmt]:
    if kind in ("above", "below"):
        return _bounded(sorted(inside, key=lambda one: _looseness(one[0])), hit, depth, is_known=False)
    groups: dict[Any, list[Clause]] = {}
    for test, rest in inside:
        groups.setdefault(test.value, []).append(rest)
    if len(groups) == 1:
        return [nodes.when(inside[0][0].node, sieve([rest for _, rest in inside], hit, depth))]
    everything = frozenset().union(*groups)
    body: list[ast.stmt] = []
    for values, rests in groups.items():
        body.append(nodes.when(asked(kind, variable, values), sieve(rests, hit, depth)))
    return [nodes.when(asked(kind, variable, everything), body)]


def asked(kind: Kind, variable: str, values: frozenset[Any]) -> ast.expr:
    """Whether a variable is one of some values, or holds one of them."""
    value = nodes.load(variable)
    if kind == "holds":
        if len(values) == 1:
            return nodes.compare(nodes.constant(next(iter(values))), "in", value)
        return nodes.negated(nodes.call(nodes.attribute(value, "isdisjoint"), nodes.constant(values)))
    if len(values) == 1:
        return nodes.compare(value, "==", nodes.constant(next(iter(values))))
    return nodes.compare(value, "in", nodes.constant(values))


def _looseness(test: Test) -> tuple[Any, bool]:
    bound, is_excluded = test.value
    return (bound, is_excluded) if test.kind == "above" else (-bound, is_excluded)


def _bounded(inside: list[tuple[Test, Clause]], hit: list[ast.stmt], depth: int, *, is_known: bool) -> list[ast.stmt]:
    """Clauses behind one bound each, the loosest first. `is_known` says that the value passes the first of them.

    A value that fails a bound fails all that are tighter, so halves are left out.
    """
    first = _looseness(inside[0][0])
    equal = sum(_looseness(test) == first for test, _ in inside)
    if equal == len(inside):
        body = sieve([rest for _, rest in inside], hit, depth)
    else:
        middle = max(equal, len(inside) // 2)
        while _looseness(inside[middle][0]) == _looseness(inside[middle - 1][0]):
            middle -= 1
        body = _bounded(inside[:middle], hit, depth, is_known=True)
        if body[-1] is not hit[-1]:
            body += _bounded(inside[middle:], hit, depth, is_known=False)
    return body if is_known else [nodes.when(inside[0][0].node, body)]
