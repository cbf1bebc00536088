"""Who is free when, and where plans collide."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from rota.interval import Interval, merge, subtract


def free_slots(busy: Iterable[Interval], within: Interval, at_least: timedelta = timedelta(0)) -> list[Interval]:
    """The gaps in `busy` inside `within` that last at least `at_least`."""
    return [gap for gap in subtract(within, busy) if gap.length >= at_least]


def common_slots(
    diaries: Mapping[str, Sequence[Interval]], within: Interval, at_least: timedelta = timedelta(0)
) -> list[Interval]:
    """When everybody is free: the slots in which nobody's diary has an entry."""
    everything = [entry for diary in diaries.values() for entry in diary]
    return free_slots(everything, within, at_least)


def clashes(diary: Iterable[Interval]) -> list[tuple[Interval, Interval]]:
    """Every pair of entries that overlap, in order of their start."""
    found: list[tuple[Interval, Interval]] = []
    running: list[Interval] = []
    for entry in sorted(diary):
        running = [earlier for earlier in running if earlier.end > entry.start]
        found.extend((earlier, entry) for earlier in running)
        running.append(entry)
    return found


def coverage(shifts: Iterable[Interval], within: Interval) -> float:
    """Which part of `within` is covered by at least one shift, 0 to 1."""
    covered = [shift.common(within) for shift in merge(shifts)]
    seconds = sum(part.length.total_seconds() for part in covered if part is not None)
    return seconds / within.length.total_seconds()
