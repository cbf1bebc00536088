"""A neighbourhood as lines of text: a tree from the entities that were asked about."""

from collections.abc import Iterator, Sequence

from ostler.domain.knowledge.graph import Edge, Graph
from ostler.domain.memory.memory import normal
from ostler.kernel.event import timestamp

MARK = "⚠ untrusted"


def tree(graph: Graph, names: Sequence[str], depth: int) -> Iterator[str]:
    """The relations around each of these entities, `depth` steps deep, each relation once, nearest first.

    `─ name →` leads to what the entity above is related to, and `← name ─` comes from what is related to it. An entity
    has its lines where it is nearest to what was asked about.
    """
    roots = [graph.number(name) for name in dict.fromkeys(map(normal, names))]
    branches = _branches(graph, roots, depth)
    for root in roots:
        yield titled(graph, root)
        yield from _below(root, branches, "")


def titled(graph: Graph, number: int) -> str:
    """The entity with its kind and its properties."""
    entity = graph.entity(number)
    known = [entity.kind] if entity.kind else []
    known += [f"{name}: {value}" for name, value in entity.properties.items()]
    return f"{entity.name} ({', '.join(known)})" if known else entity.name


def told(edge: Edge) -> str:
    """What is to be known of a relation besides its ends: what it costs, when it is true, whether it can be trusted."""
    known = [] if edge.weight == 1 else [f"weight {edge.weight:g}"]
    if edge.valid_from_us is not None:
        known.append(f"from {_when(edge.valid_from_us)}")
    if edge.valid_to_us is not None:
        known.append(f"to {_when(edge.valid_to_us)}")
    said = f" [{', '.join(known)}]" if known else ""
    return f"{said} {MARK}" if edge.is_untrusted else said


def _when(at_us: int) -> str:
    """The day, or the moment if it is not the beginning of one."""
    day, _, time = timestamp(at_us).partition("T")
    return day if not time.strip("0:.Z") else f"{day} {time[:8]}"


Branch = tuple[str, int | None]
"""How a relation is drawn, and what hangs from it: None if that hangs elsewhere, nearer to a root."""


def _branches(graph: Graph, roots: Sequence[int], depth: int) -> dict[int, list[Branch]]:
    """What hangs from each entity, found level by level, so that everything hangs where it is nearest to a root."""
    around: dict[int, list[tuple[Edge, int, bool]]] = {}
    for edge in graph.edges():
        source, target = graph.number(edge.subject), graph.number(edge.object)
        around.setdefault(source, []).append((edge, target, True))
        if source != target:
            around.setdefault(target, []).append((edge, source, False))
    branches: dict[int, list[Branch]] = {}
    drawn, met, level = set[str](), set(roots), list(roots)
    for _ in range(depth):
        beyond: list[int] = []
        for number in level:
            for edge, other, is_outward in around.get(number, ()):
                if edge.id not in drawn:
                    drawn.add(edge.id)
                    arrow = f"─ {edge.name} →" if is_outward else f"← {edge.name} ─"
                    is_new = other not in met
                    name = titled(graph, other) if is_new else graph.names[other]
                    branch = (f"{arrow} {name}{told(edge)}", other if is_new else None)
                    branches.setdefault(number, []).append(branch)
                    if is_new:
                        met.add(other)
                        beyond.append(other)
        level = beyond
    return branches


def _below(number: int, branches: dict[int, list[Branch]], indent: str) -> Iterator[str]:
    mine = branches.get(number, [])
    for place, (line, other) in enumerate(mine, 1):
        is_last = place == len(mine)
        yield f"{indent}{'└─' if is_last else '├─'}{line}"
        if other is not None:
            yield from _below(other, branches, indent + ("   " if is_last else "│  "))
