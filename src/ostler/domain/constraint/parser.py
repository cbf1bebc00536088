"""Reads the text of a policy."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ostler.domain.constraint.builder import Builder, Misread
from ostler.domain.constraint.grammar import GRAMMAR
from ostler.domain.constraint.problems import Problem, problem_at, refusal
from ostler.domain.constraint.syntax import Parsed, Position, Statement, expressions_of, parts_of
from ostler.domain.suggest import did_you_mean

if TYPE_CHECKING:
    from lark.exceptions import UnexpectedInput

TEXT_BYTES_MAX = 256 * 1024
STATEMENTS_MAX = 10_000
NESTING_MAX = 100
PROBLEMS_MAX = 10
EXPECTATIONS_MAX = 5

_BEGINS = re.compile(r"[ \t]*(?:policy|default|input|risk|allow|deny|require|limit|redact)(?!\w)", re.IGNORECASE)
_WORD = re.compile(r"[\w*][\w.*-]*|\S?")
_CALLED = {
    "$END": "the end",
    "COLON": "':'",
    "COMMA": "','",
    "COMPARES": "a comparison",
    "EQUALS": "'=='",
    "FUNCTION": "a function",
    "HISTORY": "a question about the past",
    "LBRACE": "'{'",
    "LPAR": "'('",
    "LSQB": "'['",
    "MINUS": "'-'",
    "MONEY": "an amount of money",
    "OVER": "'/'",
    "PATH": "a name",
    "PLUS": "'+'",
    "QUANTITY": "a number",
    "RBRACE": "'}'",
    "REGEX": "/an expression/",
    "RPAR": "')'",
    "RSQB": "']'",
    "TARGET": "which calls",
    "TEXT": '"a text"',
    "TIMES": "'*'",
    "WORD": "a name",
}


def parse(text: str, source: str = "policy") -> Parsed:
    """Read the text of a policy. Without a `policy` line its name is the stem of `source`, and its version 1.

    Raises `PolicyInvalid` with up to 10 mistakes. What names and types mean is for `check` to say.
    """
    problems = list(_misfits(text))
    if problems:
        raise refusal(source, "", problems)
    rest, parsed = text, None
    while len(problems) < PROBLEMS_MAX:
        try:
            parsed = _read(rest, source)
            break
        except Misread as fault:
            problems.append(problem_at(fault.at, fault.message, fault.hint))
            rest = _without_statement(rest, fault.at)
    if problems or parsed is None:
        raise refusal(source, text, problems)
    return parsed


def _misfits(text: str) -> list[Problem]:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        return [Problem(line, error.start - text.rfind("\n", 0, error.start), "half a character, which no text has")]
    if size > TEXT_BYTES_MAX:
        return [Problem(1, 1, f"{size:,} bytes in one policy, at most {TEXT_BYTES_MAX:,}", "divide it into layers")]
    return []


def _read(text: str, source: str) -> Parsed:
    """The policy; raises `Misread` at the first mistake."""
    parsed = _parsed(text)
    return parsed if parsed.name else Parsed(_stem(source), parsed.version, parsed.default, parsed.statements)


@lru_cache(maxsize=32)
def _parsed(text: str) -> Parsed:
    from lark.exceptions import UnexpectedInput

    try:
        parsed: Parsed = _reader()(text)
    except UnexpectedInput as error:
        raise _explained(error, text) from None
    if len(parsed.statements) > STATEMENTS_MAX:
        raise Misread(parsed.statements[STATEMENTS_MAX].at, f"more than {STATEMENTS_MAX:,} statements")
    for statement in parsed.statements:
        _check_depth(statement)
    return parsed


@lru_cache(maxsize=1)
def _reader() -> Callable[[str], Any]:
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", lexer="contextual", maybe_placeholders=True, transformer=Builder()).parse


def _check_depth(statement: Statement) -> None:
    """Everything that walks a tree later may recur: so no tree is deep."""
    level = list(expressions_of(statement))
    depth = 0
    while level:
        depth += 1
        if depth > NESTING_MAX:
            raise Misread(level[0].at, f"nested more than {NESTING_MAX} deep")
        level = [part for expression in level for part in parts_of(expression)]


def _stem(source: str) -> str:
    stem = re.sub(r"\W+", "-", source.replace("\\", "/").rpartition("/")[2].removesuffix(".rules")).strip("-")
    return stem if stem and not stem[0].isdigit() else f"policy-{stem}".rstrip("-")


def _explained(error: "UnexpectedInput", text: str) -> Misread:
    """What was there instead of what was expected, and what was probably meant."""
    expected = {name for kind in ("accepts", "expected", "allowed") for name in getattr(error, kind, None) or ()}
    at, found = _place(error, text)
    words = _words(expected)
    if len(words) > EXPECTATIONS_MAX:
        message = f"{found!r} makes no sense here" if found else "something is missing here"
    else:
        message = f"expected {' or '.join(words)}{f', found {found!r}' if found else ' here'}"
    near = did_you_mean(found, [name.lstrip("_") for name in sorted(expected - _CALLED.keys())])
    return Misread(at, message, f"did you mean {near!r}?" if near else "")


def _place(error: "UnexpectedInput", text: str) -> tuple[Position, str]:
    """Where a mistake is and the word that stands there; at the end of the text, no word."""
    token = getattr(error, "token", None)
    if token is None or token.type != "$END":
        word = _WORD.match(text, getattr(error, "pos_in_stream", None) or 0)
        return Position(error.line, error.column), word.group() if word else ""
    ending = text.rstrip()
    return Position(ending.count("\n") + 1, len(ending) - ending.rfind("\n")), ""


def _words(expected: set[str]) -> list[str]:
    keywords = sorted(name.lstrip("_") for name in expected - _CALLED.keys())
    return list(dict.fromkeys(_CALLED[name] for name in sorted(expected & _CALLED.keys()))) + keywords


def _without_statement(text: str, at: Position) -> str:
    """The text with the statement of a mistake blanked, so that mistakes in others are found where they are.

    A keyword that begins a statement where something else was expected speaks of the statement before it.
    """
    lines = text.split("\n")
    first = min(at.line, len(lines)) - 1
    if first > 0 and _BEGINS.match(lines[first]) and not lines[first][: at.column - 1].strip():
        first -= 1 if any(_BEGINS.match(line) for line in lines[:first]) else 0
    last = first + 1
    while first > 0 and not _BEGINS.match(lines[first]):
        first -= 1
    while last < len(lines) and not _BEGINS.match(lines[last]):
        last += 1
    return "\n".join([*lines[:first], *[""] * (last - first), *lines[last:]])
