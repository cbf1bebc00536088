"""What sessions cost that do nothing but wait: memory of a worker, and how soon an approved one goes on.

`python -m benchmarks.idle` fills a store with 100,000 sessions that wait for approval, and compares a worker on it with
one on an empty store. The worker is a process of its own, told what to do line by line.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ostler import Agent, Rule, Runtime, Session, ToolRequest, tool
from ostler.adapters.store.sqlite import SqliteStore
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import Reply
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.domain.session.events import SessionEvent
from ostler.domain.session.state import State
from ostler.kernel.event import GENESIS, Record, StreamId
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.ports import Append
from ostler.runtime.journal import chain, standing_of
from ostler.testing import Scripted, calls

GROUP = 1_000
SAMPLES = 20
begun: dict[str, int] = {}
"""When each session was seen to go on, in nanoseconds of the machine's monotonic clock."""


@tool(effect="once")
async def pay(request: ToolRequest, amount: int = 0) -> str:
    """Pay a bill."""
    session = request.key.partition("/")[0]
    begun[session] = time.monotonic_ns()
    print(f"begun {session} {begun[session]}", flush=True)
    return "paid"


ASKING = calls(("pay", {"amount": 12}))
CLERK = Agent(
    "clerk", tools=[pay], model=Scripted(ASKING, "done"), rules=[Rule("require", "pay", because="it is money")]
)


async def fill(path: Path, sessions: int) -> list[str]:
    """Add sessions that wait for approval, as a worker would have left them; returns their ids."""
    store = await SqliteStore.open(path)
    names = [make_id("ses", number, bytes(CHANCE_BYTES)) for number in range(sessions)]
    decided = _until_the_question()
    for start in range(0, sessions, GROUP):
        await asyncio.gather(*(store.append(_waiting(name, decided)) for name in names[start : start + GROUP]))
    await store.close()
    return names


def _until_the_question() -> tuple[list[SessionEvent], State]:
    """The events of a session up to its question, and the state then."""
    model = CLERK.model
    assert isinstance(model, Scripted)
    wishes: list[command.Start | command.Proceed | command.ReplyReceived] = [
        command.Start(1, "ses_template", CLERK.spec, model.ref, "Pay the bill.", LOCAL_USER),
        command.Proceed(2),
        command.ReplyReceived(3, "1", Reply("", ASKING.calls, "tool_calls", model=model.ref.name)),
    ]
    state: State | None = None
    events: list[SessionEvent] = []
    for wish in wishes:
        decision = decide(wish, state)
        state, events = decision.state, events + decision.events
    assert state is not None
    assert state.status == "waiting"
    return events, state


def _waiting(name: str, decided: tuple[list[SessionEvent], State]) -> Append:
    (first, *others), state = decided
    stream = StreamId(LOCAL_USER.tenant, name)
    records: list[Record] = chain(stream, 0, GENESIS, 3, [msgspec.structs.replace(first, session=name), *others])
    return Append(stream, 0, records, standing_of(state, at_us=3, before=None))


