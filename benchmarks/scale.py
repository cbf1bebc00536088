"""What a large log costs: how soon a worker begins, how long lists take, and how fast views are made anew.

`python -m benchmarks.scale --events 1000000` fills a store with sessions that have ended and some that wait, as workers
would have left them, and measures commands on it, each as a process of its own. `--store` names another store than a
SQLite file of its own; one that has as many events already is not filled again.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ostler.app.bootstrap import Parts, connect
from ostler.app.settings import Settings
from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.policy import Policy, Rule
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import ModelRef, Price, Reply, Usage
from ostler.domain.session import commands as command
from ostler.domain.session.decide import decide
from ostler.domain.session.events import SESSION_CODEC
from ostler.domain.session.state import State
from ostler.domain.tool import ToolSpec, succeeded
from ostler.kernel.event import GENESIS, Record, StreamId, link
from ostler.kernel.ids import CHANCE_BYTES, make_id
from ostler.ports import Append, Standing
from ostler.runtime.journal import standing_of
from ostler.testing import calls
from ostler.views.catalogue import VIEWS

AT_ONCE = 200
"""Sessions that run at the same time, and so lie mixed in the log."""

DEADLINE_S = 60
SECOND_US = 1_000_000
STEPS = (2, 3, 5, 8, 13, 21)
SHARE_WAITING = 20
"""Every so many-th session waits for an approval; all others have ended."""

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}, "amount": {"type": "integer"}}}
TOOLS = (
    ToolSpec("search", "Search the ledger.", parameters=SCHEMA, effect="read"),
    ToolSpec("pay", "Pay a bill.", parameters=SCHEMA),
)
AGENTS = [
    AgentSpec(
        name, instructions="You keep the books. " * 20, tools=TOOLS, policy=Policy(rules=(Rule("require", "pay"),))
    )
    for name in ("clerk", "auditor", "buyer")
]
MODEL = ModelRef("scripted", "scripted", "model-1", price=Price(3_000_000, 15_000_000))
USED = Usage(input_tokens=2_400, output_tokens=180, cache_read_tokens=1_200)
THOUGHT = "The ledger should have the invoice under its number; I look there first. " * 3
FOUND = json.dumps([{"invoice": f"2026-{number:04}", "amount": 40 + number, "paid": False} for number in range(8)])


class Part(msgspec.Struct):
    """What one commit of a session appends: events after `began_us`, and where the session stands then."""

    after_us: int
    events: list[bytes]
    standing: Standing


def parts_of(agent: AgentSpec, steps: int, *, ends: bool) -> list[Part]:
    """A session of so many steps, commit by commit, decided as in life. The first event names the session `SESSION`."""
    state: State | None = None
    parts: list[Part] = []

    def do(wish: Any) -> None:
        nonlocal state
        decision = decide(wish, state)
        before = parts[-1].standing if parts else None
        state = decision.state
        standing = standing_of(state, at_us=wish.at_us, before=before)
        parts.append(Part(wish.at_us, [SESSION_CODEC.encode(event) for event in decision.events], standing))

    moments = itertools.count(1, SECOND_US)
    do(command.Start(next(moments), "SESSION", agent, MODEL, "Find out which invoices are open. " * 4, LOCAL_USER))
    do(command.Proceed(next(moments)))
    for step in range(1, steps + 1):
        reply = calls(("search", {"query": f"invoice {step}", "amount": step}), text=THOUGHT, usage=USED)
        do(command.ReplyReceived(next(moments), str(step), reply))
        do(command.ToolReturned(next(moments), f"{step}.1", succeeded(FOUND)))
    last = Reply("All are paid. " * 10, usage=USED) if ends else calls(("pay", {"amount": 12}), usage=USED)
    do(command.ReplyReceived(next(moments), str(steps + 1), last))
    return parts


class Playing:
    """A session that is being written."""

    def __init__(self, name: str, start_us: int, parts: Sequence[Part]) -> None:
        self.stream = StreamId(LOCAL_USER.tenant, name)
        self._start_us = start_us
        self._parts = parts
        self._place = 0
        self._seq, self._hash = 0, GENESIS

    def next(self) -> Append | None:
        """What it appends next; None if there is nothing more."""
        if self._place == len(self._parts):
            return None
        part = self._parts[self._place]
        at_us, expected, records = self._start_us + part.after_us, self._seq, []
        for data in part.events:
            if not self._seq:
                data = data.replace(b'"SESSION"', f'"{self.stream.name}"'.encode())
            self._seq += 1
            self._hash = link(self._hash, self.stream, self._seq, at_us, data)
            records.append(Record(self.stream, self._seq, at_us, data, self._hash))
        self._place += 1
        standing = part.standing
        if standing.due_us is not None:
            standing = msgspec.structs.replace(standing, due_us=None)  # nobody is to run it
        return Append(self.stream, expected, records, standing)


def sessions(chance: random.Random) -> Iterator[Playing]:
    """One session after another, for as long as anybody asks."""
    kinds = [parts_of(agent, steps, ends=True) for agent in AGENTS for steps in STEPS]
    waiting = [parts_of(agent, 2, ends=False) for agent in AGENTS]
    start_us = int(time.time() * SECOND_US) - 20 * 86_400 * SECOND_US
    for number in itertools.count():
        start_us += chance.randrange(60 * SECOND_US)
        name = make_id("ses", start_us // 1000, chance.randbytes(CHANCE_BYTES))
        yield Playing(name, start_us, chance.choice(kinds if number % SHARE_WAITING else waiting))


async def fill(parts: Parts, events: int) -> None:
    """Append sessions until there are so many events; sessions that are begun are finished."""
    coming = sessions(random.Random(7))
    playing = [next(coming) for _ in range(AT_ONCE)]
    written = await parts.store.head()
    while playing:
        appends = [(one, append) for one in playing if (append := one.next()) is not None]
        await asyncio.gather(*(parts.store.append(append) for _, append in appends))
        written += sum(len(append.records) for _, append in appends)
        playing = [one for one, _ in appends]
        if written < events:
            playing += [next(coming) for _ in range(AT_ONCE - len(playing))]


async def add_due(parts: Parts) -> None:
    """One session that a worker can take now."""
    now_us = parts.clock.now_us()
    one = Playing(make_id("ses", now_us // 1000, os.urandom(CHANCE_BYTES)), now_us, parts_of(AGENTS[0], 2, ends=True))
    append = one.next()
    assert append is not None
    await parts.store.append(msgspec.structs.replace(append, standing=Standing(AGENTS[0].name, "queued", now_us)))


def seconds_of(url: str, *arguments: str) -> float:
    """How long one command line on the store takes."""
    started = time.perf_counter()
    subprocess.run(_command(url, *arguments), stdout=subprocess.DEVNULL, env=_environment(), check=True)
    return time.perf_counter() - started


def watched(url: str, *arguments: str) -> tuple[str, float]:
    """What a command line prints, and the most memory that its process had, in MB.

    The kernel is asked while it runs: what it says of a process that has ended begins with the memory of its parent.
    """
    peak_kb = 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(_command(url, *arguments), stdout=output, env=_environment())
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak_kb = max([peak_kb, *(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)])
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit(f"ostler {' '.join(arguments)} failed")
        output.seek(0)
        return output.read(), peak_kb / 1024


async def first_claim(url: str) -> float:
    """Seconds from the start of a worker's process until it takes a session."""
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *_command(url, "worker", "--agent", AGENTS[0].name), stderr=asyncio.subprocess.PIPE, env=_environment()
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (said := await process.stderr.readline()).startswith(b"takes "):
                if not said:
                    raise SystemExit("the worker ended without taking anything")
            seconds = time.perf_counter() - started
            process.send_signal(signal.SIGTERM)
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return seconds


