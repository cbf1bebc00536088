"""Suites of tasks and attacks with the calls that they were solved by, and files that say what their tools do."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from ostler.app import definition
from ostler.domain.suggest import did_you_mean
from ostler.domain.tool import OUTWARD, Role, ToolSpec
from ostler.kernel.errors import DefinitionInvalid, NotFound


class Call(msgspec.Struct, frozen=True):
    """A call as it was made, and what the tool answered. `mutates_env` says whether it changed anything."""

    function: str
    args: dict[str, Any]
    result: str
    mutates_env: bool = False


class Task(msgspec.Struct, frozen=True):
    """What a user asks for, the calls that do it, and which call's result shows which text an attacker can write."""

    prompt: str
    calls: tuple[Call, ...]
    visible_injection_vectors: dict[str, int] = {}


class Goal(msgspec.Struct, frozen=True):
    """What an attacker's text asks for, and the calls that reach it."""

    goal: str
    calls: tuple[Call, ...]


class SuiteTool(msgspec.Struct, frozen=True):
    """A tool of a suite."""

    name: str
    description: str
    parameters: dict[str, Any]


class Suite(msgspec.Struct, frozen=True):
    """Tools, tasks of users and goals of attackers. `injection_vectors` are the harmless texts in the places that
    attackers can write to.
    """

    suite: str
    tools: tuple[SuiteTool, ...]
    user_tasks: dict[str, Task]
    injection_tasks: dict[str, Goal]
    injection_vectors: dict[str, str] = {}


class ToolRoles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one tool does, as a file of roles has it; see docs/reference/roles.md."""

    roles: tuple[Role, ...]
    destinations: tuple[str, ...] | None = None


class RolesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the tools of one suite or of several do."""

    tools: dict[str, ToolRoles]


def read_suite(path: Path) -> Suite:
    """The suite in a JSON file. Raises `NotFound`, `DefinitionInvalid`."""
    try:
        suite = msgspec.json.decode(_bytes(path), type=Suite)
    except msgspec.DecodeError as error:
        raise DefinitionInvalid(str(path), [("", f"is no suite: {error}")]) from error
    problems = _unknown_tools(suite) + [
        (f"user_tasks.{name}.visible_injection_vectors.{vector}", f"there is no call {number}")
        for name, task in suite.user_tasks.items()
        for vector, number in task.visible_injection_vectors.items()
        if not 0 <= number < len(task.calls)
    ]
    if problems:
        raise DefinitionInvalid(str(path), problems)
    return suite


def read_roles(path: Path) -> RolesFile:
    """The roles in a TOML file. Raises `NotFound`, `DefinitionInvalid` with every problem."""
    try:
        data = tomllib.loads(_bytes(path).decode())
    except ValueError as error:
        raise DefinitionInvalid(str(path), [("", f"is not valid TOML: {error}")]) from error
    return definition.read(data, RolesFile, source=str(path))


def specs(suite: Suite, roles: RolesFile, *, source: str) -> dict[str, ToolSpec]:
    """The tools of a suite, by name, with what they do. Raises `DefinitionInvalid` with every problem in `source`."""
    known = roles.tools
    problems: list[definition.Problem] = []
    names = [tool.name for tool in suite.tools]
    for name in names:
        if name not in known:
            near = did_you_mean(name, set(known).difference(names))
            hint = f"did you mean it by {near!r}?" if near else "if it does nothing of the kind, write `roles = []`"
            problems.append((f"tools.{name}", f"is missing, and suite {suite.suite!r} has this tool ({hint})"))
    for tool in suite.tools:
        problems += _problems_in_destinations(tool, known.get(tool.name))
    if problems:
        raise DefinitionInvalid(source, problems)
    return {tool.name: _spec(tool, known[tool.name]) for tool in suite.tools}


def _unknown_tools(suite: Suite) -> list[definition.Problem]:
    names = {tool.name for tool in suite.tools}
    calls = [(f"user_tasks.{name}", call) for name, task in suite.user_tasks.items() for call in task.calls]
    calls += [(f"injection_tasks.{name}", call) for name, goal in suite.injection_tasks.items() for call in goal.calls]
    return [(path, f"calls {call.function!r}, which is no tool") for path, call in calls if call.function not in names]


def _problems_in_destinations(tool: SuiteTool, said: ToolRoles | None) -> list[definition.Problem]:
    arguments = list(tool.parameters.get("properties", {}))
    if said is None:
        return []
    problems = []
    if said.destinations is None and arguments and OUTWARD.intersection(said.roles):
        which = f"which of its arguments ({', '.join(arguments)}) say where it goes or what it acts upon"
        problems.append((f"tools.{tool.name}.destinations", f"is missing: say {which}; with [], all do"))
    for number, name in enumerate(said.destinations or ()):
        if name not in arguments:
            near = did_you_mean(name, arguments)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(arguments) or 'none'}"
            problems.append((f"tools.{tool.name}.destinations[{number}]", f"{name!r} is no argument of it ({hint})"))
    return problems


def _spec(tool: SuiteTool, said: ToolRoles) -> ToolSpec:
    return ToolSpec(
        tool.name, tool.description, tool.parameters, roles=said.roles, destinations=said.destinations or ()
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.") from error
