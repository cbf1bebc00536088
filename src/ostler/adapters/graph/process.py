"""Computes on graphs in a process of its own: the library holds the interpreter while it works."""

import asyncio
import importlib.util
import math
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import TypeVar

from msgspec.msgpack import Decoder

from ostler.adapters.graph.frames import HEADER, Answered, Asked, Loaded, framed
from ostler.domain.knowledge.graph import Net
from ostler.kernel.errors import ConfigurationError, GraphTooLarge, GraphUnavailable, Shed
from ostler.ports.graph import Centrality, Way

T = TypeVar("T")

WORKER = "ostler.adapters.graph.worker"
TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
"""For the process to be ready; that is not counted with the question that it is started for."""
MEMORY_BYTES_MAX = 4 * 1024**3
GRACE_S = 5
"""After which a process ends itself that nobody has ended: whoever asked is gone."""
WAITING_MAX = 64
"""Questions that wait for others; what is more is shed."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
"""One each: what is computed here is nothing that sessions should have to make room for."""


NUMBERS = Decoder(list[int])
MAYBE_NUMBERS: Decoder[list[int] | None] = Decoder(list[int] | None)
MAYBE_WAY: Decoder[Way | None] = Decoder(Way | None)
LISTS = Decoder(list[list[int]])
PAIRS = Decoder(list[tuple[int, int]])
CENTRALITY = Decoder(Centrality)
ANSWERED = Decoder(Answered)


class ProcessEngine:
    """See `ostler.ports.graph.GraphEngine`. The process starts with the first question, which are answered in turn.

    It keeps the graphs that were asked about last, is killed when a question takes longer than `timeout_s` or whoever
    asked gives up, and started anew by the next one.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S, memory_bytes_max: int = MEMORY_BYTES_MAX) -> None:
        self._timeout_s = timeout_s
        self._memory_bytes_max = memory_bytes_max
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, None while there is none."""
        return self._process.pid if self._process is not None else None

    async def breadth_first(self, net: Net, start: int) -> list[int]:
        return await self._ask(net, "breadth_first", start, answer=NUMBERS)

    async def depth_first(self, net: Net, start: int) -> list[int]:
        return await self._ask(net, "depth_first", start, answer=NUMBERS)

    async def shortest(self, net: Net, start: int, goal: int) -> list[int] | None:
        return await self._ask(net, "shortest", start, goal, answer=MAYBE_NUMBERS)

    async def cheapest(self, net: Net, start: int, goal: int) -> Way | None:
        return await self._ask(net, "cheapest", start, goal, answer=MAYBE_WAY)

    async def closure(self, net: Net, *, pairs_max: int) -> list[tuple[int, int]]:
        return await self._ask(net, "closure", pairs_max, answer=PAIRS)

    async def betweenness(self, net: Net, *, exact_max: int, pivots: int, seed: int) -> Centrality:
        return await self._ask(net, "betweenness", exact_max, pivots, seed, answer=CENTRALITY)

    async def communities(self, net: Net) -> list[int]:
        return await self._ask(net, "communities", answer=NUMBERS)

    async def components(self, net: Net) -> list[list[int]]:
        return await self._ask(net, "components", answer=LISTS)

    async def cycle(self, net: Net) -> list[int] | None:
        return await self._ask(net, "cycle", answer=MAYBE_NUMBERS)

    async def topological(self, net: Net) -> list[int] | None:
        return await self._ask(net, "topological", answer=MAYBE_NUMBERS)

    async def close(self) -> None:
        await self._kill()

    async def _ask(self, net: Net, method: str, *arguments: int, answer: Decoder[T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise Shed("Too many questions about graphs wait already.", depth=self._waiting, capacity=WAITING_MAX)
        self._waiting += 1
        try:
            async with self._turn:
                said = await self._answered(net, method, arguments)
        finally:
            self._waiting -= 1
        if said.problem:
            raise GraphTooLarge(said.problem, hint=said.hint, **said.facts)
        return answer.decode(said.value)

    async def _answered(self, net: Net, method: str, arguments: tuple[int, ...]) -> Answered:
        """What the process says. Unless it answers in time, it is killed and reaped before this returns."""
        asked = Asked(net.key, method, arguments, math.ceil(self._timeout_s) + GRACE_S)
        is_answered = False
        try:
            was_there = await self._start()
            async with asyncio.timeout(self._timeout_s):
                try:
                    said = await self._told(net, asked)
                except (asyncio.IncompleteReadError, ConnectionError):
                    if not was_there:
                        raise
                    await self._kill()  # it may have died long before it was asked
                    await self._start()
                    said = await self._told(net, asked)
            is_answered = True
        except TimeoutError as error:
            raise self._unavailable(net, f"took longer than {self._timeout_s:g} s") from error
        except (asyncio.IncompleteReadError, ConnectionError, OSError) as error:
            raise self._unavailable(
                net, "ended the process that works on graphs: it may have run out of memory"
            ) from error
        finally:
            if not is_answered:
                await self._kill()
        return said

    def _unavailable(self, net: Net, what: str) -> GraphUnavailable:
        return GraphUnavailable(
            f"A question about a graph of {net.size:,} entities and {len(net.sources):,} relations {what}.",
            hint="Ask about a part of it: fewer scopes, some relations only, or the neighbourhood of an entity.",
        )

    async def _told(self, net: Net, asked: Asked) -> Answered:
        assert self._process is not None
        said = await _exchange(self._process, asked)
        return await _exchange(self._process, _columns(net), asked) if said.is_missing else said

    async def _start(self) -> bool:
        """Returns whether the process was there. Raises `ConfigurationError` if the library is not installed."""
        if self._process is not None and self._process.returncode is not None:
            await self._kill()
        was_there = self._process is not None
        if self._process is None:
            if importlib.util.find_spec("rustworkx") is None:
                raise ConfigurationError(
                    "rustworkx is not installed.", hint="Install it with `pip install 'ostler[graph]'`."
                )
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                WORKER,
                str(self._memory_bytes_max),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **dict.fromkeys(THREADS, "1")},
            )
            async with asyncio.timeout(START_TIMEOUT_S):
                await _exchange(self._process)
        return was_there

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())
        if process.stdin is not None:
            process.stdin.close()


async def _exchange(process: Process, *frames: Loaded | Asked) -> Answered:
    assert process.stdin is not None
    assert process.stdout is not None
    for frame in frames:
        process.stdin.write(framed(frame))
        await process.stdin.drain()
    size = int.from_bytes(await process.stdout.readexactly(HEADER))
    return ANSWERED.decode(await process.stdout.readexactly(size))


def _columns(net: Net) -> Loaded:
    return Loaded(net.key, net.size, net.sources.tobytes(), net.targets.tobytes(), net.weights.tobytes())
