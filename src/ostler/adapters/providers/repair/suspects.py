"""Which functions are to be suspected when tests fail, and how much.

Three kinds of evidence are combined: which tests can reach a function (a function that failing tests reach and passing
ones do not is suspicious: Ochiai's coefficient, as in spectrum-based fault localisation), how far it is from the test,
and whether its words are those of the test's name. Reaching is judged by names alone, which overstates it.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ostler.adapters.providers.repair.reports import Failure
from ostler.adapters.providers.repair.source import MODULE, Function, Source, defined_names, functions

_SET_UP = {"setUp", "setUpClass", "asyncSetUp", "setup_method", "setup_class"}


class Suspect(msgspec.Struct, frozen=True, eq=False):
    """A function and how much it is suspected; the figure is for comparing only. `lines` are those of its traceback."""

    function: Function
    suspicion: float
    lines: frozenset[int] = frozenset()


class Index:
    """Functions by the names under which others may reach them."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.functions = [function for source in sources for function in functions(source)]
        self._by_name: dict[str, list[Function]] = {}
        for function in self.functions:
            self._by_name.setdefault(function.name, []).append(function)
            if function.owner and re.fullmatch(r"__\w+__", function.name):
                self._by_name.setdefault(function.owner, []).append(function)
        self._known = {name for source in sources for name in defined_names(source)}

    def knows(self, name: str) -> bool:
        """Whether it is a function, a class or an attribute that is assigned somewhere in these sources."""
        return name in self._known

    def reached(self, roots: Iterable[Function]) -> dict[Function, int]:
        """Every function that `roots` may come to run, with its least distance from them."""
        distance = dict.fromkeys(roots, 0)
        queue = list(distance)
        for function in queue:
            for name in sorted(function.mentions):
                for target in self._by_name.get(name, ()):
                    if target not in distance:
                        distance[target] = distance[function] + 1
                        queue.append(target)
        return distance

    def tests(self) -> list[Function]:
        return [function for function in self.functions if function.name.startswith("test") and is_test(function)]

    def roots(self, test: Function) -> list[Function]:
        """The test and what prepares it."""
        return [test, *(f for f in self.functions if f.name in _SET_UP and _beside(f, test))]


def is_test(function: Function) -> bool:
    """Whether it is a test or helps tests."""
    return is_test_path(function.source.path)


def is_test_path(path: str) -> bool:
    """Whether the name of a file, or of a folder around it, says that it is for tests."""
    *folders, name = path.split("/")
    is_named = name.startswith("test") or name.endswith("_test.py") or name == "conftest.py"
    return is_named or any(folder in ("test", "tests", "testing") for folder in folders)


def failing_tests(index: Index, failures: Sequence[Failure]) -> dict[Function, Failure]:
    """The failing test functions among those that are known."""
    found: dict[Function, Failure] = {}
    for test in index.tests():
        for failure in failures:
            if failure.function == test.name and (not test.owner or test.owner in failure.test):
                found.setdefault(test, failure)
    return found


def rank(index: Index, failures: Sequence[Failure]) -> list[Suspect]:
    """Whom to suspect of the failures, most suspicious first. Tests and their helpers are above suspicion."""
    failing = failing_tests(index, failures)
    reach = {test: index.reached(index.roots(test)) for test in index.tests()}
    suspects = []
    for function in index.functions:
        hits = [reach[test][function] for test in failing if function in reach[test]]
        lines = _frame_lines(function, failures)
        if is_test(function) or not (hits or lines):
            continue
        misses = sum(function in reach[test] for test in reach if test not in failing)
        spectrum = _ochiai(len(hits), misses, len(failing))
        closeness = 1 / (1 + 0.25 * (min(hits) if hits else 1))
        weight = (2.0 if lines else 1.0) * (0.5 if function.name == MODULE else 1.0)
        suspicion = spectrum * closeness * (1 + _affinity(function, failing)) * weight
        suspects.append(Suspect(function, suspicion, lines))
    return sorted(suspects, key=lambda suspect: -suspect.suspicion)


def _ochiai(hits: int, misses: int, failing: int) -> float:
    if not hits or not failing:
        return 0.5
    return hits / math.sqrt(failing * (hits + misses))


def _affinity(function: Function, failing: Mapping[Function, Failure]) -> float:
    """The part, 0 to 1, of the words in the failing tests' names that occur in the function's text."""
    words = {word for test in failing for word in re.findall(r"[a-z]{4,}", test.name.lower())} - {"test", "tests"}
    text = function.text.lower()
    return sum(word.rstrip("s") in text for word in words) / len(words) if words else 0.0


def _frame_lines(function: Function, failures: Sequence[Failure]) -> frozenset[int]:
    path = function.source.path
    frames = (frame for failure in failures for frame in failure.frames)
    return frozenset(frame.line for frame in frames if is_path(frame.path, path) and function.holds(frame.line))


def is_path(absolute: str, relative: str) -> bool:
    """Whether a path of a traceback may be this file of the workspace, wherever the workspace is mounted."""
    return absolute == relative or absolute.endswith("/" + relative)


def _beside(function: Function, test: Function) -> bool:
    return function.source is test.source and function.owner == test.owner
