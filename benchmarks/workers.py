"""How throughput grows with worker processes on one PostgreSQL, and where the CPU goes.

`python -m benchmarks.workers` starts 1, 2 and 4 workers, gives them the same sessions to run, and prints steps/s and
the CPU of the workers and of the server, as shares of the machine. It needs a server on this machine.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

import msgspec

from benchmarks.__main__ import Instant, lookup
from benchmarks.peers.gauge import PostgresDatabase, postgres_database
from ostler import Agent, Limits, Runtime
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session.state import ENDED

WORKERS = (1, 2, 4)
SESSIONS = 400
STEPS = 50
CONCURRENCY = 100
DEADLINE_S = 600


class Scaled(msgspec.Struct):
    """One run. CPU is in seconds; `cores` is how many the machine has."""

    workers: int
    sessions: int
    steps: int
    wall_s: float
    workers_cpu_s: float
    server_cpu_s: float
    cores: int

    @property
    def steps_per_s(self) -> float:
        return self.sessions * self.steps / self.wall_s

    def share(self, cpu_s: float) -> float:
        """Of all that the machine could have done meanwhile."""
        return cpu_s / (self.wall_s * self.cores)


def agent(steps: int) -> Agent:
    return Agent("bench", tools=[lookup], model=Instant(steps), limits=Limits(steps=steps + 1))


async def serve(url: str, steps: int) -> None:
    """A worker, until its input ends."""
    async with Runtime.open(url, agents=[agent(steps)], worker=False) as runtime:
        await runtime.work(WorkerSettings(concurrency=CONCURRENCY, queues=("bench",)))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def measure(database: PostgresDatabase, workers: int, sessions: int, steps: int) -> Scaled:
    """Run the sessions on so many workers."""
    async with Runtime.open(database.url, worker=False) as runtime:
        processes = [await _start(database.url, steps) for _ in range(workers)]
        for process in processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        before, cpu_s, started = await database.mark(), _cpu_s(processes), time.perf_counter()
        spec, model = agent(steps), Instant(steps).ref
        await asyncio.gather(*(runtime.start(spec, "Count.", model=model) for _ in range(sessions)))
        async with asyncio.timeout(DEADLINE_S):
            store = runtime.parts.store
            while len(await store.streams("default", statuses=ENDED, limit=sessions)) < sessions:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # waiting for the log would cost the server more than it measures
        wall_s = time.perf_counter() - started
        cpu_s, after = _cpu_s(processes) - cpu_s, await database.mark()
        for process in processes:
            process.stdin.close()  # type: ignore[union-attr]
            await process.wait()
    server_cpu_s = (after.cpu_s or 0) - (before.cpu_s or 0)
    return Scaled(workers, sessions, steps, wall_s, cpu_s, server_cpu_s, os.cpu_count() or 1)


async def _start(url: str, steps: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.workers", "--serve", url, "--steps", str(steps)),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


def _cpu_s(processes: list[asyncio.subprocess.Process]) -> float:
    """What these processes have used so far."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def run(server: str, sessions: int, steps: int, workers: tuple[int, ...] = WORKERS) -> list[Scaled]:
    """One run for each number of workers, each in a database of its own."""
    results = []
    for count in workers:
        async with postgres_database(server, "ostler_workers") as database:
            results.append(await measure(database, count, sessions, steps))
    return results


def table(results: list[Scaled]) -> str:
    """As Markdown."""
    lines = [
        "| workers | steps/s | growth | CPU µs/step: workers | server | machine's CPU: workers | server | together |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        total = result.sessions * result.steps
        shares = [result.workers_cpu_s, result.server_cpu_s, result.workers_cpu_s + result.server_cpu_s]
        lines.append(
            f"| {result.workers} | {result.steps_per_s:,.0f} | {result.steps_per_s / results[0].steps_per_s:.2f} × "
            f"| {result.workers_cpu_s / total * 1e6:.0f} | {result.server_cpu_s / total * 1e6:.0f} | "
            + " | ".join(f"{result.share(cpu_s):.0%}" for cpu_s in shares)
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.workers", description=__doc__)
    parser.add_argument("--postgres", default="postgresql://postgres@127.0.0.1:5432/postgres")
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.steps))
        return
    results = asyncio.run(run(options.postgres, options.sessions, options.steps))
    print(json.dumps(msgspec.to_builtins(results), indent=2) if options.json else table(results))


if __name__ == "__main__":
    main()
