"""What the knowledge graph needs of the world: something that computes on large graphs without holding up sessions."""

from typing import Protocol

import msgspec

from ostler.domain.knowledge.graph import Net


class Centrality(msgspec.Struct, frozen=True):
    """A value for each entity, by number; if it `is_sampled` an estimate, from the ways that begin at `pivots`."""

    values: list[float]
    is_sampled: bool = False
    pivots: int = 0


class Way(msgspec.Struct, frozen=True):
    """The entities along a way, by number, both ends among them, and what its relations cost together."""

    numbers: list[int]
    cost: float


class GraphEngine(Protocol):
    """Computes on graphs, apart from the event loop that asks.

    Entities are numbers in the order of their names, and answers depend on nothing else: not on the order of the
    relations, nor on chance. Of several relations between the same two the cheapest is followed; one of an entity to
    itself lies on no way but is a cycle. Every question is answered in a bounded time or raises `GraphUnavailable`, as
    it does when it cannot be answered for want of memory; the next one is then answered again. A caller that gives up
    ends the work that it asked for.
    """

    async def breadth_first(self, net: Net, start: int) -> list[int]:
        """What can be reached, nearest first; neighbours of the same entity in order."""
        ...

    async def depth_first(self, net: Net, start: int) -> list[int]:
        """What can be reached, each entity before those that are reached through it; the first in order first."""
        ...

    async def shortest(self, net: Net, start: int, goal: int) -> list[int] | None:
        """A way with the fewest steps, from the first to the last entity; None if there is none."""
        ...

    async def cheapest(self, net: Net, start: int, goal: int) -> Way | None:
        """A way whose weights have the smallest sum, by Dijkstra's algorithm. No weight may be negative."""
        ...

    async def closure(self, net: Net, *, pairs_max: int) -> list[tuple[int, int]]:
        """Every pair of which the second can be reached from the first in one step or more, in order.

        Raises `GraphTooLarge` if there are more than `pairs_max`.
        """
        ...

    async def betweenness(self, net: Net, *, exact_max: int, pivots: int, seed: int) -> Centrality:
        """On what share of the shortest ways between two others each lies: the sum over all ordered pairs, divided by
        (n − 1)(n − 2) (Brandes 2001). Of a graph of more than `exact_max` entities it is estimated from the ways from
        `pivots` of them, drawn with `seed`, times n / `pivots` (Brandes and Pich 2007).
        """
        ...

    async def communities(self, net: Net) -> list[int]:
        """For each entity the number of its community, as `ostler.domain.knowledge.communities` finds them."""
        ...

    async def components(self, net: Net) -> list[list[int]]:
        """What hangs together, whichever way relations point: each in order, the largest first."""
        ...

    async def cycle(self, net: Net) -> list[int] | None:
        """A shortest cycle through the first entity that is on any, without coming back to it at the end; None if the
        graph has none.
        """
        ...

    async def topological(self, net: Net) -> list[int] | None:
        """All entities, each before those that it is related to; of those that could be next, the first in order.
        None if there is a cycle.
        """
        ...

    async def close(self) -> None: ...
