"""What is wrong with a policy that reads well: names, types, windows, targets; and, of known tools, arguments."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ostler.domain.constraint.kinds import KNOWN, ROLES, Kind, Kinds, Path
from ostler.domain.constraint.problems import Problem, problem_at
from ostler.domain.constraint.regex import BadPattern, searcher
from ostler.domain.constraint.slots import present_after
from ostler.domain.constraint.syntax import (
    Allow,
    Boolean,
    Deny,
    Duration,
    Expression,
    From,
    History,
    Input,
    Limit,
    ListOf,
    Matches,
    Money,
    Name,
    Number,
    Parsed,
    Regex,
    Require,
    Risk,
    SetOf,
    Target,
    Text,
    condition_of,
    expressions_of,
    walk,
)
from ostler.domain.constraint.syntax import Rule as AnyRule
from ostler.domain.constraint.targets import Called, concerns
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import ToolSpec

_SOURCES = ("user", "system", "trusted", "untrusted")
_RESERVED = frozenset(path[0] for path in KNOWN) | {"args", "role", "true", "false"}
_SCHEMA_TYPES: dict[Kind, frozenset[str]] = {
    "number": frozenset(("number", "integer")),
    "text": frozenset(("string",)),
    "boolean": frozenset(("boolean",)),
    "duration": frozenset(("string",)),
    "texts": frozenset(("array",)),
    "numbers": frozenset(("array",)),
    "scalars": frozenset(("array",)),
    "scalar": frozenset(("string", "number", "integer")),
    "sized": frozenset(("string", "array", "object")),
}


def check(parsed: Parsed, tools: Sequence[ToolSpec] | None = None) -> list[Problem]:
    """Every mistake; with `tools`, also targets that name none of them, and arguments that they do not have."""
    inputs = {one.name: one for one in parsed.inputs}
    problems = [*_of_inputs(parsed.inputs), *_of_names(parsed)]
    for statement in (*parsed.risks, *parsed.rules):
        problems += _of_targets(statement.targets)
        kinds = kinds_in(statement, inputs)
        problems += kinds.problems
        for expression in expressions_of(statement):
            for part in walk(expression):
                problems += _of_part(part)
        if isinstance(statement, Risk) and isinstance(statement.amount, Number) and abs(statement.amount.value) > 1:
            problems.append(problem_at(statement.amount.at, "a part of the risk score is between -1 and 1"))
        if tools is not None:
            problems += _of_tools(statement, kinds.arguments, tools)
    return sorted(set(problems), key=lambda problem: (problem.line, problem.column, problem.message))


def kinds_in(statement: AnyRule | Risk, inputs: Mapping[str, Input]) -> Kinds:
    """The types of everything in a statement, and what is wrong with them."""
    kinds = Kinds(inputs, in_risk=isinstance(statement, Risk))
    problems: list[Problem] = []
    if isinstance(statement, Risk):
        kinds.number(statement.amount)
        problems += kinds.problems
    if isinstance(statement, Limit) and statement.argument:
        kinds.arguments[("args", *statement.argument)] = "number"
    if isinstance(statement, Risk | Allow | Deny | Require) and (condition := condition_of(statement)) is not None:
        kinds.condition(condition)
        problems += kinds.problems
    kinds.problems[:] = problems
    return kinds


def _of_inputs(inputs: Sequence[Input]) -> Iterator[Problem]:
    seen: set[str] = set()
    for one in inputs:
        if one.name in seen:
            yield problem_at(one.at, f"the input {one.name!r} is declared twice")
        if one.name.lower() in _RESERVED:
            yield problem_at(one.at, f"{one.name!r} is a fact already", "choose another name")
        seen.add(one.name)
        if one.default is not None and not _fits(one):
            yield problem_at(one.default.at, f"the default of {one.name!r} is no {one.kind}")


def _fits(declared: Input) -> bool:
    default = declared.default
    match declared.kind:
        case "boolean":
            return isinstance(default, Boolean)
        case "number":
            return isinstance(default, Number)
        case "text":
            return isinstance(default, Text)
        case "duration":
            return isinstance(default, Duration)
        case "money":
            return isinstance(default, Money)
        case "set" | "list":
            if not isinstance(default, ListOf | SetOf):
                return False
            return any(all(isinstance(item, kind) for item in default.items) for kind in (Text, Number))


def _of_names(parsed: Parsed) -> Iterator[Problem]:
    seen: set[str] = set()
    for rule in parsed.rules:
        if "#" in rule.name:
            yield problem_at(rule.at, f"the name {rule.name!r} has a '#', which stands before the numbers of rules")
        if rule.name and rule.name in seen:
            yield problem_at(rule.at, f"{rule.name!r} is the name of another rule, too")
        seen.add(rule.name)


def _of_targets(targets: Sequence[Target]) -> Iterator[Problem]:
    for target in targets:
        if target.space == "role" and target.glob not in ROLES:
            near = did_you_mean(target.glob, ROLES)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(ROLES)}"
            yield problem_at(target.at, f"there is no role {target.glob!r}", hint)


def _of_part(part: Expression) -> Iterator[Problem]:
    match part:
        case Matches(pattern=Regex() as pattern):
            try:
                searcher(pattern.pattern)
            except BadPattern as error:
                yield problem_at(pattern.at, f"/{pattern.pattern}/ cannot be used: {error}")
        case From():
            for source in part.sources:
                yield from _of_source(source, part)
        case History():
            yield from _of_targets(part.targets)
            if part.bound is not None:
                yield from _of_targets((part.bound.target,))
        case _:
            pass


def _of_source(source: str, part: From) -> Iterator[Problem]:
    space, dot, name = source.partition(".")
    if source in _SOURCES or (dot and name and space in ("tool", "memory")):
        return
    if dot and space == "role":
        yield from _of_targets((Target(space="role", glob=name, at=part.at),))
        return
    near = did_you_mean(source, _SOURCES)
    hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(_SOURCES)}, tool.…, memory.…, role.…"
    yield problem_at(part.at, f"nobody is called {source!r}", hint)


def _of_tools(statement: AnyRule | Risk, kinds: Mapping[Path, Kind], tools: Sequence[ToolSpec]) -> Iterator[Problem]:
    names = [spec.name for spec in tools]
    for target in statement.targets:
        if target.space == "tool" and not any(concerns((target,), called_as(spec)) for spec in tools):
            near = did_you_mean(target.glob, names)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(sorted(names)) or 'none'}"
            yield problem_at(target.at, f"no tool is called {target.glob!r}", hint)
    if all(target.space == "operation" for target in statement.targets):
        return
    concerned = [spec for spec in tools if concerns(statement.targets, called_as(spec))]
    for path, name, is_asked_for in _arguments(statement):
        yield from _of_argument(path, name, kinds.get(path), concerned, is_asked_for=is_asked_for)


def called_as(spec: ToolSpec) -> Called:
    """What is known of a call of a tool before its arguments are."""
    return Called("tool", spec.name, frozenset(spec.roles), spec.effect)


def _arguments(statement: AnyRule | Risk) -> Iterator[tuple[Path, Name, bool]]:
    """The arguments that a statement uses, and whether it asks for them first."""
    for expression in expressions_of(statement):
        asked = present_after(expression)
        for part in walk(expression):
            if isinstance(part, Name) and part.path[0] == "args" and len(part.path) > 1:
                yield part.path, part, part.path in asked


def _of_argument(
    path: Path, name: Name, kind: Kind | None, tools: Sequence[ToolSpec], *, is_asked_for: bool
) -> Iterator[Problem]:
    without: list[str] = []
    for spec in tools:
        found = _schema_at(spec.parameters, path[1:])
        if found is None:
            without.append(spec.name)
            continue
        declared = found.get("type")
        if isinstance(declared, str) and kind in _SCHEMA_TYPES and declared not in _SCHEMA_TYPES[kind]:
            yield problem_at(name.at, f"{'.'.join(path)} of {spec.name} is of type {declared}, and used as a {kind}")
    if without and (len(without) == len(tools) or not is_asked_for):
        known = [f"args.{known}" for spec in tools for known in spec.parameters.get("properties", {})]
        near = did_you_mean(".".join(path), known)
        hint = f"did you mean {near!r}?" if near else f"say EXISTS({'.'.join(path)}) AND … if others have it"
        yield problem_at(name.at, f"{', '.join(without)} has no argument {'.'.join(path[1:])!r}", hint)


def _schema_at(schema: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """The schema of what is at a path; an empty one where that is not said; None if nothing can be there."""
    here: Any = schema
    for part in path:
        if not isinstance(here, Mapping):
            return {}
        if "properties" in here:
            if part not in here["properties"]:
                return {} if here.get("additionalProperties") else None
            here = here["properties"][part]
        elif part.isdecimal() and "items" in here:
            here = here["items"]
        else:
            return {}
    return here if isinstance(here, Mapping) else {}
