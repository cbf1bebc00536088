"""What the knowledge graph costs: gathering it from the index, neighbourhoods, and ways, beside the bare library.

Relations are applied to a SQLite index in a file, as the log would have them. CPU is that of all processes.
`python -m benchmarks.graph [ENTITIES RELATIONS]`, by default 100,000 and 500,000 (about four minutes).
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ostler.adapters.graph.process import ProcessEngine
from ostler.adapters.index.sqlite import SqliteIndex
from ostler.domain.memory.events import MemoryOpened, MemoryRemembered
from ostler.domain.memory.memory import Memory, Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.ports.memory import MemoryIndex, Noted
from ostler.runtime.memory.graphs import Graphs

SCOPE = Scope("bench")
KINDS = ("knows", "works with", "reports to", "wrote", "lives in")
BATCH = 5_000
SEED = 7
TIMES = 15

DIRECT = """
import json, sys, time
import rustworkx
with open(sys.argv[1]) as file:
    size, edges, ways = json.load(file)
graph = rustworkx.PyDiGraph()
graph.add_nodes_from(range(size))
graph.add_edges_from([tuple(edge) for edge in edges])
def cost(work):
    began = time.process_time()
    work()
    return 1e3 * (time.process_time() - began)
print(json.dumps({
    "breadth_first": [cost(lambda: [n for layer in rustworkx.bfs_layers(graph, [s]) for n in layer]) for s, _ in ways],
    "cheapest": [cost(lambda: rustworkx.dijkstra_shortest_paths(graph, s, target=t, weight_fn=float)) for s, t in ways],
}))
"""
"""The same questions, asked of the library itself in a process of its own."""


class Figure(msgspec.Struct, frozen=True):
    """What was measured, in milliseconds of CPU; `beside` is what the bare library needs for the same."""

    name: str
    median_ms: float
    p95_ms: float
    beside_ms: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.beside_ms is None else self.median_ms / self.beside_ms


class Applied:
    """An index that has everything already."""

    def __init__(self, index: MemoryIndex) -> None:
        self.index = index

    async def catch_up(self, scopes: Sequence[Scope]) -> dict[Scope, int]:
        return await self.index.applied(scopes)


def drawn(size: int, count: int) -> list[tuple[int, int, float]]:
    """Groups of a hundred within which most relations are, some relations between them, and hubs."""
    chance = random.Random(SEED)
    edges = []
    for _ in range(count):
        source = chance.randrange(size)
        near = chance.random() < 0.7
        target = source // 100 * 100 + chance.randrange(100) if near else int(size * chance.random() ** 2)
        edges.append((source, min(target, size - 1), round(chance.uniform(0.1, 5), 3)))
    return edges


async def filled(index: MemoryIndex, edges: Sequence[tuple[int, int, float]]) -> None:
    """Apply a fact for each relation."""
    await index.apply(SCOPE, [Noted(1, 1, 1, MemoryOpened(SCOPE))], after=0)
    source, seq = Source("agent:bench"), 1
    for first in range(0, len(edges), BATCH):
        notes = []
        for one, other, weight in edges[first : first + BATCH]:
            seq += 1
            relation = Relation(f"entity {one}", KINDS[seq % len(KINDS)], f"entity {other}", weight)
            text = f"{relation.subject} {relation.name} {relation.object}"
            memory = Memory(f"mem_{seq:026}", "fact", text, source, seq, relation=relation)
            notes.append(Noted(seq, seq, seq, MemoryRemembered(memory)))
        await index.apply(SCOPE, notes, after=seq - len(notes))


class Meter:
    """CPU time of this process and of that of the engine."""

    def __init__(self, engine: ProcessEngine) -> None:
        self._engine = engine

    def now_ms(self) -> float:
        other = 0.0
        if self._engine.pid is not None:
            other = time.clock_gettime(
                (~self._engine.pid << 3) | 2
            )  # the clock of another process, see clock_getcpuclockid(3)
        return 1e3 * (time.process_time() + other)

    async def figures(
        self, name: str, ask: Callable[[int], Awaitable[Any]], times: int, beside: Sequence[float] = ()
    ) -> Figure:
        costs = []
        for number in range(times):
            began = self.now_ms()
            await ask(number)
            costs.append(self.now_ms() - began)
        costs.sort()
        median = statistics.median(beside) if beside else None
        return Figure(name, statistics.median(costs), costs[int(0.95 * (len(costs) - 1))], median)


async def direct(folder: Path, size: int, edges: Sequence[Any], ways: Sequence[Any]) -> dict[str, list[float]]:
    """What the bare library needs."""
    file = folder / "graph.json"
    file.write_bytes(msgspec.json.encode([size, edges, ways]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIRECT, str(file), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return msgspec.json.decode(said, type=dict[str, list[float]])


async def measured(size: int, count: int) -> list[Figure]:
    """Every figure, for a graph of this size."""
    edges = drawn(size, count)
    chance = random.Random(SEED)
    ways = [(chance.randrange(size), chance.randrange(size)) for _ in range(TIMES)]
    with tempfile.TemporaryDirectory() as folder:
        index = await SqliteIndex.open(Path(folder) / "bench.memory")
        engine = ProcessEngine()
        graphs = Graphs(Applied(index), engine)
        try:
            await filled(index, edges)
            beside = await direct(Path(folder), size, edges, ways)
            return await _figures(graphs, engine, ways, beside)
        finally:
            await graphs.close()
            await index.close()


async def _figures(
    graphs: Graphs, engine: ProcessEngine, ways: Sequence[tuple[int, int]], beside: dict[str, list[float]]
) -> list[Figure]:
    seen, meter = SCOPE.visible, Meter(engine)
    names = [(f"entity {one}", f"entity {other}") for one, other in ways]

    async def load(_: int) -> None:
        await graphs.clear()
        await graphs.shortest(seen, *names[0])

    async def around(depth: int, number: int) -> None:
        await graphs.around(seen, [names[number % TIMES][0]], depth=depth, limit=200)

    found = [await meter.figures("load from the index into the engine", load, 1)]
    for depth in (1, 2, 3):
        await around(depth, 0)
        found.append(await meter.figures(f"neighbourhood, {depth} steps", partial(around, depth), 60))
    for name, ask in (("breadth_first", graphs.breadth_first), ("cheapest", graphs.cheapest)):
        arguments = [pair[:1] if name == "breadth_first" else pair for pair in names]

        async def once(number: int, ask: Any = ask, arguments: Any = arguments) -> None:
            await ask(seen, *arguments[number])

        await once(0)
        found.append(await meter.figures(name, once, TIMES, beside[name]))
    found.append(await meter.figures("shortest", lambda number: graphs.shortest(seen, *names[number]), TIMES))
    found.append(await meter.figures("betweenness", lambda _: graphs.betweenness(seen), 1))
    found.append(await meter.figures("communities", lambda _: graphs.communities(seen), 1))
    return found


def main(size: int = 100_000, count: int = 500_000) -> None:
    """Print a table."""
    print(f"{size:,} entities, {count:,} relations; ms of CPU, all processes together")
    print(f"{'':<38}{'p50':>10}{'p95':>10}{'rustworkx':>12}{'ratio':>8}")
    for one in asyncio.run(measured(size, count)):
        beside = "" if one.beside_ms is None else f"{one.beside_ms:12.1f}{one.ratio:8.2f}"
        print(f"{one.name:<38}{one.median_ms:10.1f}{one.p95_ms:10.1f}{beside}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