def memory_kb() -> int:
    """The resident memory of this process."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])


async def serve(path: Path) -> None:
    """A worker on a store. Says how large it is, once it has run a session and so has everything it needs."""
    async with Runtime.open(f"sqlite:///{path}", agents=[CLERK]) as runtime:
        await (await runtime.start(Agent("warm", model=Scripted("done", name="warm")), "Warm up.")).result()
        print(f"memory {memory_kb()}", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            session = await runtime.session(line)
            asked = time.monotonic_ns()
            await session.approve("1.1")
            await session.result()
            print(f"resumed {(begun[line] - asked) / 1e6}", flush=True)


class Worker:
    """The process of `serve`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def on(cls, path: Path) -> "Worker":
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.idle", "--serve", path),
                cwd=Path(__file__).parents[1],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        )

    async def says(self, word: str) -> list[str]:
        """The rest of the next line that begins with this word."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            first, *rest = line.decode().split()
            if first == word:
                return rest
        raise EOFError(f"the worker ended without a word of {word!r}")

    async def approve(self, name: str) -> float:
        """Milliseconds from an approval in the worker's own process to the call going on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n".encode())
        return float((await self.says("resumed"))[0])

    async def leave(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        await self._process.wait()


class Cost(msgspec.Struct):
    """Memory in MB, times in ms; medians and maxima over some sessions."""

    sessions: int
    store_mb: float
    empty_mb: float
    memory_mb: float
    own_ms: tuple[float, float]
    other_ms: tuple[float, float]
    queries_ms: dict[str, float]


async def measure(folder: Path, sessions: int) -> Cost:
    """A worker on an empty store, and one on a store full of waiting sessions."""
    empty = await Worker.on(folder / "empty.db")
    empty_kb = int((await empty.says("memory"))[0])
    await empty.leave()
    path = folder / "idle.db"
    names = await fill(path, sessions)
    chosen = names[:: max(1, sessions // (2 * SAMPLES))]
    worker = await Worker.on(path)
    memory = int((await worker.says("memory"))[0])
    own = [await worker.approve(name) for name in chosen[:SAMPLES]]
    async with Runtime.open(f"sqlite:///{path}", worker=False) as runtime:
        other = [await _approve_from_here(await runtime.session(name), worker) for name in chosen[SAMPLES:][:SAMPLES]]
        queries = await _time_queries(runtime.parts.store, names[-1])
    await worker.leave()
    size = path.stat().st_size / 1e6
    return Cost(sessions, size, empty_kb / 1024, memory / 1024, _spread(own), _spread(other), queries)


async def _approve_from_here(session: Session, worker: Worker) -> float:
    asked = time.monotonic_ns()
    await session.approve("1.1")
    moment = int((await worker.says("begun"))[1])
    await session.result()
    return (moment - asked) / 1e6


async def _time_queries(store: Any, name: str) -> dict[str, float]:
    tenant = LOCAL_USER.tenant
    queries: dict[str, Callable[[], Awaitable[object]]] = {
        "one by its id": lambda: store.streams(tenant, prefix=name, limit=2),
        "the newest 50": lambda: store.streams(tenant, prefix="ses_", limit=50),
        "50 that wait": lambda: store.streams(tenant, prefix="ses_", statuses=["waiting"], limit=50),
        "none that failed": lambda: store.streams(tenant, prefix="ses_", statuses=["failed"], limit=50),
        "none of an agent": lambda: store.streams(tenant, prefix="ses_", queue="nobody", limit=50),
        "claim what is due": lambda: store.claim("nobody", now_us=2**62, limit=1, queues=["nobody"]),
    }
    times = {}
    for what, ask in queries.items():
        started = time.perf_counter()
        await ask()
        times[what] = (time.perf_counter() - started) * 1e3
    return times


def _spread(times: Sequence[float]) -> tuple[float, float]:
    return statistics.median(times), max(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.idle", description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        cost = asyncio.run(measure(Path(folder), options.sessions))
    if options.json:
        print(json.dumps(msgspec.to_builtins(cost), indent=2))
        return
    print(f"{cost.sessions:,} sessions wait for approval in a store of {cost.store_mb:.0f} MB")
    print(f"memory of a worker       {cost.memory_mb:8.1f} MB  (on an empty store {cost.empty_mb:.1f} MB)")
    print(f"approved → goes on       {cost.own_ms[0]:8.2f} ms  (at most {cost.own_ms[1]:.2f} ms)")
    print(f"… from another process   {cost.other_ms[0]:8.2f} ms  (at most {cost.other_ms[1]:.2f} ms)")
    for what, milliseconds in cost.queries_ms.items():
        print(f"{what:24} {milliseconds:8.2f} ms")


if __name__ == "__main__":
    main()
