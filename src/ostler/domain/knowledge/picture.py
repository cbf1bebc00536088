"""A picture of a graph: SVG that can be read on light and on dark ground, and is the same for the same graph."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import hypot
from unicodedata import east_asian_width

from ostler.domain.knowledge.graph import Edge, Graph
from ostler.domain.knowledge.layout import ENTITIES_MAX, Point, layout
from ostler.domain.knowledge.markup import escaped
from ostler.kernel.errors import GraphTooLarge

LABEL_MAX = 28
NAMED_MAX = 80
"""With more relations, their names are left to whoever points at them."""
HEIGHT = 30.0
MARGIN = 40.0
BEND = 56.0
LEGEND = 22.0
COLOURS = ("#2563eb", "#059669", "#7c3aed", "#db2777", "#0891b2", "#ca8a04", "#4f46e5", "#65a30d")
GREY = "#6b7280"
STYLE = """
    svg { color-scheme: light dark; font-family: system-ui, sans-serif; font-size: 13px; }
    .ground { fill: #ffffff; }
    .box { fill: #f8fafc; stroke-width: 1.5; }
    .asked { stroke-width: 3; }
    .name { fill: #0f172a; text-anchor: middle; }
    .line { fill: none; stroke: #94a3b8; stroke-width: 1.3; }
    .head { fill: #94a3b8; }
    .said { fill: #475569; font-size: 11px; text-anchor: middle; paint-order: stroke; stroke: #ffffff;
      stroke-width: 4px; stroke-linejoin: round; }
    .line.untrusted { stroke: #b45309; stroke-dasharray: 5 4; }
    .head.untrusted, .said.untrusted { fill: #b45309; }
    .legend { fill: #475569; font-size: 12px; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0f172a; }
      .box { fill: #1e293b; }
      .name { fill: #f1f5f9; }
      .line { stroke: #64748b; }
      .head { fill: #64748b; }
      .said { fill: #cbd5e1; stroke: #0f172a; }
      .line.untrusted { stroke: #fbbf24; }
      .head.untrusted, .said.untrusted { fill: #fbbf24; }
      .legend { fill: #cbd5e1; }
    }
"""


def picture(graph: Graph, *, asked: Sequence[str] = (), title: str = "Knowledge graph") -> str:
    """An SVG document; those that were `asked` about are drawn bold. Raises `GraphTooLarge` above 200 entities."""
    if len(graph) > ENTITIES_MAX:
        raise GraphTooLarge(
            f"{len(graph):,} entities are more than can be told apart in a picture, which shows up to {ENTITIES_MAX}.",
            hint="Ask for fewer steps around an entity, or for some relations only.",
            entities=len(graph),
        )
    edges = list(graph.edges())
    ends = [(graph.number(edge.subject), graph.number(edge.object)) for edge in edges]
    sizes = [(_width(name) + 24, HEIGHT) for name in map(_label, graph.names)]
    points = layout(sizes, ends)
    kinds = sorted({entity.kind for entity in graph.entities if entity.kind})
    colours = {kind: COLOURS[number % len(COLOURS)] for number, kind in enumerate(kinds)}
    legend = [*((colours[kind], kind) for kind in kinds)]
    marked = {graph.number(name) for name in asked}
    drawing = [
        *_lines(edges, ends, points, sizes),
        *_boxes(graph, points, sizes, colours, marked),
    ]
    is_doubtful = any(edge.is_untrusted for edge in edges)
    return "\n".join(_document(title, drawing, _frame(points, sizes), legend, is_doubtful)) + "\n"


def _document(
    title: str, drawing: Sequence[str], frame: tuple[Point, Point], legend: Sequence[tuple[str, str]], is_doubtful: bool
) -> Iterator[str]:
    (left, top), (right, bottom) = frame
    rows = len(legend) + is_doubtful
    high = bottom - top + (rows * LEGEND + 16 if rows else 0)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.1f} {top:.1f} {right - left:.1f} {high:.1f}"'
        f' width="{right - left:.0f}" height="{high:.0f}" role="img">'
    )
    yield f"  <title>{escaped(title)}</title>"
    yield f"  <style>{STYLE}  </style>"
    yield "  <defs>"
    for name in ("head", "untrusted"):
        classes = "head" if name == "head" else "head untrusted"
        yield (
            f'    <marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
            f' orient="auto-start-reverse"><path class="{classes}" d="M0 0 L10 5 L0 10 z"/></marker>'
        )
    yield "  </defs>"
    yield f'  <rect class="ground" x="{left:.1f}" y="{top:.1f}" width="100%" height="100%"/>'
    yield from drawing
    yield from _legend(left + MARGIN / 2, bottom + 4, legend, is_doubtful)
    yield "</svg>"


def _legend(x: float, y: float, legend: Sequence[tuple[str, str]], is_doubtful: bool) -> Iterator[str]:
    for colour, kind in legend:
        yield f'  <rect class="box" x="{x:.1f}" y="{y:.1f}" width="26" height="14" rx="7" stroke="{colour}"/>'
        yield f'  <text class="legend" x="{x + 34:.1f}" y="{y + 11:.1f}">{escaped(kind)}</text>'
        y += LEGEND
    if is_doubtful:
        yield f'  <path class="line untrusted" d="M{x:.1f} {y + 7:.1f} h26"/>'
        yield f'  <text class="legend" x="{x + 34:.1f}" y="{y + 11:.1f}">untrusted</text>'


def _frame(points: Sequence[Point], sizes: Sequence[Point]) -> tuple[Point, Point]:
    """The corners of what is drawn."""
    boxes = list(zip(points, sizes, strict=True)) or [((0.0, 0.0), (200.0, HEIGHT))]
    left = min(x - wide / 2 for (x, _), (wide, _) in boxes)
    right = max(x + wide / 2 for (x, _), (wide, _) in boxes)
    top, bottom = min(y for (_, y), _ in boxes) - HEIGHT, max(y for (_, y), _ in boxes) + HEIGHT
    return (left - MARGIN, top - MARGIN / 2), (right + MARGIN, bottom + MARGIN / 2)


def _boxes(
    graph: Graph, points: Sequence[Point], sizes: Sequence[Point], colours: dict[str, str], marked: set[int]
) -> Iterator[str]:
    for number, ((x, y), (wide, high)) in enumerate(zip(points, sizes, strict=True)):
        entity = graph.entity(number)
        colour = colours.get(entity.kind, GREY)
        known = [f"{name}: {value}" for name, value in entity.properties.items()]
        told = "\n".join([f"{entity.name} ({entity.kind})" if entity.kind else entity.name, *known])
        yield f"  <g><title>{escaped(told)}</title>"
        yield (
            f'    <rect class="{"box asked" if number in marked else "box"}" stroke="{colour}" x="{x - wide / 2:.1f}"'
            f' y="{y - high / 2:.1f}" width="{wide:.1f}" height="{high:.1f}" rx="{high / 2:.1f}"/>'
        )
        yield f'    <text class="name" x="{x:.1f}" y="{y + 4.5:.1f}">{escaped(_label(entity.name))}</text></g>'


def _lines(
    edges: Sequence[Edge], ends: Sequence[tuple[int, int]], points: Sequence[Point], sizes: Sequence[Point]
) -> Iterator[str]:
    """Each relation bent away from the others between the same two, and named elsewhere, so that none hides another."""
    counts = Counter((min(pair), max(pair)) for pair in ends)
    turns: Counter[tuple[int, int]] = Counter()
    is_named = len(edges) <= NAMED_MAX
    for edge, (source, target) in zip(edges, ends, strict=True):
        pair = (min(source, target), max(source, target))
        turn = turns[pair]
        turns[pair] += 1
        if source == target:
            yield from _loop(edge, points[source], turn, is_named)
            continue
        is_along, share = (source, target) == pair, (turn + 1) / (counts[pair] + 1)
        bend = (turn - (counts[pair] - 1) / 2) * (BEND if is_along else -BEND)
        at = (share if is_along else 1 - share) if is_named else None
        yield from _line(edge, (points[source], points[target]), (sizes[source], sizes[target]), bend, at)


def _line(
    edge: Edge, ends: tuple[Point, Point], sizes: tuple[Point, Point], bend: float, at: float | None
) -> Iterator[str]:
    """`at` is the share of the way at which it is named; None: it is not."""
    (x, y), (to_x, to_y) = ends
    length = hypot(to_x - x, to_y - y) or 1.0
    middle = ((x + to_x) / 2 - (to_y - y) / length * bend, (y + to_y) / 2 + (to_x - x) / length * bend)
    begin, end = _rim(ends[0], middle, sizes[0]), _rim(ends[1], middle, sizes[1])
    path = f"M{begin[0]:.1f} {begin[1]:.1f} Q{middle[0]:.1f} {middle[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    there = _on_curve((begin, middle, end), 0.5 if at is None else at)
    yield from _drawn(edge, path, there, at is not None)


def _on_curve(curve: tuple[Point, Point, Point], share: float) -> Point:
    """Where this share of a quadratic Bézier curve ends."""
    (x, y), (middle_x, middle_y), (to_x, to_y) = curve
    rest = 1 - share
    return (
        rest * rest * x + 2 * rest * share * middle_x + share * share * to_x,
        rest * rest * y + 2 * rest * share * middle_y + share * share * to_y,
    )


def _loop(edge: Edge, point: Point, turn: int, is_named: bool) -> Iterator[str]:
    x, y, reach = point[0], point[1] - HEIGHT / 2, 34.0 + 20 * turn
    path = (
        f"M{x - 10:.1f} {y:.1f} C{x - reach:.1f} {y - reach:.1f} {x + reach:.1f} {y - reach:.1f} {x + 10:.1f} {y:.1f}"
    )
    yield from _drawn(edge, path, (x, y - reach * 0.75), is_named)


def _drawn(edge: Edge, path: str, at: Point, is_named: bool) -> Iterator[str]:
    mark = " untrusted" if edge.is_untrusted else ""
    told = f"{edge.subject} {edge.name} {edge.object}{' (untrusted)' if edge.is_untrusted else ''}"
    yield f"  <g><title>{escaped(told)}</title>"
    yield f'    <path class="line{mark}" d="{path}" marker-end="url(#{"untrusted" if mark else "head"})"/>'
    if is_named:
        yield f'    <text class="said{mark}" x="{at[0]:.1f}" y="{at[1] + 4:.1f}">{escaped(_label(edge.name))}</text>'
    yield "  </g>"


def _rim(middle: Point, towards: Point, size: Point) -> Point:
    """Where a line from the middle of a box leaves it."""
    across, down = towards[0] - middle[0], towards[1] - middle[1]
    if not across and not down:
        return middle
    share = min(
        (size[0] / 2 + 2) / abs(across) if across else float("inf"),
        (size[1] / 2 + 2) / abs(down) if down else float("inf"),
    )
    return middle[0] + across * share, middle[1] + down * share


def _label(name: str) -> str:
    """The name on one line and not too long, without what no XML can hold."""
    plain = "".join(char for char in " ".join(name.split()) if char.isprintable())
    return plain if len(plain) <= LABEL_MAX else plain[: LABEL_MAX - 1] + "…"


def _width(text: str) -> float:
    """About as wide as most fonts draw it."""
    return sum(13.0 if east_asian_width(char) in "WF" else 9.6 if char.isupper() else 7.4 for char in text)
