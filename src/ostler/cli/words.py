"""How times, sums and texts of any length are put into a few words."""

import re
from datetime import datetime

import msgspec

from ostler.kernel.errors import UsageError

CHARS_MAX = 400
"""What is shown of a text where no terminal's edge ends it sooner."""


def short(text: str, chars_max: int = CHARS_MAX) -> str:
    """The text on one line, and no longer than that. What could steer a terminal is dropped."""
    plain = "".join(char for char in " ".join(text[: chars_max * 2].split()) if char.isprintable())
    is_whole = len(plain) <= chars_max and len(text) <= chars_max * 2
    return plain if is_whole else plain[: chars_max - 1] + "…"


def whole(value: object) -> str:
    """A value with nothing left out, line breaks included. What could steer a terminal is written as an escape."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in _value(value))


def arguments(values: dict[str, object]) -> str:
    """Arguments as `name=value`, on one line."""
    return short(" ".join(f"{name}={_value(value)}" for name, value in values.items()))


def duration(span_us: int) -> str:
    """A span of time, in the largest unit that says it well."""
    seconds = span_us / 1e6
    for unit, size, digits in (("d", 86400, 0), ("h", 3600, 0), ("min", 60, 0), ("s", 1, 1)):
        if seconds >= 2 * size or (unit == "s" and seconds >= 1):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{span_us / 1000:.0f} ms"


def span_us(text: str) -> int:
    """The span of time that a person wrote (`90d`, `12h`, `30m`, `10s`), in microseconds. Raises `UsageError`."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no span of time.", hint="Write 90d, 12h, 30m or 10s.")
    return int(match[1]) * {"d": 86_400, "h": 3_600, "m": 60, "s": 1}[match[2]] * 1_000_000


_SPAN = re.compile(r"(\d{1,6})([dhms])")


def age(moment: str, now: datetime) -> str:
    """How long ago an RFC 3339 moment was; a dash if there is none."""
    if not moment:
        return "–"
    return duration(int((now - datetime.fromisoformat(moment)).total_seconds() * 1e6))


def until(moment: str, now: datetime) -> str:
    """How long it is until an RFC 3339 moment, and the moment."""
    left_us = int((datetime.fromisoformat(moment) - now).total_seconds() * 1e6)
    return f"{f'in {duration(left_us)}' if left_us > 0 else 'over'} ({moment})"


def usd(microusd: int) -> str:
    """A sum of money; nothing spent is a dash, and something never nothing."""
    if 0 < microusd < 50:
        return "<$0.0001"
    return f"${microusd / 1e6:.4f}" if microusd else "–"


def count(number: int, noun: str) -> str:
    """`1 step`, `2 steps`, `1 memory`, `2 memories`."""
    nouns = f"{noun}s" if _CONSONANT_Y.search(noun) is None else f"{noun[:-1]}ies"
    return f"{number:,} {noun if number == 1 else nouns}"


_CONSONANT_Y = re.compile(r"[^aeiou]y$")


def _value(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
