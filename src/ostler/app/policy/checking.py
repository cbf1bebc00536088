"""Checks files of rules: what is wrong with the text, and what a solver, if there is one, finds odd about it."""

import importlib.util
from collections.abc import Sequence

import msgspec

from ostler.app.plugins import part
from ostler.app.policies import rules_of
from ostler.app.policy.files import parsed_of, policy_from
from ostler.app.policy.findings import Finding
from ostler.domain.constraint.implied import implied
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.syntax import Redact
from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import PolicyInvalid

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


def check_file(place: str, tools: Sequence[ToolSpec] | None = None, detectors: Detectors = BUILTIN) -> Checked:
    """Check a file of rules or a policy that comes with Ostler, for these tools if any are named. Raises `NotFound`."""
    text, name = rules_of(place)
    try:
        policy = policy_from(text, name, source=place, tools=tools)
        findings = (
            _undeclared(text, name)
            + _without_detector(policy, detectors)
            + (analyse(policy, tools) if has_solver() else [])
        )
    except PolicyInvalid as error:
        return Checked(place, tuple(Mistake(at, problem) for at, problem in error.problems))
    return Checked(place, (), tuple(findings), is_analysed=has_solver())


def _undeclared(text: str, name: str) -> list[Finding]:
    """The inputs that the rules only imply."""
    return [
        Finding(
            "undeclared",
            f"{one.name} is no fact, and so an input that has to be given; declare it: input {one.name}: {one.kind}",
            "warning",
            "",
            one.at.line,
            one.at.column,
        )
        for one in implied(parse(text, name))
    ]


def _without_detector(policy: Policy, detectors: Detectors) -> list[Finding]:
    """What a policy names as detectors and is none."""
    return [
        Finding("no detector", missing, "warning", name, rule.at.line, rule.at.column)
        for name, rule in parsed_of(policy).named_rules()
        if isinstance(rule, Redact)
        for missing in detectors.missing(rule.detectors)
    ]


def analyse(policy: Policy, tools: Sequence[ToolSpec] | None = None) -> list[Finding]:
    """See `ostler.app.policy.analysis`. Raises `ConfigurationError` without the solver."""
    found: list[Finding] = part(ANALYSIS, extra="solver")(policy, tools)
    return found
