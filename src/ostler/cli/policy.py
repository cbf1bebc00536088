"""Commands for those who write rules: check, diff, test, explain, backtest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ostler.app.bootstrap import detectors_of
from ostler.app.plugins import part
from ostler.app.policy.case import Case, facts_named
from ostler.app.policy.checking import DIFFERENCE, Checked, check_file
from ostler.app.policy.comparison import Difference
from ostler.app.policy.examples import Report, tried_at
from ostler.app.policy.files import load_policy
from ostler.app.policy.findings import Finding
from ostler.app.policy.witness import Witness
from ostler.app.tool_files import known_tools
from ostler.cli.base import settings
from ostler.cli.exits import Exit
from ostler.cli.groups import Scattered
from ostler.cli.output import Format, Rows, blocks, emit, output_options, printing_aside, say
from ostler.cli.words import arguments, count, short
from ostler.domain.constraint.verdict import Verdict

ELSEWHERE = {
    "explain": ("ostler.cli.policy_past:explain", "Say which rules match a call, and why."),
    "backtest": ("ostler.cli.policy_past:backtest", "Judge the calls of the past by other rules."),
    "score": ("ostler.cli.policy_score:score", "Measure rules against attacks that are known."),
    "propose": ("ostler.cli.policy_change:propose", "Ask for a policy to hold for all sessions of a tenant."),
    "list": ("ostler.cli.policy_change:list_", "List the policies that were proposed, and how far they have come."),
    "show": ("ostler.cli.policy_change:show", "Print the rules of a policy that was proposed."),
    "shadow": ("ostler.cli.policy_change:shadow", "Let new sessions try a policy that was proposed."),
    "approve": ("ostler.cli.policy_change:approve", "Say that a policy of somebody else may be applied."),
    "reject": ("ostler.cli.policy_change:reject", "Say that a policy will not be applied."),
    "apply": ("ostler.cli.policy_change:apply", "Put new sessions under a policy."),
    "withdraw": ("ostler.cli.policy_change:withdraw", "Put new sessions under a policy no longer."),
    "move": ("ostler.cli.policy_change:move", "Put a session under the policies of today."),
}
"""Commands of other modules, and what the list of commands says of them."""
_EXITS = {"equal": Exit.DONE, "narrower": Exit.DONE}


@click.group(cls=Scattered, elsewhere=ELSEWHERE)
def policy() -> None:
    """Check rules, compare them, try them out, and judge the past by them.

    RULES is a file of rules, or the name of a policy that comes with Ostler.
    """


_of_tools = click.option("--tools", metavar="FILE", help="Only calls of these tools: Python with @tool, or JSON.")
_of_agent = click.option("--agent", metavar="NAME", help="Only calls of the tools of this agent of the project.")


@policy.command()
@click.argument("files", metavar="RULES...", nargs=-1, required=True)
@_of_tools
@_of_agent
@output_options
def check(files: tuple[str, ...], tools: str | None, agent: str | None, output: Format) -> None:
    """Find mistakes in rules, and rules that do nothing.

    A mistake is shown where it stands. With the extra `solver`, every rule is then proved to matter, or a call is
    shown for which it does not: rules that never fire, are dead under others, or redundant, are warnings; what
    contradicts an ALLOW, and calls that no rule speaks of, are notes.

    Exits with 2 for mistakes, 1 for warnings, 0 otherwise.
    """
    with printing_aside():
        specs = known_tools(tools, agent, settings())
        detectors = detectors_of(settings())
        checked = [check_file(file, specs, detectors) for file in files]
    emit(checked, output, lambda: blocks([record for one in checked for record in _records_of(one)]))
    for one in checked:
        say(f"{one.file}: {_summary(one)}.")
    if not all(one.is_analysed or one.mistakes for one in checked):
        say("Only text and types were checked; proofs need a library: pip install 'ostler[solver]'")
    is_warned = any(finding.severity == "warning" for one in checked for finding in one.findings)
    _leave(Exit.USAGE if any(one.mistakes for one in checked) else Exit.FAILED if is_warned else Exit.DONE)


@policy.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@_of_tools
@_of_agent
@output_options
def diff(old: str, new: str, tools: str | None, agent: str | None, output: Format) -> None:
    """Say what the NEW rules let pass that the OLD ones did not, and what they refuse.

    By proof over all calls, with an example for each sort of call that is treated otherwise: `equal`, `narrower`,
    `wider` or `incomparable`; `unknown` if that could not be decided in time. Needs the extra `solver`.

    Exits with 0 if no call gets further than before (equal, narrower), else with 1.
    """
    with printing_aside():
        specs = known_tools(tools, agent, settings())
    found: Difference = part(DIFFERENCE, extra="solver")(load_policy(old), load_policy(new), specs)
    emit(found, output, lambda: blocks(_records_of_difference(found)))
    say(f"{new} is {_SAID[found.kind]} {old}.")
    _leave(_EXITS.get(found.kind, Exit.FAILED))


@policy.command()
@click.argument("place", metavar="[FILE|FOLDER]", default=".", type=click.Path(path_type=Path))
@output_options
def test(place: Path, output: Format) -> None:
    """Try the examples beside files of rules: `payments.examples.toml` beside `payments.rules`.

    Shows what is not as expected, and rules that no example matches. Exits with 1 if anything is not as expected.
    """
    reports = list(tried_at(place))
    if output != "table" or not all(report.is_met for report in reports):
        emit(reports, output, lambda: _failures(reports))
    for report in reports:
        if report.untouched:
            say(f"{report.policy}: no example matches {', '.join(report.untouched)}")
    tried = [one for report in reports for one in report.tried]
    failed = sum(not one.is_met for one in tried)
    say(f"{count(len(tried), 'example')}, {failed or 'none'} not as expected.")
    _leave(Exit.FAILED if failed else Exit.DONE)


_SAID = {
    "equal": "equal to",
    "narrower": "narrower than",
    "wider": "wider than",
    "incomparable": "wider in parts and narrower in parts than",
    "unknown": "not known to be narrower than",
}


def _leave(code: Exit) -> None:
    if code:
        click.get_current_context().exit(code)


def _summary(one: Checked) -> str:
    if one.mistakes:
        return count(len(one.mistakes), "mistake")
    warnings = sum(finding.severity == "warning" for finding in one.findings)
    notes = len(one.findings) - warnings
    said = [count(number, word) for number, word in ((warnings, "warning"), (notes, "note")) if number]
    return ", ".join(said) or "no mistakes"


def _records_of(one: Checked) -> list[list[tuple[str, str]]]:
    mistakes = [[("file", one.file), ("mistake", f"{mistake.at}: {mistake.problem}")] for mistake in one.mistakes]
    return [*mistakes, *(_record_of(one.file, finding) for finding in one.findings)]


def _record_of(file: str, finding: Finding) -> list[tuple[str, str]]:
    place = f"{file}:{finding.line}:{finding.column}" if finding.line else file
    subject = f": {finding.rule}" if finding.rule else ""
    head = [(finding.severity, f"{finding.kind}{subject} – {finding.message}"), ("at", place)]
    return head + (lines_of_witness(finding.witness) if finding.witness is not None else [])


def _records_of_difference(found: Difference) -> list[list[tuple[str, str]]]:
    further = [[("gets further", _call(one.case)), *lines_of_witness(one, "old", "new")[1:]] for one in found.allows]
    less_far = [[("is held back", _call(one.case)), *lines_of_witness(one, "old", "new")[1:]] for one in found.refuses]
    return [*further, *less_far, *([("not decided", what)] for what in found.open)]


def lines_of_witness(witness: Witness, *names: str) -> list[tuple[str, str]]:
    """A call and what is said of it, as lines with names."""
    case = witness.case
    lines = [("call", _call(case)), *facts_named(case)]
    lines += [
        (name, verdict_said(verdict)) for name, verdict in zip(names or ("verdict",), witness.verdicts, strict=True)
    ]
    return lines if witness.is_confirmed else [*lines, ("not confirmed", "the rules themselves do not say so of it")]


def _call(case: Case) -> str:
    roles = f" ({', '.join(case.roles)})" if case.roles else ""
    return f"{case.operation} {case.tool}{roles} {arguments(case.args)}".rstrip()


def verdict_said(verdict: Verdict) -> str:
    """`deny by payments#3: the environment is unsafe`."""
    by = f" by {verdict.rule}" if verdict.rule else " by default"
    return short(f"{verdict.effect}{by}" + (f": {verdict.reason}" if verdict.reason else ""))


def _failures(reports: Sequence[Report]) -> Any:
    rows = [
        (report.file, one.name, one.expected, one.verdict, one.reason, ", ".join(one.matched) or "–")
        for report in reports
        for one in report.tried
        if not one.is_met
    ]
    return Rows("file", "example~", "expected", "verdict", "reason~", "matched~", rows=rows)
