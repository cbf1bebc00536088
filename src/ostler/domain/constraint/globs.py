"""Texts with stars, matched in linear time: a star is any text at all, everything else is itself, and case matters."""

from collections.abc import Callable, Iterable
from functools import lru_cache

Match = Callable[[str], bool]


@lru_cache(maxsize=4096)
def matcher(glob: str) -> Match:
    """Whether a whole text matches one glob."""
    if "*" not in glob:
        return glob.__eq__
    first, *middle, last = glob.split("*")
    if not any(middle):
        least = len(first) + len(last)
        return lambda text: len(text) >= least and text.startswith(first) and text.endswith(last)
    return lambda text: _matches(text, first, middle, last)


def _matches(text: str, first: str, middle: Iterable[str], last: str) -> bool:
    """Each part is looked for from where the one before it ended: the leftmost place leaves the most room."""
    end = len(text) - len(last)
    if len(first) > end or not text.startswith(first) or not text.endswith(last):
        return False
    start = len(first)
    for part in middle:
        found = text.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return True


def matches_any(text: str, globs: Iterable[str]) -> bool:
    """Whether a whole text matches one of these globs."""
    return any(matcher(glob)(text) for glob in globs)