def _command(url: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "ostler", "--store", url, *arguments]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


class View(msgspec.Struct):
    """A view made anew: events per second, and the most memory (MB) that its process had."""

    events_per_s: float
    seconds: float
    peak_mb: float


class Scale(msgspec.Struct):
    """Times in seconds, medians of several; memory in MB. `small_mb` is `peak_mb` of a view on a small log."""

    events: int
    sessions: int
    fill_s: float
    worker_first_claim_s: float
    ps_without_views_s: float
    ps_s: float
    ps_all_s: float
    usage_s: float
    views: dict[str, View]
    small_mb: dict[str, float]


async def prepared(url: str, events: int) -> tuple[int, int, float]:
    """Fill the store if it is not; its events, its sessions, and how long that took."""
    parts = await connect(Settings(store=url, folder=Path.cwd()))
    started = time.perf_counter()
    if await parts.store.head() < events:
        await fill(parts, events)
    seconds = time.perf_counter() - started
    newest = await parts.store.streams(LOCAL_USER.tenant, limit=1)
    head = await parts.store.head()
    await parts.close()
    return head, newest[0].number, seconds


async def without_views(url: str) -> None:
    """Forget what views the store has."""
    parts = await connect(Settings(store=url, folder=Path.cwd()))
    for view in VIEWS:
        await parts.views.forget(view.id)
    await parts.close()


