"""Durations as people write them: `90m`, `1h 30m`, `2d`, `-15m`."""

import re
from datetime import timedelta

SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_LONG_NAMES = {"week": "w", "day": "d", "hour": "h", "minute": "m", "min": "m", "second": "s", "sec": "s"}


class DurationError(ValueError):
    """The text is not a duration."""


def parse_duration(text: str) -> timedelta:
    """`1h 30m` as a timedelta. Units may be long (`2 days`) and come in any order, but each only once."""
    rest = text.strip().lower()
    negative = rest.startswith("-")
    if negative:
        rest = rest[1:]
    seconds, seen, end = 0.0, set(), 0
    for part in _PART.finditer(rest):
        if rest[end : part.start()].strip(" ,"):
            break
        unit = _unit(part.group(2))
        if unit in seen:
            raise DurationError(f"{text!r} names {part.group(2)!r} twice")
        seen.add(unit)
        seconds += float(part.group(1)) * SECONDS[unit]
        end = part.end()
    if not seen or rest[end:].strip():
        raise DurationError(f"{text!r} is not a duration like '1h 30m'")
    return timedelta(seconds=-seconds if negative else seconds)


def format_duration(duration: timedelta, parts: int = 2) -> str:
    """The shortest honest text with at most `parts` units: `1h 30m`; what is smaller is cut off."""
    seconds = int(abs(duration).total_seconds())
    words = []
    for unit, size in SECONDS.items():
        count, seconds = divmod(seconds, size)
        if count > 0:
            words.append(f"{count}{unit}")
        if len(words) == parts:
            break
    sign = "-" if words and duration < timedelta(0) else ""
    return sign + (" ".join(words) or "0s")


def _unit(word: str) -> str:
    if word in SECONDS:
        return word
    singular = word[:-1] if word.endswith("s") else word
    if singular not in _LONG_NAMES:
        raise DurationError(f"{word!r} is no unit of time")
    return _LONG_NAMES[singular]
