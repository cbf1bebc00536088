"""What is wrong with the text of a policy: where, what, and what was probably meant."""

from collections.abc import Iterable

import msgspec

from ostler.domain.constraint.syntax import Position
from ostler.kernel.errors import PolicyInvalid

EXCERPT_CHARACTERS_MAX = 160


class Problem(msgspec.Struct, frozen=True, gc=False):
    """One mistake. `line` and `column` count from 1; `hint` says what to do about it, if that is known."""

    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def problem_at(at: Position, message: str, hint: str = "") -> Problem:
    """A mistake at a position."""
    return Problem(at.line, at.column, message, hint)


def refusal(source: str, text: str, problems: Iterable[Problem]) -> PolicyInvalid:
    """The error that names every mistake in a text, each with its line and a caret below the place."""
    lines = text.split("\n")
    ordered = sorted(set(problems), key=lambda problem: (problem.line, problem.column, problem.message))
    return PolicyInvalid(
        source, [(f"line {one.line}, column {one.column}", f"{one}{_excerpt(lines, one)}") for one in ordered]
    )


def _excerpt(lines: list[str], problem: Problem) -> str:
    """The line of a mistake with a caret below the place; nothing if the line is too long to be of help."""
    if not 1 <= problem.line <= len(lines):
        return ""
    line = lines[problem.line - 1].replace("\t", " ").rstrip()
    if not line or len(line) > EXCERPT_CHARACTERS_MAX or not line.isprintable():
        return ""
    return f"\n      {line}\n      {' ' * (problem.column - 1)}^"
