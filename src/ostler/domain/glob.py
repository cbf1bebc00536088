"""Names with `*` in them: what they match, and whether one matches nothing that another does not."""

from collections.abc import Sequence
from functools import lru_cache

ANY = "*"


def matches(glob: str, name: str) -> bool:
    """Whether `*`, which stands for any text, dots and nothing included, can be filled in so that `glob` is `name`.

    Linear: each piece between stars is looked for where it can stand first, which never spoils what comes after it.
    """
    if ANY not in glob:
        return glob == name
    first, *middle, last = glob.split(ANY)
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    place, end = len(first), len(name) - len(last)
    for piece in middle:
        found = name.find(piece, place, end)
        if found < 0:
            return False
        place = found + len(piece)
    return True


@lru_cache(maxsize=4096)
def matches_any(globs: tuple[str, ...], name: str) -> bool:
    """Whether one of them matches. The same few questions are asked at every call, so answers are kept."""
    if name in globs or ANY in globs:
        return True
    return any(matches(glob, name) for glob in globs)


def is_within(narrow: str, wide: str) -> bool:
    """Whether everything that `narrow` matches is matched by `wide`, too. Exact.

    `narrow` is looked at as if it were a name: a star in it is a letter that only a star of `wide` can cover, and what
    covers that letter covers any text in its place.
    """
    return matches(wide, narrow)


def outside(narrow: Sequence[str], wide: Sequence[str]) -> list[str]:
    """Those of `narrow` that match something which none of `wide` matches. Exact.

    Several of `wide` never cover together what none of them covers alone, for the reason given at `is_within`.
    """
    return [one for one in narrow if not any(is_within(one, other) for other in wide)]
