"""Regular expressions in linear time, by RE2; without that package no policy with one is compiled."""

from collections.abc import Callable
from functools import lru_cache

PATTERN_CHARACTERS_MAX = 1000


class BadPattern(Exception):
    """A pattern that cannot be used, and why."""


@lru_cache(maxsize=1024)
def searcher(pattern: str) -> Callable[[str], bool]:
    """Whether some part of a text matches. Raises `BadPattern`, also if RE2 is not installed."""
    try:
        import re2  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise BadPattern("regular expressions need the extra 'regex': pip install 'ostler[regex]'") from None
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise BadPattern(f"a pattern of {len(pattern)} characters, at most {PATTERN_CHARACTERS_MAX}")
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it cannot be read"
        raise BadPattern(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
    return lambda text: compiled.search(text) is not None
