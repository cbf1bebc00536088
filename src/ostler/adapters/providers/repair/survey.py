"""Finds out what there is: the files, how the tests are run, what fails, and the code behind it."""

import builtins
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import PurePath

from ostler.adapters.providers.repair import workshop
from ostler.adapters.providers.repair.reports import Report, read_report
from ostler.adapters.providers.repair.script import Ask, Seen, Steps, Stuck, Turn
from ostler.adapters.providers.repair.source import Source
from ostler.adapters.providers.repair.suspects import Index, failing_tests, is_path, is_test_path

READS_MAX = 8
"""Files read in one turn."""
ROUNDS_MAX = 4
"""How often the code that the code mentions is looked for."""
PARTS_MAX = 16
"""How many parts of a long file are read."""
PATTERN_CHARS_MAX = 900
REPEATS_MAX = 3

_STANDARD_TYPES = (str, bytes, list, dict, set, tuple, int, float, datetime, timedelta, PurePath, re.Pattern, re.Match)
_STANDARD_NAMES = frozenset(dir(builtins)).union(*map(dir, _STANDARD_TYPES))


class Survey:
    """What is known of the project; all of it was seen in observations."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.has_git = False
        self.command: tuple[str, ...] = ()
        self.sources: dict[str, Source] = {}
        self._searched: set[str] = set()

    def look_around(self) -> Steps[None]:
        (listing,) = yield Turn("I look around first: which files are here?", (workshop.list_files(),))
        if not listing.ok:
            raise Stuck(f"I could not list the files: {listing.error}")
        entries = workshop.entries(listing)
        self.files = [path for path in entries if path.endswith(".py")]
        self.has_git = ".git/" in entries or ".git" in entries
        if not self.files:
            raise Stuck("There are no Python files here; Python tests are all that I can repair without a live model.")

    def run_tests(self) -> Steps[Report]:
        """Finds the command that runs the tests, by running it."""
        text, absent = "I run the tests to see what fails.", ""
        for command in _commands(self.files):
            if command[0] == absent:
                continue
            self.command = command
            ask = workshop.run(*command)
            (seen,) = yield Turn(text, (ask,))
            seen = yield from surely_ran(seen, ask)
            outcome = workshop.ran(seen)
            if outcome is None and seen.kind not in ("not_found", "invalid"):
                raise Stuck(f"I could not run the tests, so I changed nothing. {seen.error}")
            if outcome is None or outcome.exit == workshop.NO_SUCH_PROGRAM:
                absent = self.command[0]
                text = f"`{absent}` cannot be run here; I try it otherwise."
                continue
            report = read_report(outcome)
            if report.tests or report.failures:
                return report
            text = "No tests were found that way; I try it otherwise."
        raise Stuck(
            "I found no tests here that unittest or pytest can run, so I cannot know what is broken, and I changed "
            "nothing. Add a test that shows the fault, and I can look for its cause."
        )

    def read_around(self, report: Report) -> Steps[None]:
        """Reads the failing tests, then the code that they mention, then the code that this mentions, and so on."""
        failing = _listed([failure.function for failure in report.failures])
        tests = [path for path in self.files if is_test_path(path)]
        involved = [path for path in tests if _is_in(path, report)]
        text = f"{report.failed or 'Some'} of {report.tests} tests fail ({failing}). I read them to see what they want."
        yield from self._read(involved or tests, text)
        for _ in range(ROUNDS_MAX):
            names = self._unknown_names(report)
            if not names:
                return
            self._searched.update(names)
            text = f"I look for where these are defined: {_listed(names)}."
            (hits,) = yield Turn(text, (workshop.search(rf"^\s*(async def|def|class) ({'|'.join(names)})\b"),))
            traced = [path for path in self.files if _is_in(path, report)]
            wanted = [path for path in dict.fromkeys([*traced, *workshop.hits(hits)]) if self._is_new(path)]
            if not wanted:
                return
            yield from self._read(wanted, f"I read the code behind the failing tests: {_listed(wanted)}.")

    def _unknown_names(self, report: Report) -> list[str]:
        """Names in what the failing tests may reach, of which it is not known yet whether they are defined here."""
        index = Index(list(self.sources.values()))
        roots = [root for test in failing_tests(index, report.failures) for root in index.roots(test)]
        names = {name for function in index.reached(roots or index.functions) for name in function.mentions}
        unknown = names - self._searched - _STANDARD_NAMES
        chosen: list[str] = []
        size = 0
        for name in sorted(unknown):
            size += len(name) + 1
            if size < PATTERN_CHARS_MAX and not index.knows(name) and not name.startswith("assert"):
                chosen.append(name)
        return chosen

    def _is_new(self, path: str) -> bool:
        return path in self.files and path not in self.sources

    def _read(self, paths: Sequence[str], text: str) -> Steps[None]:
        chosen = list(paths)[:READS_MAX]
        seen = yield Turn(text, tuple(workshop.read(path) for path in chosen))
        for path, observed in zip(chosen, seen, strict=True):
            whole = yield from whole_text(path, observed)
            try:
                if whole is not None:
                    self.sources[path] = Source(path, whole)
            except (SyntaxError, ValueError):
                self.files.remove(path)


def whole_text(path: str, seen: Seen) -> Steps[str | None]:
    """The whole text of a file of which the beginning was read; None if it is not to be had."""
    parts: list[str] = []
    for _ in range(PARTS_MAX):
        text, following = workshop.content(seen)
        if text is None:
            return None
        parts.append(text)
        if following is None:
            return "".join(parts)
        (seen,) = yield Turn(f"{path} is long; I read on from line {following}.", (workshop.read(path, following),))
    return None


def surely_ran(seen: Seen, ask: Ask) -> Steps[Seen]:
    """Asks again as long as nobody knows how it ended; for programs that may well be run twice."""
    for _ in range(REPEATS_MAX):
        if seen.ok or seen.kind not in ("unknown", "transient", "cancelled"):
            break
        text = f"Nobody knows how that ended ({seen.error}); I run it again."
        (seen,) = yield Turn(text, (ask,))
    return seen


def _commands(files: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Ways to run the tests, likeliest first. `-B`: no bytecode is kept, which could be that of an earlier try."""
    has_src = any(path.startswith("src/") for path in files)
    test_folders = sorted({path.split("/")[0] for path in files if "/" in path and is_test_path(path)} - {"src"})
    unittest: tuple[str, ...] = ("-m", "unittest")
    pytest: tuple[str, ...] = ("-m", "pytest", "-q", "--tb=native", "-p", "no:cacheprovider")
    if has_src:
        unittest = ("-c", "import sys, unittest; sys.path.insert(0, 'src'); unittest.main(module=None)")
        pytest = (*pytest, "-o", "pythonpath=src")
    for python in ("python3", "python"):
        yield python, "-B", *unittest
        for folder in test_folders:
            yield python, "-B", *unittest, "discover", "-s", folder
        if any(map(is_test_path, files)):
            yield python, "-B", *pytest


def _is_in(path: str, report: Report) -> bool:
    return any(is_path(frame.path, path) for failure in report.failures for frame in failure.frames)


def _listed(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(list(dict.fromkeys(names))[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
