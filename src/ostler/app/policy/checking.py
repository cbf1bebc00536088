"""Checks files of rules: what is wrong with the text, and what a solver, if there is one, finds odd about it."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ostler.app import definition
from ostler.app.plugins import part
from ostler.app.policies import rules_of
from ostler.app.policy.files import policy_from
from ostler.app.policy.findings import Finding
from ostler.app.project import find_agent, load_code
from ostler.app.settings import Settings
from ostler.domain.constraint.policy import Policy
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import DefinitionInvalid, NotFound, PolicyInvalid

ANALYSIS = "ostler.app.policy.analysis:analyse"
DIFFERENCE = "ostler.app.policy.difference:difference"


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong with a text, and where: `line 3, column 7`."""

    at: str
    problem: str


class Checked(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of rules. A text with mistakes has no findings; `is_analysed` says whether a solver has looked at it."""

    file: str
    mistakes: tuple[Mistake, ...] = ()
    findings: tuple[Finding, ...] = ()
    is_analysed: bool = False


def has_solver() -> bool:
    """Whether the library is installed that proofs need."""
    return importlib.util.find_spec("z3") is not None


def check_file(place: str, tools: Sequence[ToolSpec] | None = None) -> Checked:
    """Check a file of rules or a policy that comes with Ostler, for these tools if any are named. Raises `NotFound`."""
    text, name = rules_of(place)
    try:
        policy = policy_from(text, name, source=place, tools=tools)
        findings = analyse(policy, tools) if has_solver() else []
    except PolicyInvalid as error:
        return Checked(place, tuple(Mistake(at, problem) for at, problem in error.problems))
    return Checked(place, (), tuple(findings), is_analysed=has_solver())


def analyse(policy: Policy, tools: Sequence[ToolSpec] | None = None) -> list[Finding]:
    """See `ostler.app.policy.analysis`. Raises `ConfigurationError` without the solver."""
    found: list[Finding] = part(ANALYSIS, extra="solver")(policy, tools)
    return found


def known_tools(file: str | None, agent: str | None, settings: Settings) -> list[ToolSpec] | None:
    """The tools that rules are checked against: those of a file, or of an agent of the project; None if none is named.

    A file is Python with `@tool` functions, or a JSON list of tools with `name`, `description` and `parameters`, and
    what else `ToolSpec` has. Raises `NotFound`, `DefinitionInvalid`.
    """
    if agent is not None:
        ours = [tool.spec for tool in load_code(settings.tools).tools]
        return list(find_agent(agent, settings, ours).spec.tools)
    if file is None:
        return None
    path = Path(file)
    if path.suffix == ".py":
        return [tool.spec for tool in load_code([path]).tools]
    try:
        data = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise DefinitionInvalid(file, [("", f"is not valid JSON: {error}")]) from error
    return list(definition.read(data, tuple[ToolSpec, ...], source=file))
