"""The fitness targets of a project: the file that declares them, and what they mean for sessions that start."""

import math
import re
import shlex
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from ostler.app import definition
from ostler.app.definition import Problem
from ostler.app.measures import Measuring
from ostler.app.plugins import part
from ostler.domain import governance
from ostler.domain.agent import AgentSpec
from ostler.domain.fitness.events import FITNESS, FITNESS_CODEC, FitnessEvent, FitnessFollowed, Standings, evolve
from ostler.domain.fitness.target import MeasureName, OnFail, Target, When, parse_goal
from ostler.domain.glob import matches_any
from ostler.domain.governance import GOVERN
from ostler.domain.identity import Principal
from ostler.domain.session.commands import Start
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid, FitnessFailing, NotAllowed, OstlerError
from ostler.kernel.event import StreamId
from ostler.runtime.fitness import Keeper
from ostler.runtime.register import Register

if TYPE_CHECKING:
    from ostler.app.bootstrap import Parts

EVERY_MIN_US = 10_000_000
SPAN_MAX_US = 366 * 86_400_000_000
TIMEOUT_MAX_S = 300.0
BY = Principal("fitness", kind="service", scopes=(GOVERN,))
"""Who halts what a failing target halts."""

_UNITS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 7 * 86_400_000_000}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_OF_MEASURES = ("tool", "window", "min_sessions")
_OF_TOOLS = ("refusal_rate", "tool_failure_rate", "retry_rate")
"""The measures that can be those of one tool."""
_DEPTH_MAX = 4


class TargetTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `fitness.yaml`: a `measure` or a `command`, and the `target` that its value must reach.

    `window` and `every` are times (`30s`, `5m`, `12h`, `7d`). See `Target` for what the others mean.
    """

    name: str
    target: str
    measure: str = ""
    command: str | tuple[str, ...] = ()
    value: str = "exit"
    timeout_s: float | None = None
    agent: str = ""
    tool: str = ""
    unit: str = ""
    window: str = "7d"
    min_sessions: int = 5
    weight: float = 1.0
    every: str = ""
    at: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    tolerance: float = 0.0
    on_fail: str = "record"


def read_targets(path: Path) -> tuple[Target, ...]:
    """The targets of a file. Raises `DefinitionInvalid` with every mistake and its line; then none of them is used."""
    loader_of = part("yaml:SafeLoader", extra="cli")
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DefinitionInvalid(str(path), [("", f"is not UTF-8 text: {error.reason}")]) from error
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    try:
        loader = loader_of(text)
        node = loader.get_single_node()
        data = None
        if node is not None:
            _note_places(node, "", lines, problems)
            data = None if problems else loader.construct_document(node)
    except (part("yaml:YAMLError", extra="cli"), ValueError, KeyError) as error:  # of values that are not of their tag
        mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        hint = "a target that begins with > must be in quotes" if ">" in text else "two blanks indent, tabs do not"
        where = f"line {mark.line + 1}" if mark is not None else ""
        raise DefinitionInvalid(str(path), [(where, f"is not valid YAML: {what} ({hint})")]) from error
    targets = [] if problems else _targets(data, problems)
    if problems:
        raise DefinitionInvalid(str(path), [(_placed(place, lines), what) for place, what in problems])
    return tuple(targets)


def _note_places(node: Any, path: str, lines: dict[str, int], problems: list[Problem], depth: int = 0) -> None:
    """Note the line of every value, and say which keys are there twice: of these YAML would silently take the last."""
    lines[path] = node.start_mark.line + 1
    if depth > _DEPTH_MAX:
        problems.append((path, "is nested too deeply"))
    elif node.tag == "tag:yaml.org,2002:timestamp":
        problems.append((path, "is a date for YAML: put it in quotes"))
    elif node.id == "sequence":
        for number, inner in enumerate(node.value):
            _note_places(inner, f"{path}[{number}]", lines, problems, depth + 1)
    elif node.id == "mapping":
        for key, inner in node.value:
            place = f"{path}.{key.value}" if path else str(key.value)
            if place in lines:
                problems.append((place, "is there twice"))
            _note_places(inner, place, lines, problems, depth + 1)


def _placed(place: str, lines: dict[str, int]) -> str:
    """A place in the file with its line; of what is missing, the line of what it is missing in."""
    known = place
    while known and known not in lines:
        known = known.rpartition(".")[0]
    return f"{place} (line {lines[known]})" if known else place


def _targets(data: Any, problems: list[Problem]) -> list[Target]:
    if not isinstance(data, list):
        problems.append(("", "is no list of targets: each begins with '- name: …'"))
        return []
    tables: list[TargetTable] = []
    for number, written in enumerate(data):
        if misshapen := definition.problems_in(written, TargetTable, f"[{number}]"):
            problems += misshapen
            continue
        table = msgspec.convert(written, TargetTable)
        found = _problems_of_kind(table, written) + _problems_with_times(table) + _problems_with_numbers(table)
        if not _NAME.fullmatch(table.name):
            found.append(("name", f"{table.name!r} is no name: lower-case letters, digits, '-', '_' and '.'"))
        elif any(table.name == other.name for other in tables):
            found.append(("name", f"{table.name!r} is the name of another target, too"))
        problems += [(f"[{number}].{field}", what) for field, what in found]
        tables.append(table)
    return [] if problems else [_target(table) for table in tables]


def _one_of(place: str, word: str, choices: Sequence[str]) -> list[Problem]:
    if word in choices:
        return []
    near = did_you_mean(word, choices)
    hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(choices)}"
    return [(place, f"{word!r} is none that there is ({hint})")]


def _problems_of_kind(table: TargetTable, written: dict[str, Any]) -> list[Problem]:
    """What is wrong with what it measures, and with what it is to reach."""
    problems = _one_of("on_fail", table.on_fail, get_args(OnFail)) + _one_of("value", table.value, ("exit", "output"))
    if bool(table.measure) == bool(table.command):
        problems.append(("measure", "or `command` is what is measured: write one of them"))
    elif table.measure:
        problems += _one_of("measure", table.measure, get_args(MeasureName))
        problems += [(field, "is for commands only") for field in ("value",) if field in written]
        if table.tool and table.measure not in _OF_TOOLS:
            problems.append(("tool", f"is only for {', '.join(_OF_TOOLS)}"))
    else:
        problems += [(field, "is for measures only") for field in _OF_MEASURES if field in written]
        if not _argv(table):
            problems.append(("command", "is empty, or its quotes do not match"))
    try:
        parse_goal(table.target)
    except ValueError as error:
        problems.append(("target", f"{table.target!r} cannot be read: {error}"))
    return problems


def _problems_with_times(table: TargetTable) -> list[Problem]:
    """What is wrong with when it is measured."""
    problems = [one for number, when in enumerate(table.at) for one in _one_of(f"at[{number}]", when, get_args(When))]
    for field, text in (("window", table.window), ("every", table.every)):
        span_us = _span_us(text)
        if (text or field == "window") and not (span_us and span_us <= SPAN_MAX_US):
            problems.append((field, f"{text!r} is no time: write it like 30s, 5m, 12h or 7d, a year at most"))
        elif field == "every" and text and span_us < EVERY_MIN_US:
            problems.append((field, f"is too often: {EVERY_MIN_US // 1_000_000}s at least"))
    if "schedule" in table.at and not table.every:
        problems.append(("every", "is missing: `at` says that it is measured by schedule"))
    if "intervention" in table.at and not table.around:
        problems.append(("around", "is missing: `at` says that it is measured before and after interventions"))
    for field, when in (("every", "schedule"), ("around", "intervention")):
        if getattr(table, field) and table.at and when not in table.at:
            problems.append((field, f"says what `at` does not: add {when!r} there, or leave `at` away"))
    if table.on_fail in ("warn", "ask", "halt", "veto") and not _when(table):
        problems.append(("on_fail", "never happens: nothing measures it by itself. Write `every`, `around` or `at`"))
    return problems


def _problems_with_numbers(table: TargetTable) -> list[Problem]:
    numbers = {"weight": table.weight, "tolerance": table.tolerance}
    problems = [
        (field, f"must be a number that is not negative, got {value:g}")
        for field, value in numbers.items()
        if not (value >= 0 and math.isfinite(value))
    ]
    if table.min_sessions < 1:
        problems.append(("min_sessions", f"must be positive, got {table.min_sessions}"))
    if table.timeout_s is not None and not 0 < table.timeout_s <= TIMEOUT_MAX_S:
        problems.append(("timeout_s", f"must be positive and {TIMEOUT_MAX_S:g} at most, got {table.timeout_s:g}"))
    return problems


def _span_us(text: str) -> int:
    """A time in microseconds; 0 for what is none."""
    found = _SPAN.fullmatch(text.strip())
    return round(float(found[1]) * _UNITS[found[2]]) if found else 0


def _argv(table: TargetTable) -> tuple[str, ...]:
    """The command and its arguments; empty for none. A string is split as a shell does, and given to none."""
    if not isinstance(table.command, str):
        return table.command
    try:
        return tuple(shlex.split(table.command))
    except ValueError:
        return ()


def _when(table: TargetTable) -> tuple[When, ...]:
    """When it is measured: as `at` says, or else as `every` and `around` do."""
    if table.at:
        found: tuple[When, ...] = msgspec.convert(table.at, tuple[When, ...]) if _are_known(table.at) else ()
        return found
    implied: list[When] = []
    if table.every:
        implied.append("schedule")
    if table.around:
        implied.append("intervention")
    return tuple(implied)


def _are_known(at: Sequence[str]) -> bool:
    return all(when in get_args(When) for when in at)


def _target(table: TargetTable) -> Target:
    return Target(
        name=table.name,
        goal=parse_goal(table.target),
        measure=msgspec.convert(table.measure or None, MeasureName | None),
        command=_argv(table),
        reads_output=table.value == "output",
        timeout_s=table.timeout_s or 30.0,
        agent=table.agent,
        tool=table.tool,
        window_us=_span_us(table.window),
        min_sessions=table.min_sessions,
        unit=table.unit,
        weight=table.weight,
        every_us=_span_us(table.every) or None,
        at=_when(table),
        around=table.around,
        tolerance=table.tolerance,
        on_fail=msgspec.convert(table.on_fail, OnFail),
    )


def with_targets(spec: AgentSpec, targets: Sequence[Target]) -> AgentSpec:
    """The agent, whose tools say which of these targets are measured around them, or must not fail."""
    own = [target for target in targets if target.agent in ("", spec.name)]
    if not own:
        return spec
    tools = [msgspec.structs.replace(tool, fitness=_around(tool, own)) for tool in spec.tools]
    return msgspec.structs.replace(spec, tools=tuple(tools))


def _around(tool: ToolSpec, targets: Sequence[Target]) -> tuple[str, ...]:
    """The targets that calls of a tool have to do with."""
    return tuple(
        target.name
        for target in targets
        if matches_any(target.around, tool.name)
        or (target.on_fail == "ask" and not target.around and tool.effect != "read")
    )


def register_of(parts: "Parts", tenant: str) -> Register[FitnessEvent, Standings]:
    """Where it stands how the targets of a tenant do."""
    return Register(parts.store, StreamId(tenant, FITNESS), FITNESS_CODEC, evolve, Standings())


def keeper_of(
    parts: "Parts",
    folder: Path,
    trouble: Callable[[OstlerError], None],
    halted: Callable[[], Awaitable[None]],
) -> Keeper:
    """What measures the targets of a project, and does what follows; commands run in `folder`.

    `halted` is called after something was halted.
    """

    async def halt(tenant: str, agent: str, reason: str) -> None:
        register = parts.governor.register(tenant)
        await register.write(lambda state: governance.halt(state, BY, reason, agent), at_us=parts.clock.now_us())
        await halted()

    measuring = Measuring(parts.journal, parts.clock, folder)
    return Keeper(parts.store, parts.clock, parts.targets, measuring.measure, halt=halt, trouble=trouble)


async def check_change(parts: "Parts", start: Start, despite: str) -> None:
    """Raises `FitnessFailing` if the session would change the model of its agent while a target forbids that.

    Unless somebody wants it `despite` that, with a reason and the scope `govern` (else `NotAllowed`); either is
    recorded.
    """
    vetoes = [one for one in parts.targets if one.on_fail == "veto" and one.agent in ("", start.agent.name)]
    if not vetoes or not await parts.changes.is_other(start):
        return
    register, now_us = register_of(parts, start.by.tenant), parts.clock.now_us()
    courses = (await register.refresh()).courses
    failing = [one for one in vetoes if one.name in courses and courses[one.name].failing_since_us is not None]
    if not failing:
        return
    if despite and not start.by.may(GOVERN):
        raise NotAllowed(f"{start.by.id} lacks the scope {GOVERN!r}, and cannot do this despite a failing target.")
    what: Literal["vetoed", "overridden"] = "overridden" if despite else "vetoed"
    agent = start.agent.name
    events: list[FitnessEvent] = [
        FitnessFollowed(one.name, what, now_us, agent, start.session, start.by.id, despite) for one in failing
    ]
    await register.write(lambda standings: events, at_us=now_us)
    if not despite:
        first = failing[0]
        raise FitnessFailing(
            f"{agent} gets no other model while the fitness target {first.name!r} fails: "
            f"{courses[first.name].last.found}, and should be {first.goal}.",
            hint="Start it with the model as before, or have somebody who governs want it all the same, with a reason.",
        )
