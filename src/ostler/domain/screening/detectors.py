"""Which detectors there are, by name: those that come with Ostler, and those that people add."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import islice

from ostler.domain.screening.credentials import SECRETS
from ostler.domain.screening.finding import Detector, Finding
from ostler.domain.screening.personal import PERSONAL
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import DefinitionInvalid

FAILED = "detector.failed"
"""The kind of a text that a detector failed at: all of it is withheld."""
MISSING = "detector.missing"
"""The kind of a text that was to be looked through by a detector that is not here: all of it is withheld."""
UNSETTLED = "detector.unsettled"
"""The kind of a text in which something new was found each time that it had been redacted."""

SELECTIONS_MAX = 1024
"""How many lists of globs are remembered with what they select; there are as many as rules that redact."""

_BUILTIN: Mapping[str, Detector] = {**PERSONAL, **SECRETS}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}(?:\.[a-z0-9_]{1,31}){0,3}")
_MORE = re.compile(r"(?:\.[a-z_]{1,31})?")
_MARKER = re.compile(r"\[redacted:([a-z0-9_.]{1,160}+)\]")


class Detectors:
    """A set of detectors. `custom` ones have names of their own (`acme.ticket`); they may not hide those of Ostler."""

    def __init__(self, custom: Mapping[str, Detector] | None = None) -> None:
        """Raises `DefinitionInvalid` with every name that cannot be one."""
        self._custom = dict(custom or {})
        if problems := [(name, problem) for name in self._custom if (problem := _problem(name))]:
            raise DefinitionInvalid("detectors", problems)
        self._all = {**_BUILTIN, **self._custom}
        self._selections: dict[tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._all))

    def chosen(self, globs: Iterable[str]) -> tuple[str, ...]:
        """The names that any of the globs (`pii.*`) select, sorted."""
        return self._selection(tuple(globs))[0]

    def missing(self, globs: Iterable[str]) -> tuple[str, ...]:
        """What to say of every glob that selects nothing."""
        return self._selection(tuple(globs))[1]

    def _selection(self, globs: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        known = self._selections.get(globs)
        if known is None:
            found = {glob: [name for name in self._all if fnmatchcase(name, glob)] for glob in globs}
            names = tuple(sorted({name for each in found.values() for name in each}))
            known = names, tuple(self._unknown(glob) for glob in globs if not found[glob])
            if len(self._selections) < SELECTIONS_MAX:
                self._selections[globs] = known
        return known

    def look(self, text: str, names: Iterable[str]) -> list[Finding]:
        """What the detectors of these names find, in no order. Where a custom one fails, all of it is one."""
        found: list[Finding] = []
        for name in names:
            if name in self._custom:
                found += _guarded(name, self._custom[name], text)
            else:
                found += [Finding(kind, start, end) for start, end, kind in _BUILTIN[name](text)]
        return found

    def markers(self, text: str) -> list[tuple[int, int]]:
        """Where something has been redacted before."""
        if "[redacted:" not in text:
            return []
        return [match.span() for match in _MARKER.finditer(text) if self._is_kind(match[1])]

    def _is_kind(self, kind: str) -> bool:
        if kind in self._all or kind in (FAILED, MISSING, UNSETTLED):
            return True
        return any(kind.startswith(name) and _MORE.fullmatch(kind, len(name)) for name in self._custom)

    def _unknown(self, glob: str) -> str:
        near = did_you_mean(glob, list(self._all))
        return f"no detector is called {glob!r} " + (
            f"(did you mean {near!r}?)" if near else f"(there are: {', '.join(self.names)})"
        )


BUILTIN = Detectors()
"""The detectors that come with Ostler."""


def _problem(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "is no name: words of small letters, digits and '_', with dots between"
    if name in _BUILTIN or name.partition(".")[0] == "detector":
        return "is the name of a detector of Ostler's"
    return ""


def _guarded(name: str, detector: Detector, text: str) -> list[Finding]:
    """What somebody's detector finds; one that fails, or answers nonsense, has not looked."""
    try:
        found = [Finding(kind, start, end) for start, end, kind in islice(detector(text), len(text) + 1)]
        if len(found) <= len(text) and all(_is_sound(each, name, len(text)) for each in found):
            return [each for each in found if each.start < each.end]
    except Exception:  # whatever it is, it is no answer
        pass
    return [Finding(FAILED, 0, len(text))]


def _is_sound(finding: Finding, name: str, size: int) -> bool:
    kind, start, end = finding
    if type(kind) is not str or type(start) is not int or type(end) is not int:
        return False
    return 0 <= start <= end <= size and kind.startswith(name) and _MORE.fullmatch(kind, len(name)) is not None
