"""The texts that the conditions of a policy can tell apart."""

import re
from collections.abc import Iterator
from datetime import date, timedelta

from ostler.app.policy.sorts import Inputs
from ostler.app.policy.words import Pattern
from ostler.domain.constraint.kinds import KNOWN
from ostler.domain.constraint.regex import searcher
from ostler.domain.constraint.syntax import (
    Call,
    Compare,
    Expression,
    Has,
    In,
    ListOf,
    Matches,
    Name,
    Number,
    Regex,
    SetOf,
    Text,
    walk,
)

_EXACT_LENGTH_MAX = 1_000
_DIFFERENT = ("one", "another")
"""What two texts of a call may be, to be the same or not."""
_PIECE = re.compile(
    r"(?:\\(?P<escaped>.)|\[(?P<first>[^\]^])[^\]]*\]|(?P<plain>[^()^$|]))"  # what matches one letter
    r"(?:\{(?P<times>\d{1,3})[^}]*\}|[+*?])?"  # how often
)
_CLASSES = {"d": "1", "w": "a", "s": " ", "b": "", "A": "", "z": ""}


def key_of(name: Name) -> str:
    """The unknown that a name stands for: `args.host`, `inputs.region`, `principal.id`."""
    return ".".join(name.path) if name.path in KNOWN or name.path[0] == "args" else f"inputs.{name.path[0]}"


def questions_about_texts(expression: Expression, inputs: Inputs) -> Iterator[tuple[str, Pattern]]:
    """The patterns that a condition holds against the texts of a call, by the unknown's name."""
    for part in walk(expression):
        match part:
            case Compare():
                for one, other in ((part.left, part.right), (part.right, part.left)):
                    yield from _of_comparison(one, other, inputs)
            case In(item=item, collection=collection) | Has(item=item, collection=collection):
                yield from _of_membership(item, collection, inputs)
            case Matches(text=text, pattern=Text(value=glob)):
                yield from _pattern_for(text, Pattern.glob(glob))
            case Matches(text=Name() as text, pattern=Regex(pattern=pattern)):
                for example in examples_of(pattern):
                    yield from _pattern_for(text, Pattern(example))
            case _:
                pass


def _of_comparison(one: Expression, other: Expression, inputs: Inputs) -> Iterator[tuple[str, Pattern]]:
    match other:
        case Text(value=text):
            # What stands beside it in the alphabet tells before from after.
            nearby = [text, text + "0", text[:-1], _day_beside(text, 1), _day_beside(text, -1)]
            for exact in nearby[: 1 if isinstance(one, Call) else None]:
                if exact is not None:
                    yield from _pattern_for(one, Pattern(exact))
        case Number(value=number) if isinstance(one, Call) and one.function == "LENGTH":
            for length in (number - 1, number, number + 1):
                if 0 <= length <= _EXACT_LENGTH_MAX and isinstance(one.argument, Name):
                    yield key_of(one.argument), Pattern("x" * int(length))
        case Name(path=path):
            default = inputs[path[0]].default if path[0] in inputs else None
            if isinstance(default, Text):
                yield from _pattern_for(one, Pattern(default.value))
            for text in _DIFFERENT:
                yield from _pattern_for(one, Pattern(text))
        case _:
            pass


def _of_membership(item: Expression, collection: Expression, inputs: Inputs) -> Iterator[tuple[str, Pattern]]:
    if isinstance(collection, Name) and len(collection.path) == 1 and collection.path[0] in inputs:
        collection = inputs[collection.path[0]].default or collection
    if isinstance(collection, ListOf | SetOf):
        for one in collection.items:
            if isinstance(one, Text):
                yield from _pattern_for(item, Pattern.glob(one.value))


def _pattern_for(text: Expression, pattern: Pattern) -> Iterator[tuple[str, Pattern]]:
    match text:
        case Name():
            yield key_of(text), pattern
        case Call(function="LOWER", argument=Name() as inner):
            yield key_of(inner), Pattern(pattern.text, pattern.is_exact, is_folded=True)
        case _:
            pass


def examples_of(pattern: str) -> list[str]:
    """Texts that match a regular expression, as far as they are easy to guess: one for each alternative."""
    matches = searcher(pattern)
    guesses = ["".join(_guess(piece) for piece in _PIECE.finditer(way)) for way in [pattern, *pattern.split("|")]]
    return list(dict.fromkeys(guess for guess in guesses if matches(guess)))


def _guess(piece: re.Match[str]) -> str:
    letter = piece["plain"] or piece["first"] or _CLASSES.get(piece["escaped"], piece["escaped"])
    return ("x" if piece["plain"] == "." else letter) * int(piece["times"] or 1)


def _day_beside(text: str, days: int) -> str | None:
    """The day so many days after the one that a text names; None if it names none."""
    try:
        return (date.fromisoformat(text) + timedelta(days=days)).isoformat()
    except (ValueError, OverflowError):
        return None


def texts_compared(condition: Expression) -> Iterator[tuple[str, str]]:
    """The arguments and facts that a condition compares with one another: what tells one apart tells the other."""
    for part in walk(condition):
        if isinstance(part, Compare) and isinstance(part.left, Name) and isinstance(part.right, Name):
            yield key_of(part.left), key_of(part.right)
