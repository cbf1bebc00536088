"""The same agent loop on Ostler and on its peers, on this machine, in one run: what a step costs, and what is left when
a process is killed or stopped.

The peers have an environment of their own, made by `make bench-peers`. Without a PostgreSQL server, or where a peer
fails, the rest goes on, and the page says so.
"""

import argparse
import asyncio
import os
import platform
import shlex
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.peers import contenders as known
from benchmarks.peers.contenders import Contender
from benchmarks.peers.gauge import postgres_settings
from benchmarks.peers.load import Task
from benchmarks.peers.measure import Place, Row, side_by_side
from benchmarks.peers.page import Results, page, plain, write
from benchmarks.peers.picture import picture
from benchmarks.peers.process import ENVIRONMENT
from benchmarks.peers.sweep import Tally, kill, spread, stop
from benchmarks.store import Rate
from benchmarks.store import measure as measure_store
from ostler import OstlerError

LONE = Task("", 1, 400, text="english")
TOGETHER = Task("", 200, 50, text="english")
IN_TURN = (10, 50, 200)
IN_TURN_STEPS = 200
"""Steps of all sessions of a loop that keeps nothing, one session after another."""
KILLS = 20
STOPS = 6
SEED = 2026
AT_ONCE = 2
"""Sweeps that run side by side; nothing is timed there."""
LOCAL = "postgresql://postgres@127.0.0.1:5432/postgres"
DOCS = Path(__file__).parents[2] / "docs" / "reference"
PARTS = ("lone", "together", "loops", "store", "kills", "stops")
APPENDERS = (200, 1000)


class Choice(msgspec.Struct, frozen=True):
    """What of it all is run."""

    place: Place
    rounds: int
    kills: int
    stops: int
    parts: tuple[str, ...]
    only: tuple[str, ...]
    is_quick: bool

    def among(self, contenders: list[Contender]) -> list[Contender]:
        """Those who can take part here and were asked for."""
        return [
            one
            for one in contenders
            if (one.is_here or not self.is_quick)
            and (one.store != "postgres" or self.place.server)
            and (not self.only or one.module in self.only)
        ]


async def run(choice: Choice) -> Results:
    began = time.monotonic()
    versions: dict[str, str] = {}
    choice, settings = await _with_server(choice)
    results = Results(
        command=f"python -m benchmarks.peers {shlex.join(sys.argv[1:])}".strip(),
        machine=f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        server=settings,
        versions=versions,
    )
    lone, together = LONE, TOGETHER
    if choice.is_quick:
        lone, together = Task("", 1, 20, text="english"), Task("", 5, 4, text="english")

    async def measure(contenders: list[Contender], task: Task) -> list[Row]:
        chosen = choice.among(contenders)
        return await side_by_side(choice.place, chosen, task, choice.rounds, versions=versions, progress=say)

    if "lone" in choice.parts:
        results.lone = await measure(known.DURABLE, lone)
    if "together" in choice.parts:
        results.together = await measure([one for one in known.DURABLE if not one.variant], together)
    if "loops" in choice.parts:
        for steps in IN_TURN[:1] if choice.is_quick else IN_TURN:
            task = Task("", max(1, IN_TURN_STEPS // steps), steps, text="english", in_turn=True)
            results.loops += await measure(known.LOOPS, task)
    if "store" in choice.parts:
        results.rates = await measure_stores(choice)
    if "kills" in choice.parts:
        results.kills = await sweep(choice, "kill")
    if "stops" in choice.parts:
        results.stops = await sweep(choice, "stop")
    results.minutes = (time.monotonic() - began) / 60
    return results


async def measure_stores(choice: Choice) -> list[Rate]:
    """Group commit of each store."""
    rates = []
    for url in ("sqlite:", choice.place.server):
        for appenders in APPENDERS if url else ():
            say(f"group commit of {appenders} appenders: {url}")
            try:
                rates.append(await measure_store(url, appenders, rounds=choice.rounds))
            except (OSError, OstlerError) as error:
                say(f"failed: group commit: {error}")
    return rates


async def _with_server(choice: Choice) -> tuple[Choice, dict[str, str]]:
    """The choice, without PostgreSQL if there is none to be had, and the settings of the server."""
    place = choice.place
    if not place.server:
        return choice, {}
    try:
        return choice, await postgres_settings(place.server)
    except (OSError, ImportError) as error:
        say(f"without PostgreSQL: {error}")
        return msgspec.structs.replace(choice, place=msgspec.structs.replace(place, server="")), {}


async def sweep(choice: Choice, what: str) -> list[Tally]:
    place, gate = choice.place, asyncio.Semaphore(AT_ONCE)

    async def one(contender: Contender) -> Tally:
        async with gate:
            say(f"{what}: {contender.title}")
            folder = Path(tempfile.mkdtemp(dir=place.folder))
            try:
                if what == "kill":
                    return await kill(contender, place.store, place.python, folder, spread(choice.kills, SEED))
                return await stop(contender, place.store, place.python, folder, choice.stops)
            except Exception as error:  # whatever ails one of them, the others are measured and this is reported
                say(f"failed: {contender.title}: {error!r}")
                return Tally(contender, problems=[f"the sweep broke off: {error!r}"])

    return list(await asyncio.gather(*(one(contender) for contender in choice.among(known.MORTALS))))


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians are shown")
    parser.add_argument(
        "--postgres", default=os.environ.get("OSTLER_TEST_POSTGRES", LOCAL), help="a server, or nothing"
    )
    parser.add_argument("--kills", type=int, default=KILLS, help="processes killed, of each")
    parser.add_argument("--stops", type=int, default=STOPS, help="processes stopped, of each")
    parser.add_argument("--python", type=Path, default=ENVIRONMENT / "bin" / "python", help="that of the peers")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part (may be repeated)")
    parser.add_argument("--only", action="append", help="only this contender, by its module (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="a small run of Ostler and the floor alone")
    parser.add_argument("--json", type=Path, help="also write the results there")
    parser.add_argument("--from", dest="source", type=Path, help="show the results of an earlier run")
    parser.add_argument("--note", default="", help="what a reader of the page must know of how it came about")
    parser.add_argument("--write", action="store_true", help="write the page and its picture")
    options = parser.parse_args()
    if options.source:
        results = msgspec.json.decode(options.source.read_bytes(), type=Results)
    else:
        with tempfile.TemporaryDirectory() as folder:
            server = "" if options.quick else options.postgres
            place = Place(Path(folder), server, options.python)
            parts = tuple(options.part or (PARTS[:3] if options.quick else PARTS))
            choice = Choice(
                place, options.rounds, options.kills, options.stops, parts, tuple(options.only or ()), options.quick
            )
            results = asyncio.run(run(choice))
    results.note = options.note or results.note
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    print(plain(results))
    if options.write:
        write(DOCS / "benchmarks.md", page(results))
        (DOCS / "benchmarks.svg").write_text(picture(results))


if __name__ == "__main__":
    main()
