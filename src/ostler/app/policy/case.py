"""A call and what rules may ask about it, as people write it down: in example files, in questions and in proofs."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from ostler.app import definition
from ostler.domain.constraint.builder import DURATIONS
from ostler.domain.constraint.facts import VOCABULARY, Facts, Kind, Operation
from ostler.domain.constraint.history import Question
from ostler.domain.constraint.printer import show_expression
from ostler.domain.constraint.syntax import History
from ostler.domain.flow import with_flow
from ostler.domain.provenance import Provenance, Said, labels_of
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import Effect, Role, ToolSpec
from ostler.kernel.errors import DefinitionInvalid

MONDAY = date(2026, 1, 5)
"""The day of a case that names none."""
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Saying(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A text that entered the session before; see `ostler.domain.provenance.Said`."""

    source: str
    text: str
    roles: tuple[Role, ...] = ()
    labels: tuple[str, ...] = ()


class Case(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A call. `roles`, `effect` and `destinations` are what the tool declares: `destinations` are names of arguments.

    `facts` are by the names that rules use (`principal.roles`), with durations and money as in rules. What is not named
    follows from the arguments and from what was said, or is as in a session that has just begun: counters are 0, sets
    are empty, the day is a Monday.
    `history` gives the answers to questions about the past by their text (`COUNT(tool.pay) WITHIN 1h`), else 0.
    """

    operation: Operation = "tool"
    tool: str = ""
    roles: tuple[Role, ...] = ()
    effect: Effect = "once"
    destinations: tuple[str, ...] = ()
    args: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    said: tuple[Saying, ...] = ()
    history: dict[str, float] = {}


_FIELDS = {
    "destinations": "destinations",
    "contents": "contents",
    "dictated": "dictated",
    "addresses": "addresses",
    "links": "links",
    "agent.name": "agent",
    "agent.version": "agent_version",
    "principal.id": "principal",
    "principal.kind": "principal_kind",
    "principal.roles": "principal_roles",
    "principal.scopes": "principal_scopes",
    "tenant.id": "tenant",
    "session.id": "session",
    "session.steps": "steps",
    "session.tool_calls": "tool_calls",
    "session.tokens": "tokens",
    "session.cost": "cost_microusd",
    "session.elapsed": "elapsed_us",
    "budget.tokens_left": "tokens_left",
    "budget.cost_left": "cost_left_microusd",
    "budget.calls_left": "calls_left",
    "context.labels": "labels",
}
"""The facts that are fields of `Facts`. The others follow from them or from the moment."""
_MOMENT = ("time.hour", "time.weekday", "time.date")
_LABELS = {"context.untrusted": "untrusted", "context.private": "private"}
_ELSEWHERE = {"operation": "operation", "tool.name": "tool", "effect": "effect"}
_KINDS: dict[str, Kind] = {one.name: one.kind for one in VOCABULARY}
_DURATION = re.compile(rf"(\d+)({'|'.join(sorted(DURATIONS, key=len, reverse=True))})")
_MONEY = re.compile(r"USD (\d+(?:\.\d{1,6})?)")


C = TypeVar("C", bound=Case)


def read_case(data: Any, *, source: str) -> Case:
    """The case that a table of TOML or JSON describes. Raises `DefinitionInvalid` with every problem."""
    (case,) = read_cases([data], Case, source=source)
    return case


def read_cases(data: list[Any], shape: type[C], *, source: str, path: str = "") -> list[C]:
    """The cases that tables describe. Raises `DefinitionInvalid` with every problem of all of them."""
    problems: list[definition.Problem] = []
    cases = []
    for number, one in enumerate(data):
        above = f"{path}[{number}]" if path else ""
        if isinstance(one, Mapping) and isinstance(one.get("facts"), Mapping):
            one = {**one, "facts": dict(_flat(one["facts"]))}
        found = definition.problems_in(one, shape, above)
        if not found:
            cases.append(msgspec.convert(one, shape))
            found = [(f"{above}.{where}" if above else where, what) for where, what in _problems(cases[-1])]
        problems += found
    if problems:
        raise DefinitionInvalid(source, problems)
    return cases


def question_text(question: Question) -> str:
    """A question about the past as it is written in rules."""
    return show_expression(
        History(
            asks=question.kind,
            targets=question.targets,
            within_us=question.window_us,
            argument=question.argument,
            bound=question.bound,
            per=question.per,
        )
    )


def facts_of_case(case: Case, questions: tuple[str, ...] = ()) -> Facts:
    """What the gate would know of this call; `questions` are what the policy asks about the past, in its order."""
    heard = Provenance()
    for one in case.said:
        held = frozenset(one.roles)
        heard = heard.plus(Said(one.source, one.text, held, frozenset(one.labels) | labels_of(held)))
    facts = Facts(
        operation=case.operation,
        tool=case.tool,
        roles=frozenset(case.roles),
        effect=case.effect,
        args=case.args,
        inputs=case.inputs,
        at_us=_moment_us(case.facts),
        history=tuple(case.history.get(question, 0) for question in questions),
        labels=heard.labels,
        sources=heard,
    )
    if case.operation == "tool":
        spec = ToolSpec(
            case.tool, "", {"type": "object"}, case.effect, roles=case.roles, destinations=case.destinations
        )
        facts = with_flow(facts, spec, heard)
    given = {_FIELDS[name]: _plain(name, value) for name, value in case.facts.items() if name in _FIELDS}
    given["labels"] = given.get("labels", facts.labels) | {
        label for name, label in _LABELS.items() if case.facts.get(name)
    }
    return msgspec.structs.replace(facts, **given)


def facts_named(case: Case) -> list[tuple[str, str]]:
    """What a case says beyond the call, as lines with names."""
    lines: list[tuple[str, str]] = [("effect", case.effect)] if case.effect != "once" else []
    lines += [(name, _shown(value)) for name, value in case.facts.items() if not _is_empty(value)]
    if empty := [name for name, value in case.facts.items() if _is_empty(value)]:
        lines.append(("empty", ", ".join(empty)))
    lines += [(f"input {name}", _shown(value)) for name, value in case.inputs.items()]
    lines += [(f"{one.source} said", one.text) for one in case.said]
    return lines + [(question, f"{answer:g}") for question, answer in case.history.items()]


def _is_empty(value: object) -> bool:
    return isinstance(value, list | tuple) and not value


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode() if not isinstance(value, str) else value


def _flat(table: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """`principal.roles` may be written as one name or as a table in a table."""
    found = []
    for key, value in table.items():
        name = f"{above}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return found


def _problems(case: Case) -> list[definition.Problem]:
    problems = [
        *_faults_in_values(case.args, "args"),
        *_faults_in_values(case.inputs, "inputs"),
        *_faults_in_values(case.history, "history"),
    ]
    for name, value in case.facts.items():
        problems += [(f"facts.{name}", what) for what in _faults_of_fact(name, value)]
    if not case.tool and case.operation != "session":
        problems.append(("tool", "is missing: name the tool that is called, or the model or memory"))
    if not problems and case.facts.keys() >= {"time.weekday", "time.date"}:
        day = date.fromisoformat(case.facts["time.date"])
        if WEEKDAYS[day.weekday()] != case.facts["time.weekday"]:
            problems.append(("facts.time.weekday", f"{day} is a {WEEKDAYS[day.weekday()]}"))
    return problems


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


_FORMS: dict[Kind, tuple[str, Callable[[Any], bool]]] = {
    "number": (
        "a whole number that is not negative",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    ),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "set": ("a list of texts", _are_texts),
    "list": ("a list of texts", _are_texts),
    "duration": ("a duration such as '10m'", lambda value: isinstance(value, str) and bool(_DURATION.fullmatch(value))),
    "money": ("an amount such as 'USD 0.50'", lambda value: isinstance(value, str) and bool(_MONEY.fullmatch(value))),
    "text": ("a text", lambda value: isinstance(value, str)),
}
"""How facts of each kind are written: in words, and as a test."""


def _faults_of_fact(name: str, value: Any) -> list[str]:
    if name in _ELSEWHERE:
        return [f"is written beside facts, as {_ELSEWHERE[name]}"]
    if name == "risk_score":
        return ["is computed from the RISK lines of the policy, and cannot be given"]
    if name not in _KINDS:
        near = did_you_mean(name, _KINDS)
        return [f"is unknown (did you mean {near!r}?)" if near else "is unknown; docs/reference/rules.md lists all"]
    wanted, fits = _FORMS[_KINDS[name]]
    if not fits(value):
        return [f"must be {wanted}, got {value!r}"]
    return _faults_of_moment(name, value)


def _faults_of_moment(name: str, value: Any) -> list[str]:
    if name == "time.hour" and not 0 <= value <= 23:
        return [f"must be 0 to 23, got {value}"]
    if name == "time.weekday" and value not in WEEKDAYS:
        return [f"must be one of {', '.join(WEEKDAYS)}, got {value!r}"]
    if name == "principal.kind" and value not in ("user", "agent", "service"):
        return [f"must be user, agent or service, got {value!r}"]
    if name == "time.date":
        try:
            date.fromisoformat(value)
        except ValueError:
            return [f"must be a day such as '2026-01-31', got {value!r}"]
    return []


def _faults_in_values(value: Any, path: str) -> list[definition.Problem]:
    """What no JSON can say, and so no call can hold."""
    match value:
        case Mapping():
            return [fault for key, item in value.items() for fault in _faults_in_values(item, f"{path}.{key}")]
        case list() | tuple():
            return [fault for n, item in enumerate(value) for fault in _faults_in_values(item, f"{path}[{n}]")]
        case float() if not math.isfinite(value):
            return [(path, f"must be a finite number, got {value}")]
        case None | bool() | int() | float() | str():
            return []
        case _:
            return [(path, f"must be a JSON value, got a {type(value).__name__}")]


def _plain(name: str, value: Any) -> Any:
    """A fact as `Facts` has it: microseconds, millionths of a dollar, frozen sets."""
    match _KINDS[name]:
        case "duration":
            match = _DURATION.fullmatch(value)
            assert match is not None, "it was checked when the case was read"
            return int(match[1]) * DURATIONS[match[2]]
        case "money":
            return int(Decimal(value.removeprefix("USD ")).scaleb(6))
        case "set":
            return frozenset(value)
        case "list":
            return tuple(value)
        case "number" | "boolean" | "text" | "any":
            return value


def _moment_us(facts: Mapping[str, Any]) -> int:
    day = date.fromisoformat(facts.get("time.date", MONDAY.isoformat()))
    if "time.date" not in facts and "time.weekday" in facts:
        day += timedelta(days=WEEKDAYS.index(facts["time.weekday"]))
    moment = datetime(day.year, day.month, day.day, facts.get("time.hour", 12), tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


assert _KINDS.keys() == {*_FIELDS, *_MOMENT, *_LABELS, *_ELSEWHERE, "risk_score"}, "every fact can be written in a case"
