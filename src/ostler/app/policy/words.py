"""The texts that a set of patterns can tell apart: an example for every way in which they can match."""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from ostler.domain.glob import ANY, matches

STATES_MAX = 20_000
"""Beyond so many states there are too many kinds of text for anybody to look at each of them."""

_FILLING = "any"
_OTHERS = "xyzwvqkj"


class Pattern(msgspec.Struct, frozen=True, order=True):
    """A glob, or with `is_exact` a text that is meant as it stands. Folded, it sees every letter as a small one."""

    text: str
    is_exact: bool = True
    is_folded: bool = False

    @classmethod
    def glob(cls, text: str) -> "Pattern":
        """As texts with stars are read in rules."""
        return cls(text, is_exact=ANY not in text)

    def matches(self, text: str) -> bool:
        """Whether a whole text matches."""
        read = text.lower() if self.is_folded else text
        return read == self.text if self.is_exact else matches(self.text, read)


class Kind(msgspec.Struct, frozen=True):
    """The texts that match all of `matched` and none of the other patterns: one of them, and whether it is the only.

    A vague kind is all texts, where there are too many kinds to tell them apart.
    """

    example: str
    matched: frozenset[Pattern]
    is_single: bool
    is_vague: bool = False


_State = frozenset[tuple[int, int]]
_STAR = ""
"""No letter: stands for any text in a pattern that is taken apart."""


def kinds(patterns: Iterable[Pattern], *, examples: Iterable[str] = ()) -> list[Kind] | None:
    """Every way in which texts can match these patterns; None if there are too many of them.

    Exact: a breadth-first walk over the product of the patterns' automata, so that every kind is found, each with a
    shortest text, unless one of the `examples` or a pattern with its stars filled in is of this kind.
    """
    walk = _Walk(sorted(set(patterns)))
    found = walk.shortest()
    if found is None:
        return None
    pleasant = [*examples, *(one.text.replace(ANY, _FILLING) for one in walk.patterns if not one.is_exact), "other"]
    chosen: dict[frozenset[int], str] = {}
    for text in pleasant:
        chosen.setdefault(walk.matched(text), text)
    return [
        Kind(chosen.get(numbers, text), matched := frozenset(walk.patterns[n] for n in numbers), _is_single(matched))
        for numbers, text in found.items()
    ]


def _is_single(matched: frozenset[Pattern]) -> bool:
    return any(one.is_exact and not (one.is_folded and one.text.upper() != one.text) for one in matched)


class _Walk:
    """All patterns read one text at once; a state is the places in patterns that are still in the running."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.patterns = patterns
        self._parts = [
            [_STAR if letter == ANY and not one.is_exact else letter for letter in one.text] for one in patterns
        ]
        written = {letter for one in patterns for letter in one.text.lower() + one.text.upper()}
        unwritten = (chr(code) for code in range(0xE000, 0xF8FF))
        self._other = next(letter for letter in [*_OTHERS, *unwritten] if letter not in written)

    def matched(self, text: str) -> frozenset[int]:
        """The numbers of the patterns that match a text."""
        state = self._start()
        for letter in text:
            state = self._after(state, letter)
        return self._accepted(state)

    def shortest(self) -> dict[frozenset[int], str] | None:
        """A shortest text for every set of patterns that some text matches; None if there are too many states."""
        start = self._start()
        seen, waiting = {start}, deque([(start, "")])
        found: dict[frozenset[int], str] = {}
        while waiting:
            state, text = waiting.popleft()
            found.setdefault(self._accepted(state), text)
            for letter in self._letters(state):
                following = self._after(state, letter)
                if following not in seen:
                    seen.add(following)
                    waiting.append((following, text + letter))
            if len(seen) > STATES_MAX:
                return None
        return found

    def _start(self) -> _State:
        return self._closed((number, 0) for number in range(len(self.patterns)))

    def _closed(self, places: Iterable[tuple[int, int]]) -> _State:
        """A star may stand for nothing, so whoever stands before one stands behind it as well."""
        state = set()
        for number, place in places:
            parts = self._parts[number]
            state.add((number, place))
            while place < len(parts) and parts[place] == _STAR:
                place += 1
                state.add((number, place))
        return frozenset(state)

    def _after(self, state: _State, letter: str) -> _State:
        going_on = []
        for number, place in state:
            parts = self._parts[number]
            if place == len(parts):
                continue
            if parts[place] == _STAR:
                going_on.append((number, place))
            elif parts[place] == (letter.lower() if self.patterns[number].is_folded else letter):
                going_on.append((number, place + 1))
        return self._closed(going_on)

    def _letters(self, state: _State) -> list[str]:
        """The letters that make a difference here, and one that stands in no pattern."""
        letters = {self._other}
        for number, place in state:
            parts = self._parts[number]
            if place < len(parts) and parts[place] != _STAR:
                letters |= {parts[place], parts[place].upper()} if self.patterns[number].is_folded else {parts[place]}
        return sorted(letters)

    def _accepted(self, state: _State) -> frozenset[int]:
        return frozenset(number for number, place in state if place == len(self._parts[number]))
