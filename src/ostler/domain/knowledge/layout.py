"""Where the entities of a picture are: as far apart as their labels need, and near what they are related to."""

from collections.abc import Sequence
from math import atan2, cos, exp, hypot, pi, sin, sqrt

ENTITIES_MAX = 200
"""More are not drawn: nobody could read them."""
GOLDEN = pi * (3 - sqrt(5))
ROUNDS = 150
PAIRS_MAX = 1_500_000
"""Pairs of entities that are looked at in all rounds together: about a second."""
GRAVITY = 0.2
APART = 60
"""Rounds in which labels that overlap are moved apart."""

Point = tuple[float, float]


def layout(sizes: Sequence[Point], edges: Sequence[tuple[int, int]], *, spacing: float = 130.0) -> list[Point]:
    """The middle of each box of these widths and heights; the same for the same boxes and edges, in the same order.

    By the forces of Fruchterman and Reingold 1991, from a spiral whose middle are those with the most relations, with
    enough gravity to keep parts together that are not connected. Boxes are pushed apart in the end.
    """
    if not sizes:
        return []
    degrees = [0] * len(sizes)
    for source, target in edges:
        degrees[source] += 1
        degrees[target] += 1
    order = sorted(range(len(sizes)), key=lambda number: (-degrees[number], number))
    points = [(0.0, 0.0)] * len(sizes)
    for rank, number in enumerate(order):
        radius, angle = spacing * 0.6 * sqrt(rank), GOLDEN * rank
        points[number] = (radius * cos(angle), radius * sin(angle))
    ties = sorted({(min(pair), max(pair)) for pair in edges if pair[0] != pair[1]})
    rounds = min(ROUNDS, max(20, PAIRS_MAX // (len(sizes) ** 2 // 2 + 1)))
    for number in range(rounds):
        points = _moved(points, ties, spacing, spacing * exp(-4 * number / rounds))
    return _apart(_laid_down(points), sizes)


def _laid_down(points: list[Point]) -> list[Point]:
    """Turned so that they reach further across than down: the first principal axis is level."""
    middle = (sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points))
    moved = [(x - middle[0], y - middle[1]) for x, y in points]
    across, down = sum(x * x for x, _ in moved), sum(y * y for _, y in moved)
    angle = atan2(2 * sum(x * y for x, y in moved), across - down) / 2
    return [(x * cos(angle) + y * sin(angle), y * cos(angle) - x * sin(angle)) for x, y in moved]


def _moved(points: list[Point], ties: Sequence[tuple[int, int]], spacing: float, most: float) -> list[Point]:
    """All of them one step on, none further than `most`."""
    forces = [[-GRAVITY * x, -GRAVITY * y] for x, y in points]
    square = spacing * spacing
    for one, (x, y) in enumerate(points):
        mine = forces[one]
        for other in range(one):
            across, down = x - points[other][0], y - points[other][1]
            push = square / (across * across + down * down + 0.01)
            mine[0] += across * push
            mine[1] += down * push
            forces[other][0] -= across * push
            forces[other][1] -= down * push
    for one, other in ties:
        across, down = points[one][0] - points[other][0], points[one][1] - points[other][1]
        pull = hypot(across, down) / spacing
        forces[one][0] -= across * pull
        forces[one][1] -= down * pull
        forces[other][0] += across * pull
        forces[other][1] += down * pull
    moved = []
    for (x, y), (across, down) in zip(points, forces, strict=True):
        length = hypot(across, down) or 1.0
        step = min(length, most) / length
        moved.append((x + across * step, y + down * step))
    return moved


def _apart(points: list[Point], sizes: Sequence[Point]) -> list[Point]:
    """Boxes that overlap pushed apart, the way that is shorter."""
    placed = [[x, y] for x, y in points]
    for _ in range(APART):
        is_free = True
        for one in range(len(placed)):
            for other in range(one):
                across, down = placed[one][0] - placed[other][0], placed[one][1] - placed[other][1]
                wide = (sizes[one][0] + sizes[other][0]) / 2 + 16 - abs(across)
                high = (sizes[one][1] + sizes[other][1]) / 2 + 16 - abs(down)
                if wide > 0 and high > 0:
                    is_free = False
                    axis, gap, sign = (1, high, down) if high <= wide else (0, wide, across)
                    half = gap / 2 * (1 if sign >= 0 else -1)
                    placed[one][axis] += half
                    placed[other][axis] -= half
        if is_free:
            break
    return [(x, y) for x, y in placed]
