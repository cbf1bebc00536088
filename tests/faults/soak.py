"""Faults without end: `python -m tests.faults.soak --minutes 60 --seed 1` (`make soak`).

Workers run sessions on a PostgreSQL of their own while, at random, workers are killed or frozen, the server crashes,
the clock of one is wrong and models are refused. Afterwards every invariant is checked, and nothing may have grown.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.cluster import Cluster, private_cluster, reachable
from tests.faults.crew import Crew, clock_off, crew
from tests.runtime.processes import Child

WORKERS = 3
LEASE_S = 2.0
MEMORY_GROWTH = 1.3
"""How much more memory than at its first measurement a worker may take in the end, beyond `MEMORY_SLACK`."""
MEMORY_SLACK = 24 * 1024 * 1024
FILES_SLACK = 8


class Soak:
    """One long run; `chance` decides everything."""

    def __init__(self, team: Crew, cluster: Cluster, chance: random.Random) -> None:
        self._team = team
        self._cluster = cluster
        self._chance = chance
        self._living: list[Child] = []
        self._measured: dict[int, list[tuple[int, int]]] = {}
        self.faults: dict[str, int] = {}
        self.sessions = 0
        self._number = 0

    async def run(self, end: float) -> None:
        self._steady = await self._team.hire(concurrency=200)  # spared, so that its growth can be seen
        for _ in range(WORKERS - 1):
            await self._hire()
        while time.monotonic() < end:
            await self._some_work()
            await asyncio.sleep(self._chance.random() * 0.7)
            self._measure()
            fault = self._chance.choice([self._kill, self._freeze, self._crash, self._nothing])
            self.faults[fault.__name__] = self.faults.get(fault.__name__, 0) + 1
            await fault()
        await self._team.over(within_s=300)
        for worker in (self._steady, *self._living):
            await self._team.stop(worker)

    def growth(self) -> tuple[list[tuple[int, int]], list[str]]:
        """Memory and open files of the spared worker over time, and what is wrong with them."""
        measured = self._measured[self._steady.pid]
        first, last = measured[len(measured) // 4], measured[-1]
        wrong = []
        if last[0] > first[0] * MEMORY_GROWTH + MEMORY_SLACK:
            wrong.append(f"memory grew from {first[0]} to {last[0]} bytes")
        if last[1] > first[1] + FILES_SLACK:
            wrong.append(f"open files grew from {first[1]} to {last[1]}")
        return measured, wrong

    async def _some_work(self) -> None:
        stories = ("clerk", "refused", "short", "nap 0.5", "hog 0.2", f"hog {LEASE_S * 1.5}")
        weights = (10, 10, 10, 3, 2, 0.3)
        for story in self._chance.choices(stories, weights, k=3):
            count = self._chance.randint(1, 8) if not story.startswith("hog") else 1
            self.sessions += len(await self._team.start(story, count))

    async def _hire(self) -> None:
        self._number += 1
        off = self._chance.choice((0.0, 0.0, 3600.0, -300.0))
        env = clock_off(offset_s=off) if off else {}
        host = f"host{self._number}" if self._chance.random() < 0.5 else ""
        self._living.append(await self._team.hire(host=host, env=env, seed=self._number))

    async def _kill(self) -> None:
        self._living.pop(self._chance.randrange(len(self._living))).signal(signal.SIGKILL)
        await self._hire()

    async def _freeze(self) -> None:
        worker = self._chance.choice(self._living)
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_S * 1.5 * self._chance.random())
        worker.signal(signal.SIGCONT)

    async def _crash(self) -> None:
        if self._chance.random() < 0.5:
            return
        await asyncio.to_thread(self._cluster.stop, "immediate")
        await asyncio.to_thread(self._cluster.start)
        await reachable(self._cluster)

    async def _nothing(self) -> None:
        await asyncio.sleep(self._chance.random())

    def _measure(self) -> None:
        process = Path(f"/proc/{self._steady.pid}")
        pages = int((process / "statm").read_text().split()[1])
        files = len(list((process / "fd").iterdir()))
        self._measured.setdefault(self._steady.pid, []).append((pages * os.sysconf("SC_PAGE_SIZE"), files))


async def soak(cluster: Cluster, folder: Path, *, seconds: float, seed: int) -> tuple[Soak, list[str]]:
    """How it went, and everything that is wrong."""
    async with crew(cluster.url(schema=f"soak_{seed}"), folder, lease_s=LEASE_S, pause_s=0.1) as team:
        run = Soak(team, cluster, random.Random(seed))
        await run.run(time.monotonic() + seconds)
        return run, [*await team.judge(), *run.growth()[1]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    wished = parser.parse_args()
    sys.stdout.write(f"seed {wished.seed}, {wished.minutes:g} minutes\n")
    with private_cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        run, problems = asyncio.run(soak(cluster, Path(folder) / "crew", seconds=wished.minutes * 60, seed=wished.seed))
    measured, _ = run.growth()
    memory, files = zip(*measured, strict=True)
    sys.stdout.write(
        f"{run.sessions} sessions; faults {run.faults}; memory of the spared worker {memory[0] >> 20} to "
        f"{memory[-1] >> 20} MB, open files {files[0]} to {files[-1]}; {len(problems)} problems\n"
    )
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
