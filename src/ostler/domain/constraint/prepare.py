"""What the statements of a policy are to its programs."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from ostler.domain.constraint.check import kinds_in
from ostler.domain.constraint.history import Question, RateLimit, question_of
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.policy import Policy, arguments_match
from ostler.domain.constraint.printer import show_duration
from ostler.domain.constraint.program import Part, Prepared
from ostler.domain.constraint.syntax import (
    Allow,
    Arithmetic,
    Compare,
    Deny,
    Expression,
    From,
    History,
    Input,
    Limit,
    Name,
    Number,
    Parsed,
    Redact,
    Require,
    Target,
    condition_of,
    expressions_of,
    walk,
)
from ostler.domain.constraint.verdict import Demand

DEFAULT_RISK = """\
RISK 30% IF role.moves_money         BECAUSE "moves money"
RISK 30% IF role.changes_permissions BECAUSE "changes permissions"
RISK 20% IF role.deletes             BECAUSE "deletes"
RISK 20% IF role.shares              BECAUSE "shares"
RISK 20% IF role.sends_out           BECAUSE "sends something out"
RISK 10% IF effect == "once"         BECAUSE "cannot be repeated safely"
RISK 30% IF context.untrusted        BECAUSE "the model has seen text that outsiders can write"
RISK 10% IF context.private          BECAUSE "the model has seen private data"
"""
"""The parts of the risk score of a policy that has no RISK lines."""


class Guarded(NamedTuple):
    """A rule, and the calls that it concerns."""

    targets: tuple[Target, ...]
    prepared: Prepared


class Share(NamedTuple):
    """A part of the risk score, and the calls that it concerns."""

    targets: tuple[Target, ...]
    part: Part


def with_risk(parsed: Parsed) -> Parsed:
    """The policy with the usual parts of the risk score, if it looks at the score and names none."""
    if parsed.risks or "risk_score" not in facts_used(parsed):
        return parsed
    usual = parse(DEFAULT_RISK).statements
    return Parsed(parsed.name, parsed.version, parsed.default, (*parsed.statements, *usual))


def guarded_rules(parsed: Parsed, inputs: Mapping[str, Input]) -> Iterator[Guarded]:
    """The rules that decide, in the order in which they are written."""
    for name, rule in parsed.named_rules():
        kinds = kinds_in(rule, inputs).arguments
        match rule:
            case Allow():
                yield Guarded(rule.targets, Prepared(name, "allow", condition_of(rule), kinds, rule.because))
            case Deny():
                yield Guarded(rule.targets, Prepared(name, "deny", condition_of(rule), kinds, rule.because))
            case Require():
                within_s = None if rule.within_us is None else rule.within_us / 1_000_000
                demand = Demand(name, rule.count, rule.roles, within_s, rule.because)
                yield Guarded(rule.targets, Prepared(name, "require", condition_of(rule), kinds, rule.because, demand))
            case Limit():
                reason = rule.because or _said(rule)
                yield Guarded(rule.targets, Prepared(name, "deny", exceeded(rule), kinds, reason))
            case Redact():
                pass


def plain_rules(policy: Policy) -> Iterator[Guarded]:
    """The rules of an agent file. They speak of tools alone."""
    for number, rule in enumerate(policy.rules, 1):
        name = rule.name or f"{policy.name}#{number}"
        demand = Demand(name, within_s=rule.within_s, reason=rule.because) if rule.effect == "require" else None
        opaque = partial(arguments_match, rule) if rule.where or rule.unless else None
        prepared = Prepared(name, rule.effect, None, {}, rule.because, demand, opaque)
        yield Guarded((Target(space="tool", glob=rule.tool),), prepared)


def risk_shares(parsed: Parsed, inputs: Mapping[str, Input]) -> Iterator[Share]:
    """The parts of the risk score."""
    for risk in parsed.risks:
        kinds = kinds_in(risk, inputs).arguments
        yield Share(risk.targets, Part(risk.amount, condition_of(risk), kinds, risk.because))


def exceeded(limit: Limit) -> Expression:
    """That a call would exceed a limit, as a condition."""
    asked = _asked(limit)
    own: Expression = Name(path=("args", *limit.argument)) if limit.argument else Number(value=1)
    together = Arithmetic(operator="+", left=asked, right=own)
    return Compare(operator=">", left=together, right=Number(value=limit.ceiling))


def questions(parsed: Parsed) -> list[Question]:
    """What a policy asks about the past, each question once, in the order in which they are first written."""
    found: dict[Question, None] = {}
    for statement in parsed.statements:
        if isinstance(statement, Limit):
            found[question_of(_asked(statement))] = None
        for expression in expressions_of(statement):
            found |= {question_of(part): None for part in walk(expression) if isinstance(part, History)}
    return list(found)


def rate_limits(parsed: Parsed, numbers: Mapping[Question, int]) -> Iterator[RateLimit]:
    """The sliding windows that a policy keeps."""
    for name, rule in parsed.named_rules():
        if isinstance(rule, Limit):
            question = numbers[question_of(_asked(rule))]
            yield RateLimit(name, rule.targets, rule.ceiling, rule.window_us, rule.per, question, rule.argument)


def facts_used(parsed: Parsed) -> Iterator[str]:
    """What a policy asks of a call beyond the call itself."""
    for statement in parsed.statements:
        if isinstance(statement, Limit):
            yield "history"
        for expression in expressions_of(statement):
            for part in walk(expression):
                if isinstance(part, History):
                    yield "history"
                elif isinstance(part, From):
                    yield "sources"
                elif isinstance(part, Name) and part.path[0] != "args":
                    yield ".".join(part.path)


def _asked(limit: Limit) -> History:
    return History(
        asks="SUM" if limit.argument else "COUNT",
        targets=limit.targets,
        within_us=limit.window_us,
        argument=limit.argument,
        per=limit.per,
    )


def _said(limit: Limit) -> str:
    what = f"{limit.ceiling} of {'.'.join(limit.argument)}" if limit.argument else f"{limit.ceiling} calls"
    return f"more than {what} in {show_duration(limit.window_us)} for one {limit.per}"
