"""Communities: entities that are related to one another more than to others."""

from collections import defaultdict
from collections.abc import Sequence

Neighbours = list[dict[int, int]]
"""For each entity how many relations it has with each other, whichever way they point."""
LEVELS_MAX = 20
ROUNDS_MAX = 50


def communities(size: int, sources: Sequence[int], targets: Sequence[int], counts: Sequence[int]) -> list[int]:
    """For each entity the number of its community: 0 for the largest, and of equals that with the first entity.

    By moving entities between communities while that raises modularity, then communities (Blondel et al. 2008). Counts
    are of parallel relations; direction, weights and relations of an entity with itself do not matter. The order of
    entities is that of their numbers and a tie goes to the lowest number, so that nothing is left to chance.
    """
    neighbours: Neighbours = [{} for _ in range(size)]
    for source, target, count in zip(sources, targets, counts, strict=True):
        if source != target:
            neighbours[source][target] = neighbours[source].get(target, 0) + count
            neighbours[target][source] = neighbours[target].get(source, 0) + count
    inner, members = [0] * size, list(range(size))
    for _ in range(LEVELS_MAX):
        home = _settled(neighbours, inner)
        if len(set(home)) == len(home):
            break
        neighbours, inner, numbers = _merged(neighbours, inner, home)
        members = [numbers[home[member]] for member in members]
    return _ranked(members)


def modularity(size: int, edges: Sequence[tuple[int, int, int]], members: Sequence[int]) -> float:
    """How many more relations (source, target, count) lie within communities than chance would have, −0.5 to 1.

    Newman and Girvan 2004, without directions.
    """
    total = sum(count for _, _, count in edges)
    within, degrees = 0, [0] * (max(members, default=-1) + 1)
    for source, target, count in edges:
        within += count * (members[source] == members[target])
        degrees[members[source]] += count
        degrees[members[target]] += count
    return within / total - sum((degree / (2 * total)) ** 2 for degree in degrees) if total and size else 0.0


def _settled(neighbours: Neighbours, inner: Sequence[int]) -> list[int]:
    """Where each one lives once nobody gains by moving. All in whole numbers, so that sums do not depend on order."""
    degrees = [sum(near.values()) + within for near, within in zip(neighbours, inner, strict=True)]
    total = sum(degrees)
    home, weight = list(range(len(neighbours))), degrees.copy()
    waiting = list(range(len(neighbours)))
    for _ in range(ROUNDS_MAX):
        moved: set[int] = set()
        for one in waiting:
            links: defaultdict[int, int] = defaultdict(int)
            for other, count in neighbours[one].items():
                links[home[other]] += count
            old, degree = home[one], degrees[one]
            weight[old] -= degree
            best, most = old, links.get(old, 0) * total - weight[old] * degree
            for place, count in links.items():
                gain = count * total - weight[place] * degree
                if gain > most or (gain == most and best != old and place < best):
                    best, most = place, gain
            weight[best] += degree
            if best != old:
                home[one] = best
                moved.update(other for other in neighbours[one] if home[other] != best)
        if not moved:
            break
        waiting = sorted(moved)
    return home


def _merged(
    neighbours: Neighbours, inner: Sequence[int], home: Sequence[int]
) -> tuple[Neighbours, list[int], dict[int, int]]:
    """The graph of the communities, in the order of their first members."""
    numbers = {place: number for number, place in enumerate(dict.fromkeys(home))}
    merged: Neighbours = [{} for _ in numbers]
    within = [0] * len(numbers)
    for one, near in enumerate(neighbours):
        place = numbers[home[one]]
        within[place] += inner[one]
        for other, count in near.items():
            there = numbers[home[other]]
            if there == place:
                within[place] += count
            else:
                merged[place][there] = merged[place].get(there, 0) + count
    return merged, within, numbers


def _ranked(members: Sequence[int]) -> list[int]:
    sizes: defaultdict[int, int] = defaultdict(int)
    for member in members:
        sizes[member] += 1
    first = {member: number for number, member in reversed(list(enumerate(members)))}
    ranks = {member: rank for rank, member in enumerate(sorted(sizes, key=lambda one: (-sizes[one], first[one])))}
    return [ranks[member] for member in members]
