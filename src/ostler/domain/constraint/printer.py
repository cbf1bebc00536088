"""Writes a policy as text, in one way only: `parse(show(parsed)) == parsed`."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from ostler.domain.constraint.builder import DURATIONS
from ostler.domain.constraint.syntax import (
    Allow,
    And,
    Arithmetic,
    Boolean,
    Call,
    Compare,
    Deny,
    Duration,
    Expression,
    From,
    Has,
    History,
    In,
    Input,
    Limit,
    ListOf,
    Matches,
    Money,
    Name,
    Negative,
    Not,
    Number,
    Or,
    Parsed,
    Redact,
    Regex,
    Require,
    Risk,
    Scope,
    SetOf,
    Statement,
    Target,
    Text,
)

_ANY, _ALL, _NOT, _COMPARED, _SUM, _PRODUCT, _FACTOR = range(7)
"""How tightly each kind of expression binds, the loosest first, as in the grammar."""


def show(parsed: Parsed) -> str:
    """The text of a policy, one statement a line, its default always named."""
    lines = [f"policy {parsed.name} version {parsed.version}", f"default {parsed.default}", ""]
    return "\n".join([*lines, *map(show_statement, parsed.statements)]) + "\n"


def show_statement(statement: Statement) -> str:
    """One statement, on one line."""
    match statement:
        case Input():
            default = f" = {show_expression(statement.default)}" if statement.default is not None else ""
            return f"input {statement.name}: {statement.kind}{default}"
        case Risk():
            amount = show_expression(statement.amount, _SUM)
            return f"RISK {amount} FOR {_targets(statement.targets)}{_when(statement)}{_because(statement.because)}"
        case Allow():
            return f"ALLOW {_targets(statement.targets)}{_when(statement)}{_notes(statement)}"
        case Deny():
            return f"DENY {_targets(statement.targets)}{_when(statement)}{_notes(statement)}"
        case Require():
            return f"REQUIRE {_approvals(statement)} FOR {_targets(statement.targets)}{_when(statement)}" + _notes(
                statement
            )
        case Limit():
            counted = _targets(statement.targets)
            counted = f"SUM({counted}.args.{'.'.join(statement.argument)})" if statement.argument else counted
            window = f"PER {show_duration(statement.window_us)}{_per(statement.per)}"
            return f"LIMIT {counted} TO {_number(statement.ceiling)} {window}{_notes(statement)}"
        case Redact():
            detectors = ", ".join(statement.detectors)
            return f"REDACT output OF {_targets(statement.targets)} MATCHING {detectors}{_notes(statement)}"


def show_expression(expression: Expression, binding: int = _ANY) -> str:
    """An expression, in parentheses if it binds less tightly than what surrounds it."""
    level, text = _written(expression)
    return f"({text})" if level < binding else text


def _written(expression: Expression) -> tuple[int, str]:
    match expression:
        case Or():
            return _ANY, " OR ".join(show_expression(one, _ALL) for one in expression.operands)
        case And():
            return _ALL, " AND ".join(show_expression(one, _NOT) for one in expression.operands)
        case Not():
            return _NOT, f"NOT {show_expression(expression.operand, _NOT)}"
        case Compare():
            return _COMPARED, _infix(expression.left, expression.operator, expression.right)
        case In():
            return _COMPARED, _infix(expression.item, "IN", expression.collection)
        case Has():
            return _COMPARED, _infix(expression.collection, "HAS", expression.item)
        case Matches():
            return _COMPARED, f"{show_expression(expression.text, _SUM)} MATCHES {_pattern(expression.pattern)}"
        case From():
            return _COMPARED, f"{show_expression(expression.value, _SUM)} FROM {', '.join(expression.sources)}"
        case Arithmetic():
            level = _SUM if expression.operator in "+-" else _PRODUCT
            left, right = show_expression(expression.left, level), show_expression(expression.right, level + 1)
            return level, f"{left} {expression.operator} {right}"
        case Negative():
            return _FACTOR, f"-{show_expression(expression.operand, _FACTOR)}"
        case Call():
            return _FACTOR, f"{expression.function}({show_expression(expression.argument)})"
        case Name():
            return _FACTOR, ".".join(expression.path)
        case History():
            return _FACTOR, _history(expression)
        case Number() | Text() | Boolean() | Duration() | Money() | ListOf() | SetOf():
            return _FACTOR, _literal(expression)


def _infix(left: Expression, operator: str, right: Expression) -> str:
    return f"{show_expression(left, _SUM)} {operator} {show_expression(right, _SUM)}"


def _literal(literal: Number | Text | Boolean | Duration | Money | ListOf | SetOf) -> str:
    match literal:
        case Number():
            return _number(literal.value)
        case Text():
            return _text(literal.value)
        case Boolean():
            return "true" if literal.value else "false"
        case Duration():
            return show_duration(literal.us)
        case Money():
            amount = f"{Decimal(abs(literal.micro)).scaleb(-6):f}".rstrip("0").rstrip(".")
            return f"{'-' if literal.micro < 0 else ''}{literal.currency} {amount}"
        case ListOf():
            return f"[{', '.join(map(_literal, literal.items))}]"
        case SetOf():
            return f"{{{', '.join(map(_literal, literal.items))}}}"


def _number(value: float) -> str:
    return repr(value)


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode()


def show_duration(us: int) -> str:
    """A duration in the largest unit of which it is a whole number."""
    unit = next(unit for unit, length in DURATIONS.items() if us % length == 0 and (us or unit == "us"))
    return f"{us // DURATIONS[unit]}{unit}"


def _pattern(pattern: Text | Regex) -> str:
    if isinstance(pattern, Text):
        return _text(pattern.value)
    escaped = pattern.pattern.replace("/", "\\/")
    return f"/{escaped}/"


def _targets(targets: Iterable[Target]) -> str:
    return ", ".join(map(show_target, targets))


def show_target(target: Target) -> str:
    """A target as it is written in rules."""
    if target.space == "operation" or (target.glob == "*" and target.space != "tool"):
        return target.space
    return f"{target.space}.{target.glob}"


def _history(question: History) -> str:
    calls = _targets(question.targets)
    calls = f"{calls}.args.{'.'.join(question.argument)}" if question.argument else calls
    bound = f" {question.bound.kind.upper()} {show_target(question.bound.target)}" if question.bound else ""
    return f"{question.asks}({calls}){bound} WITHIN {show_duration(question.within_us)}{_per(question.per)}"


def _per(scope: Scope) -> str:
    return "" if scope == "session" else f" PER {scope}"


def _approvals(rule: Require) -> str:
    people = f" BY role {', '.join(map(_text, rule.roles))}" if rule.roles else ""
    time = f" WITHIN {show_duration(rule.within_us)}" if rule.within_us is not None else ""
    return f"{rule.count} approval{'s' if rule.count != 1 else ''}{people}{time}"


def _when(statement: Risk | Allow | Deny | Require) -> str:
    condition = f" IF {show_expression(statement.condition)}" if statement.condition is not None else ""
    return condition + (f" UNLESS {show_expression(statement.unless)}" if statement.unless is not None else "")


def _because(reason: str) -> str:
    return f" BECAUSE {_text(reason)}" if reason else ""


def _notes(rule: Allow | Deny | Require | Limit | Redact) -> str:
    return _because(rule.because) + (f" AS {_text(rule.name)}" if rule.name else "")
