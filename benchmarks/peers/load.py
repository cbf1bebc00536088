"""The work that every peer does, and how it is measured and judged; needs nothing but the standard library.

A peer is a module that is run as `python -m benchmarks.peers.NAME TASK`, with the task as JSON, and answers with lines
of JSON: `ready` when everything is imported, connected and warm, and after a line on its standard input the result.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import random
import resource
import sqlite3
import sqlite3.dbapi2
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ANSWER = "done"
WARM = "0warm"
"""The goal of a session of two steps that is run before the measurement, so that everything is imported and open."""
TOOL_BYTES = 200
SAID_BYTES = 60
SEED = 2026
BEGUN = ".begun"
"""The end of the name of the file, beside that of the effects, in which calls have a line before their effect."""
TEXTS = 4096
"""So many different texts there are; a session meets each of them once at most."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What a peer is to do.

    `store` is a URL, or empty for loops that keep nothing. `text` is `same` (one text of x) or `english` (words at
    random, which no store can compress much). `in_turn` runs the sessions one after another. With `effects`, the one
    session's tool adds a line to that file, and `recover` goes on with a session that another process has left behind;
    `lease_s` is how long a silent process counts as alive, where there is such a thing, and `pause_s` how long the tool
    is busy before its effect and again after it. `counts` counts the commits of SQLite and so is not to be timed.
    `tool` and `variant` mean what the peer says.
    """

    store: str
    sessions: int
    steps: int
    text: str = "same"
    in_turn: bool = False
    effects: str = ""
    recover: bool = False
    lease_s: int = 2
    pause_s: float = 0.002
    counts: bool = False
    tool: str = ""
    variant: str = ""


@dataclasses.dataclass(frozen=True)
class Turn:
    """What the model says in one turn: a text and, unless it is the answer, the argument of one call."""

    text: str
    sku: str | None

    @property
    def arguments(self) -> dict[str, str]:
        assert self.sku is not None
        return {"sku": self.sku}


class Bench:
    """The model, the tool and the clock of one peer."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._said, self._found = ([""], ["x" * TOOL_BYTES]) if task.text == "same" else english()
        self._sessions: list[dict[str, object]] = []
        self._cost: dict[str, float] = {}
        self.commits = 0
        if task.counts:
            self._count_commits()

    def turn(self, goal: str, number: int) -> Turn:
        """Turn `number` (from 1) of the session with this goal."""
        if number > (2 if goal == WARM else self.task.steps):
            return Turn(ANSWER, None)
        return Turn(self._said[_place(goal, number) % len(self._said)], f"{goal}.{number}")

    def find(self, sku: str) -> str:
        """The tool."""
        goal, _, number = sku.partition(".")
        if self.task.effects and goal != WARM:
            return self._do(sku)
        return self._found[_place(goal, int(number)) % len(self._found)]

    def _do(self, sku: str) -> str:
        """The tool of the crash tests: a line in a file outside, which no second call takes back."""
        token = os.urandom(8).hex()
        _add(self.task.effects + BEGUN, f"{sku} {os.getpid()} {token}\n")
        time.sleep(self.task.pause_s)
        _add(self.task.effects, f"{sku} {os.getpid()} {token}\n")
        time.sleep(self.task.pause_s)
        return token

    def done(self, sku: str) -> str | None:
        """What came of the call before, for tools that can be asked."""
        with contextlib.suppress(FileNotFoundError):
            for line in Path(self.task.effects).read_text().splitlines():
                name, _, token = line.split()
                if name == sku:
                    return token
        return None

    @property
    def goals(self) -> list[str]:
        return [str(number) for number in range(self.task.sessions)]

    async def each(self, run: Callable[[str], Awaitable[None]]) -> None:
        """Run every session: side by side, or in turn if the task says so."""
        if self.task.in_turn:
            for goal in self.goals:
                await run(goal)
        else:
            await asyncio.gather(*(run(goal) for goal in self.goals))

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Say that all is ready, wait for the word, and measure what happens then."""
        if not self.task.effects:
            say({"ready": True})
            sys.stdin.readline()
        commits, written, cpu, wall = self.commits, _written(), _cpu_s(), time.perf_counter()
        yield
        wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
        counted = self.commits - commits
        self._cost = {"wall_s": wall, "cpu_s": cpu, "written": _written() - written, "commits": counted}

    def _count_commits(self) -> None:
        """Have every connection that is opened from now on tell of its statements."""
        connect: Any = sqlite3.connect

        def told(statement: str) -> None:
            self.commits += statement.strip().upper().startswith("COMMIT")

        def open_and_listen(*args: Any, **options: Any) -> Any:
            connection = connect(*args, **options)
            connection.set_trace_callback(told)
            return connection

        for module in (sqlite3, sqlite3.dbapi2):
            vars(module)["connect"] = open_and_listen

    def judge(self, goal: str, outputs: Sequence[str], answer: str) -> None:
        """Keep what a session has to show: the outputs of its calls, in order, and its answer."""
        if goal == WARM:
            return
        if self.task.effects:
            self._sessions.append({"answer": answer, "outputs": list(outputs)})
            return
        wanted = [self.find(f"{goal}.{number}") for number in range(1, self.task.steps + 1)]
        if answer != ANSWER or digest(outputs) != digest(wanted):
            raise AssertionError(f"session {goal} answered {answer!r} after {len(outputs)} calls")
        self._sessions.append({"answer": answer, "calls": len(outputs)})

    def judge_digest(self, goal: str, calls: str, answer: str) -> None:
        """As `judge`, for peers whose sessions return a digest of what they saw."""
        if goal == WARM:
            return
        wanted = [self.find(f"{goal}.{number}") for number in range(1, self.task.steps + 1)]
        if answer != ANSWER or calls != digest(wanted):
            raise AssertionError(f"session {goal} answered {answer!r}, with other outputs than it was given")
        self._sessions.append({"answer": answer, "calls": self.task.steps})

    def report(self, versions: dict[str, str]) -> None:
        if len(self._sessions) != self.task.sessions:
            raise AssertionError(f"{len(self._sessions)} of {self.task.sessions} sessions ended")
        sessions = self._sessions if self.task.effects else []
        say({"result": self._cost, "versions": versions, "sessions": sessions})


def digest(outputs: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(outputs).encode()).hexdigest()


def english() -> tuple[list[str], list[str]]:
    """What the model says and what the tool finds: words at random, the same in every process."""
    chance = random.Random(SEED)
    syllables = [
        first + vowel + last for first in "bcdfglmnprstvw" for vowel in "aeiou" for last in ("", "n", "r", "st")
    ]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 3))) for _ in range(5000)]

    def text(size: int) -> str:
        return " ".join(chance.choices(words, k=size // 3))[:size]

    return [text(SAID_BYTES) for _ in range(TEXTS)], [text(TOOL_BYTES) for _ in range(TEXTS)]


def run(peer: Callable[[Bench], Awaitable[None]], *packages: str) -> None:
    """The main function of a peer."""
    bench = Bench(Task(**json.loads(sys.argv[1])))
    if bench.task.effects:
        say({"ready": True})
        sys.stdin.readline()
    asyncio.run(_await(peer(bench)))
    bench.report({name: importlib.metadata.version(name) for name in packages})
    sys.stdout.flush()
    os._exit(0)  # threads that some peers leave behind have nothing more to say


async def _await(work: Awaitable[None]) -> None:
    await work


def say(line: dict[str, object]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def _add(path: str, line: str) -> None:
    """Add a line to a file, as a whole."""
    file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)


def _place(goal: str, number: int) -> int:
    return (0 if goal == WARM else int(goal)) * 131 + number


def _cpu_s() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _written() -> int:
    """Bytes that this process has handed to the kernel to write."""
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("wchar")]
    return int(line.split()[1])