async def another_due(url: str) -> None:
    parts = await connect(Settings(store=url, folder=Path.cwd()))
    await add_due(parts)
    await parts.close()


def rebuilt(url: str) -> dict[str, View]:
    """Every view made anew, each in a process of its own."""
    found = {}
    for name in ("sessions", "usage"):
        output, peak_mb = watched(url, "views", "rebuild", name, "--json")
        (said,) = json.loads(output)
        found[name] = View(said["events"] / said["seconds"], said["seconds"], peak_mb)
    return found


def median(url: str, *arguments: str, times: int) -> float:
    """Seconds that a command takes."""
    return statistics.median(seconds_of(url, *arguments) for _ in range(times))


def measure(url: str, small: str, events: int, times: int) -> Scale:
    """Everything, on a store that is filled if need be; `small` is another one, for comparison."""
    head, streams, fill_s = asyncio.run(prepared(url, events))
    asyncio.run(prepared(small, 20_000))
    claims = []
    for _ in range(times):
        asyncio.run(another_due(url))
        claims.append(asyncio.run(first_claim(url)))
    asyncio.run(without_views(url))
    without = median(url, "ps", times=times)
    views = rebuilt(url)
    return Scale(
        events=head,
        sessions=streams,
        fill_s=fill_s,
        worker_first_claim_s=statistics.median(claims),
        ps_without_views_s=without,
        ps_s=median(url, "ps", times=times),
        ps_all_s=median(url, "ps", "--all", times=times),
        usage_s=median(url, "usage", times=times),
        views=views,
        small_mb={name: view.peak_mb for name, view in rebuilt(small).items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--store", metavar="URL", help="an empty store, or one that this has filled")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.store or f"sqlite:///{folder}/scale.db"
        scale = measure(url, f"sqlite:///{folder}/small.db", options.events, options.times)
    if options.json:
        print(json.dumps(msgspec.to_builtins(scale), indent=2))
        return
    print(f"{scale.events:,} events of {scale.sessions:,} sessions (filled in {scale.fill_s:.0f} s)")
    print(f"worker, start → first claim  {scale.worker_first_claim_s:8.2f} s")
    print(f"ostler ps, without views     {scale.ps_without_views_s:8.2f} s")
    print(f"ostler ps                    {scale.ps_s:8.2f} s")
    print(f"ostler ps --all              {scale.ps_all_s:8.2f} s")
    print(f"ostler usage                 {scale.usage_s:8.2f} s")
    for name, view in scale.views.items():
        memory = f"{view.peak_mb:.0f} MB at most ({scale.small_mb[name]:.0f} MB on a small log)"
        print(f"rebuild {name:20} {view.events_per_s:9,.0f} events/s in {view.seconds:.0f} s, {memory}")


if __name__ == "__main__":
    main()
