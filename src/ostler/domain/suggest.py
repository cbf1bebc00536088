"""Did you mean …? The one answer to a misspelt name, wherever a name can be misspelt."""

from collections.abc import Iterable

DISTANCE_MAX = 3


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` is most likely a misspelling of; None if none is near.

    Near is at most 3 edits, and at most one for every three letters, so that short words do not match everything.
    Case does not count; of equally near choices the first in alphabetical order is named.
    """
    nearest: tuple[int, str] | None = None
    for choice in choices:
        limit = min(DISTANCE_MAX, max(len(word), len(choice)) // 3)
        if abs(len(word) - len(choice)) > limit:
            continue
        distance = edits(word.lower(), choice.lower())
        if distance <= limit and (nearest is None or (distance, choice) < nearest):
            nearest = (distance, choice)
    return nearest[1] if nearest else None


def edits(one: str, other: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours that make `other` of `one`.

    The Levenshtein distance in which a swap counts once (optimal string alignment): swaps are the commonest slip.
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, above, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]
