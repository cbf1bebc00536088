"""Rota answers the questions of a duty roster: when is it due, how long is it, who is free."""

from rota.cron import Cron, CronError
from rota.duration import DurationError, format_duration, parse_duration
from rota.interval import Interval, merge, subtract, total
from rota.planner import clashes, common_slots, coverage, free_slots
from rota.table import render

__all__ = [
    "Cron",
    "CronError",
    "DurationError",
    "Interval",
    "clashes",
    "common_slots",
    "coverage",
    "format_duration",
    "free_slots",
    "merge",
    "parse_duration",
    "render",
    "subtract",
    "total",
]
