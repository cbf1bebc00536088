"""Cron expressions: `minute hour day month weekday`, as in crontab(5)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_WEEKDAYS = "sun mon tue wed thu fri sat".split()
_SEARCH_DAYS = 366 * 8
_SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


class CronError(ValueError):
    """The text is not a cron expression, or one that never comes true."""


@dataclass(frozen=True)
class Cron:
    """The minutes at which something is due. Weekdays count from 0, Sunday; 7 is Sunday, too."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    @classmethod
    def parse(cls, text: str) -> "Cron":
        fields = _SHORTHANDS.get(text.strip().lower(), text).split()
        if len(fields) != 5:
            raise CronError(f"{text!r} has {len(fields)} fields, not 5: minute hour day month weekday")
        minute, hour, day, month, weekday = fields
        return cls(
            minutes=_values(minute, 0, 59),
            hours=_values(hour, 0, 23),
            days=_values(day, 1, 31),
            months=_values(month, 1, 12, _MONTHS),
            weekdays=frozenset(value % 7 for value in _values(weekday, 0, 7, _WEEKDAYS)),
            either_day=not day.startswith("*") and not weekday.startswith("*"),
        )

    def falls_on(self, day: date) -> bool:
        """Whether anything is due on this day. If both day fields are restricted, either is enough (crontab(5))."""
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        fits = (in_month or in_week) if self.either_day else (in_month and in_week)
        return fits and day.month in self.months

    def matches(self, moment: datetime) -> bool:
        return moment.minute in self.minutes and moment.hour in self.hours and self.falls_on(moment.date())

    def next_after(self, moment: datetime) -> datetime:
        """The first due minute later than `moment`."""
        return next(self.upcoming(moment))

    def upcoming(self, moment: datetime) -> Iterator[datetime]:
        """Every due minute later than `moment`, in order, for ever."""
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        barren = 0
        while barren < _SEARCH_DAYS:
            barren += 1
            if self.falls_on(midnight.date()):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        due = midnight.replace(hour=hour, minute=minute)
                        if due > moment:
                            barren = 0
                            yield due
            midnight += timedelta(days=1)
        raise CronError("this expression names a day that does not exist")


def _values(field: str, lowest: int, highest: int, names: list[str] | None = None) -> frozenset[int]:
    """The numbers that one field (`*/15`, `1-5`, `mon,wed`) stands for."""
    values: set[int] = set()
    for part in field.lower().split(","):
        span, _, step_text = part.partition("/")
        step = _number(step_text or "1", 1, highest, None)
        if span == "*":
            first, last = lowest, highest
        elif "-" in span:
            first, last = (_number(end, lowest, highest, names) for end in span.split("-", 1))
        else:
            first = _number(span, lowest, highest, names)
            last = highest if step_text else first
        if last < first:
            raise CronError(f"{part!r} runs backwards")
        values.update(range(first, last + 1, step))
    return frozenset(values)


def _number(text: str, lowest: int, highest: int, names: list[str] | None) -> int:
    if names and text[:3] in names:
        return names.index(text[:3]) + (1 if names is _MONTHS else 0)
    if not text.isdecimal():
        raise CronError(f"{text!r} is not a number")
    if not lowest <= int(text) <= highest:
        raise CronError(f"{text} is not between {lowest} and {highest}")
    return int(text)
