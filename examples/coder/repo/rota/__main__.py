"""`python -m rota next "30 9 * * mon-fri"` and `python -m rota free 9:00-17:00 10:00-11:30 13:00-14:00`."""

import argparse
from datetime import datetime
from itertools import islice

from rota import Cron, CronError, DurationError, Interval, format_duration, free_slots, parse_duration, render


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rota", description="When is it due, and who is free?")
    commands = parser.add_subparsers(dest="command", required=True)
    upcoming = commands.add_parser("next", help="the next moments of a cron expression")
    upcoming.add_argument("expression")
    upcoming.add_argument("--count", type=int, default=5)
    free = commands.add_parser("free", help="the free time of a day: the day, then what is taken of it")
    free.add_argument("day")
    free.add_argument("busy", nargs="*")
    free.add_argument("--at-least", default="15m")
    options = parser.parse_args(argv)
    try:
        print(_next(options) if options.command == "next" else _free(options))
    except (CronError, DurationError, ValueError) as error:
        parser.error(str(error))
    return 0


def _next(options: argparse.Namespace) -> str:
    now = datetime.now()
    moments = islice(Cron.parse(options.expression).upcoming(now), options.count)
    return render([(f"{moment:%a %Y-%m-%d %H:%M}", f"in {format_duration(moment - now)}") for moment in moments])


def _free(options: argparse.Namespace) -> str:
    slots = free_slots(map(_clock, options.busy), _clock(options.day), parse_duration(options.at_least))
    rows = [(f"{slot.start:%H:%M}", f"{slot.end:%H:%M}", format_duration(slot.length)) for slot in slots]
    return render(rows, header=("from", "to", "free")) if rows else "no free time"


def _clock(text: str) -> Interval:
    start, end = (datetime.strptime(part, "%H:%M") for part in text.split("-", 1))
    return Interval(start, end)


if __name__ == "__main__":
    raise SystemExit(main())
