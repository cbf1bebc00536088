"""One validation under way: its problems, and the limits within which it stays."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

DEPTH_MAX = 64
STEPS_MAX = 50_000
PROBLEMS_MAX = 20


class Problem(NamedTuple):
    """What is wrong, and where: `options.host`, `argv.0`, empty at the top."""

    path: str
    message: str


Validator: TypeAlias = Callable[[Any], tuple[Any, list[Problem]]]
"""Returns the value with the defaults of missing properties filled in, and every problem that it has (the first 20).

The value given is never changed; it is itself what returns if there is nothing to fill in or anything is wrong.
"""

Path: TypeAlias = "tuple[Path, str | int] | None"
"""The way to a value from its last step to the first; only spelt out when there is something to say of it."""

Check: TypeAlias = Callable[[Any, Path, "Run"], Any]
"""Blames what is wrong with the value at this path, and returns it with the defaults filled in (itself if none are)."""


class Run(list[Problem]):
    """The problems found so far, and how many steps it took."""

    steps = 0

    def blame(self, path: Path, message: str) -> None:
        self.append(Problem(dotted(path), message))

    def trial(self, check: Check, value: Any, path: Path) -> tuple[Any, list[Problem]]:
        """What `check` says, kept apart from the problems of this run.

        Only alternatives within alternatives multiply the work, so this is where it is bounded.
        """
        self.steps += 1 + (len(value) if isinstance(value, list | dict) else 0)
        if self.steps > STEPS_MAX:
            raise TooIntricate
        before = len(self)
        filled = check(value, path, self)
        found = self[before:]
        del self[before:]
        return filled, found


class TooIntricate(Exception):
    """More alternatives than anybody waits for."""


def make_validator(check: Check) -> Validator:
    """A validator out of a check, with bounds of its own for every value."""

    def validate(value: Any) -> tuple[Any, list[Problem]]:
        run = Run()
        try:
            _check_is_json(value, None, run, 1)
            filled = value if run else check(value, None, run)
        except (RecursionError, TooIntricate):
            return value, [Problem("", "this is too large or too intricate to be checked: make it smaller")]
        if not run:
            return filled, []
        more = len(run) - PROBLEMS_MAX
        return value, run[:PROBLEMS_MAX] + ([Problem("", f"and {more} more problems")] if more > 0 else [])

    return validate


_SCALARS = frozenset((str, int, bool, type(None)))


def _check_is_json(value: Any, path: Path, run: Run, depth: int) -> None:
    """Blames what JSON cannot say. After this, checks can trust the types and the depth."""
    kind = type(value)
    if kind in _SCALARS or (kind is float and math.isfinite(value)):
        return
    if kind is not dict and kind is not list:
        run.blame(path, f"expected JSON, which has no {value if kind is float else kind.__name__}")
    elif depth > DEPTH_MAX:
        run.blame(path, f"nested more than {DEPTH_MAX} levels deep")
    elif kind is dict:
        for name, item in value.items():
            if type(name) is not str:
                run.blame(path, "expected the names of properties to be strings")
            elif type(item) not in _SCALARS:
                _check_is_json(item, (path, name), run, depth + 1)
    else:
        for number, item in enumerate(value):
            if type(item) not in _SCALARS:
                _check_is_json(item, (path, number), run, depth + 1)


def dotted(path: Path) -> str:
    """A path as people write it: `options.host`, `argv.0`."""
    parts: list[str] = []
    while path is not None:
        path, name = path
        parts.append(str(name)[:60])
    return ".".join(reversed(parts))
