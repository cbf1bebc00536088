"""Moments of one day, for short tests."""

from datetime import datetime

from rota import Interval


def at(clock: str) -> datetime:
    return datetime.strptime(f"2024-05-06 {clock}", "%Y-%m-%d %H:%M")


def span(start: str, end: str) -> Interval:
    return Interval(at(start), at(end))
