"""Stretches of time, and arithmetic with sets of them.

An interval includes its start and excludes its end, so that 9:00-10:00 and 10:00-11:00 touch without overlapping.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, order=True)
class Interval:
    """From `start` until just before `end`."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError(f"an interval must end after it starts: {self.start} to {self.end}")

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def overlaps(self, other: "Interval") -> bool:
        return self.start < other.end and other.start <= self.end

    def common(self, other: "Interval") -> "Interval | None":
        """What both cover, if anything."""
        if not self.overlaps(other):
            return None
        return Interval(max(self.start, other.start), min(self.end, other.end))


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The same stretches of time with as few intervals as possible, in order. Touching ones become one."""
    merged: list[Interval] = []
    for interval in sorted(intervals):
        last = merged[-1] if merged else None
        if last is not None and interval.start <= last.end:
            merged[-1] = Interval(last.start, max(last.end, interval.end))
        else:
            merged.append(interval)
    return merged


def subtract(whole: Interval, taken: Iterable[Interval]) -> list[Interval]:
    """What remains of `whole` when everything in `taken` is cut out of it."""
    remaining = []
    cursor = whole.start
    for cut in merge(taken):
        if cut.end <= whole.start or cut.start >= whole.end:
            continue
        if cut.start > cursor:
            remaining.append(Interval(cursor, cut.start))
        cursor = max(cursor, cut.end)
    if cursor < whole.end:
        remaining.append(Interval(cursor, whole.end))
    return remaining


def total(intervals: Iterable[Interval]) -> timedelta:
    """How much time they cover together, counting doubly covered time once."""
    return sum((interval.length for interval in merge(intervals)), timedelta(0))
