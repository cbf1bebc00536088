"""One run of one contender, and many turn about."""

import asyncio
import contextlib
import shutil
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.peers.contenders import Contender
from benchmarks.peers.gauge import Gauge, Mark, NoStore, SqliteFile, postgres_database
from benchmarks.peers.load import Task
from benchmarks.peers.process import PeerFailed, peer

LONG_S = 20.0
"""A run that takes longer is not repeated: what disturbs it has evened out."""
PATIENCE_S = 600.0
SOURCE = "source"
"""The name of the file that keeps what Ostler wrote last, for the floors."""
COUNTED_STEPS = 40
COUNTED_TOGETHER = 4


class Cost(msgspec.Struct, frozen=True):
    """Per step, but for the speed: CPU of the workers and of the server in µs, commits, bytes that the store has grown
    by, and bytes written on the way there (of a SQLite file: all that was written; of PostgreSQL: its WAL).
    """

    steps_per_s: float
    cpu_us: float
    server_us: float | None
    commits: float | None
    disk: float
    written: float
    wall_s: float

    @property
    def cpu_all_us(self) -> float:
        return self.cpu_us + (self.server_us or 0)


class Row(msgspec.Struct):
    """Medians of the runs of one contender with one load; no cost and a reason if it failed."""

    contender: Contender
    sessions: int
    steps: int
    runs: int
    cost: Cost | None
    failure: str = ""


class Place(msgspec.Struct, frozen=True):
    """Where runs take place: a folder for files, the URL of a PostgreSQL server or none, the Python of the peers."""

    folder: Path
    server: str
    python: Path

    @contextlib.asynccontextmanager
    async def store(self, contender: Contender, name: str) -> AsyncIterator[Gauge]:
        """A store that nothing has been written to."""
        if contender.store == "postgres":
            async with postgres_database(
                self.server, f"bench_{contender.module}{contender.variant}_{name}"
            ) as database:
                yield database
        elif contender.store == "sqlite":
            file = SqliteFile(self.folder / f"{contender.module}-{contender.tool}-{contender.variant}-{name}.db")
            try:
                yield file
            finally:
                for path in self.folder.glob(f"{file.path.name}*"):
                    path.unlink()
        else:
            yield NoStore()


async def run(place: Place, contender: Contender, task: Task) -> tuple[Cost, dict[str, str]]:
    """Measure one run; also says the versions of what ran. Raises `PeerFailed`."""
    try:
        async with asyncio.timeout(PATIENCE_S), place.store(contender, "run") as gauge:
            task = Task(**{**task.__dict__, "store": gauge.url})
            async with peer(contender, task, place.python) as process:
                await process.says("ready")
                before = await gauge.mark()
                process.go()
                said = await process.says("result")
            after = await gauge.mark()
            if contender.module == "ostler" and isinstance(gauge, SqliteFile) and not task.counts:
                shutil.copy(gauge.path, place.folder / SOURCE)
    except TimeoutError:
        raise PeerFailed(f"not finished after {PATIENCE_S:.0f} s") from None
    return _cost(said["result"], before, after, task), said["versions"]


def _cost(said: dict[str, float], before: Mark, after: Mark, task: Task) -> Cost:
    total = task.sessions * task.steps
    wal = None if after.wal is None or before.wal is None else after.wal - before.wal
    server = None if after.cpu_s is None or before.cpu_s is None else after.cpu_s - before.cpu_s
    commits = None if after.commits is None or before.commits is None else after.commits - before.commits
    if task.counts:
        commits = int(said["commits"])
    return Cost(
        steps_per_s=total / said["wall_s"],
        cpu_us=said["cpu_s"] / total * 1e6,
        server_us=None if server is None else server / total * 1e6,
        commits=None if commits is None else commits / total,
        disk=(after.disk - before.disk) / total,
        written=(said["written"] if wal is None else wal) / total,
        wall_s=said["wall_s"],
    )


async def side_by_side(
    place: Place,
    contenders: Sequence[Contender],
    task: Task,
    rounds: int,
    *,
    versions: dict[str, str],
    progress: Callable[[str], None],
) -> list[Row]:
    """All contenders turn about, for so many rounds; one that fails is reported and the others go on."""
    costs: dict[Contender, list[Cost]] = {contender: [] for contender in contenders}
    failures: dict[Contender, str] = {}
    for number in range(rounds):
        for contender in contenders:
            known = costs[contender]
            if contender in failures or (known and known[-1].wall_s > LONG_S):
                continue
            progress(f"{task.sessions} × {task.steps} steps, round {number + 1} of {rounds}: {contender.title}")
            try:
                cost, found = await run(place, contender, _task_of(contender, task, place))
            except Exception as error:  # whatever ails one of them, the others are measured and this is reported
                failures[contender] = str(error) or repr(error)
                progress(f"failed: {contender.title}: {failures[contender]}")
                continue
            known.append(cost)
            versions |= found
    return [
        await _row(place, contender, task, costs[contender], failures.get(contender, "")) for contender in contenders
    ]


def _task_of(contender: Contender, task: Task, place: Place) -> Task:
    """The floor writes what Ostler wrote, in as many commits as a step must have: everybody's at once."""
    if contender.module == "floor":
        return Task(**{**task.__dict__, "variant": str(place.folder / SOURCE), "tool": str(2 * task.steps)})
    return Task(**{**task.__dict__, "variant": contender.variant, "tool": contender.tool})


async def _row(place: Place, contender: Contender, task: Task, costs: list[Cost], failure: str) -> Row:
    if failure or not costs:
        return Row(contender, task.sessions, task.steps, len(costs), None, failure)
    medians: list[Any] = [_median([getattr(cost, name) for cost in costs]) for name in Cost.__struct_fields__]
    middle = Cost(*medians)
    if contender.store == "sqlite" and contender.module != "floor" and not task.in_turn:
        middle = msgspec.structs.replace(middle, commits=await _counted(place, contender, task))
    if contender.module == "floor":
        middle = msgspec.structs.replace(middle, commits=2 / task.sessions)
    return Row(contender, task.sessions, task.steps, len(costs), middle)


async def _counted(place: Place, contender: Contender, task: Task) -> float | None:
    """The commits of a step, counted in a shorter run of its own because counting costs time."""
    steps = COUNTED_STEPS if task.sessions == 1 else COUNTED_TOGETHER
    short = Task(**{**task.__dict__, "steps": min(steps, task.steps), "counts": True})
    try:
        cost, _ = await run(place, contender, _task_of(contender, short, place))
    except PeerFailed:
        return None
    return cost.commits


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
