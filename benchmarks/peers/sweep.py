"""Processes killed and processes stopped for too long: what came of the calls that were under way.

The session's tool adds a line to a file outside, which nothing takes back, and returns a token that stands in the line.
So the file says what was done, and the history that a process returns says what it believes was done.
"""

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.peers.contenders import Contender
from benchmarks.peers.gauge import Gauge
from benchmarks.peers.load import ANSWER, BEGUN, Task
from benchmarks.peers.process import PeerFailed, Process, peer

STEPS = 12
LEASE_S = 2
LOOK_S = 0.0005
"""How often the file is looked at."""
STEP_S = 0.012
"""About how long a step takes, over which the moments of the kills are spread."""
PAUSE_S = 0.002
LONG_PAUSE_S = 0.1
"""How long a tool is busy before its effect and again after it: the long one in a process that is to be stopped, so
that it is stopped there and not while it holds a lock of the store.
"""
PATIENCE_S = 30.0
LATE_S = 8.0
"""How long a process that was stopped is given, once it goes on."""

Store = Callable[[Contender, str], AbstractAsyncContextManager[Gauge]]


class Tally(msgspec.Struct):
    """Over all runs: those never finished, effects done twice, effects never done, outcomes recorded as unknown, and
    histories that a process returned and that are not the one that was kept. `late` effects are those of a process
    that went on after another had taken its place.
    """

    contender: Contender
    runs: int = 0
    unfinished: int = 0
    twice: int = 0
    never: int = 0
    unknown: int = 0
    late: int = 0
    conflicts: int = 0
    problems: list[str] = []


class Effects:
    """The file outside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[list[str]]:
        with contextlib.suppress(FileNotFoundError):
            return [line.split() for line in self.path.read_text().splitlines()]
        return []

    async def reach(self, count: int) -> None:
        """Return when there are so many lines."""
        await self._until(lambda: len(self.lines()) >= count)

    async def begin(self, count: int) -> None:
        """Return when so many calls have begun, and the last of them has not yet had its effect."""
        begun = Path(f"{self.path}{BEGUN}")
        await self._until(lambda: begun.exists() and len(begun.read_text().splitlines()) >= count)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110 - another process makes it hold
                await asyncio.sleep(LOOK_S)

    def tally(self, into: Tally, outputs: list[str] | None) -> None:
        """Count them; `outputs` None is a session that was not finished, of which only what was done twice is known."""
        counts = Counter(sku for sku, _, _ in self.lines())
        into.twice += sum(count - 1 for count in counts.values())
        if outputs is not None:
            into.never += sum(f"0.{number}" not in counts for number in range(1, STEPS + 1))
            into.unknown += outputs.count("unknown")


async def kill(contender: Contender, store: Store, python: Path, folder: Path, moments: Sequence[float]) -> Tally:
    """Runs that are each killed once with SIGKILL, and gone on with: the n-th after its n-th effect and so many seconds
    more (the first before any effect, and round again after the last).
    """
    tally = Tally(contender, problems=[])
    for number, moment in enumerate(moments):
        effects = Effects(folder / f"{_file(contender)}-killed-{number}")
        async with store(contender, f"kill_{number}") as gauge, _counted(tally, effects) as histories:
            task = _task(contender, gauge.url, effects)
            async with _both(contender, task, python) as (first, second):
                first.go()
                await effects.reach(number % STEPS)
                await asyncio.sleep(moment)
                first.send(signal.SIGKILL)
                await first.end()
                histories.append(await _finish(second))
    return tally


def spread(runs: int, seed: int) -> list[float]:
    """Moments spread over a step."""
    chance = random.Random(seed)
    return [chance.uniform(0, STEP_S) for _ in range(runs)]


async def stop(contender: Contender, store: Store, python: Path, folder: Path, runs: int) -> Tally:
    """`runs` runs, each stopped with SIGSTOP for longer than its lease, by turns just after an effect and just before
    one; then another process takes its place and finishes, and then it goes on.
    """
    tally = Tally(contender, problems=[])
    for number in range(runs):
        effects = Effects(folder / f"{_file(contender)}-stopped-{number}")
        async with store(contender, f"stop_{number}") as gauge, _counted(tally, effects) as histories:
            task = _task(contender, gauge.url, effects, pause_s=LONG_PAUSE_S)
            async with _both(contender, task, python) as (first, second):
                first.go()
                await (effects.begin if number % 2 else effects.reach)(2 + number % (STEPS - 4))
                first.send(signal.SIGSTOP)
                await asyncio.sleep(LEASE_S + 1)
                kept = await _finish(second)
                before = len(effects.lines())
                first.send(signal.SIGCONT)
                believed = await _late(first)
                tally.late += len(effects.lines()) - before
            stored = await _read(contender, task, python)
            histories.append(stored)
            tally.conflicts += sum(history not in (None, stored) for history in (kept, believed))
    return tally


def _task(contender: Contender, url: str, effects: Effects, *, pause_s: float = PAUSE_S) -> Task:
    path = str(effects.path)
    return Task(url, 1, STEPS, effects=path, lease_s=LEASE_S, tool=contender.tool, pause_s=pause_s)


@contextlib.asynccontextmanager
async def _counted(tally: Tally, effects: Effects) -> AsyncIterator[list[list[str]]]:
    """One run, which adds the history that it ends with to the list; one that fails is counted as never finished."""
    histories: list[list[str]] = []
    tally.runs += 1
    try:
        yield histories
    except (PeerFailed, TimeoutError) as error:
        tally.unfinished += 1
        tally.problems.append(str(error) or f"not finished after {PATIENCE_S:.0f} s")
    effects.tally(tally, histories[0] if histories else None)


@contextlib.asynccontextmanager
async def _both(contender: Contender, task: Task, python: Path) -> AsyncIterator[tuple[Process, Process]]:
    """The process that begins the session and the one that is to go on with it, both with everything imported."""
    async with peer(contender, task, python) as first, peer(contender, _recovering(task), python) as second:
        await asyncio.gather(first.says("ready"), second.says("ready"))
        yield first, second


def _recovering(task: Task) -> Task:
    return Task(**{**task.__dict__, "recover": True, "pause_s": PAUSE_S})


async def _finish(process: Process) -> list[str]:
    """What the process says came of the session's calls. Raises `PeerFailed`, `TimeoutError`."""
    process.go()
    async with asyncio.timeout(PATIENCE_S):
        return _outputs(await process.says("result"))


async def _late(process: Process) -> list[str] | None:
    """As `_finish`, for a process that may well give up or never end."""
    with contextlib.suppress(PeerFailed, TimeoutError):
        async with asyncio.timeout(LATE_S):
            return _outputs(await process.says("result"))
    return None


async def _read(contender: Contender, task: Task, python: Path) -> list[str]:
    """The history that the store has, as a process says that comes last."""
    async with peer(contender, _recovering(task), python) as third:
        await third.says("ready")
        return await _finish(third)


def _outputs(said: dict[str, Any]) -> list[str]:
    (session,) = said["sessions"]
    if session["answer"] != ANSWER:
        raise PeerFailed(f"the session ended with {session['answer']!r}")
    return [str(output) for output in session["outputs"]]


def _file(contender: Contender) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in contender.title)
