"""Detectors that people declare as regular expressions, run by RE2 in linear time. Needs the extra `regex`."""

from collections.abc import Mapping

import re2  # type: ignore[import-untyped, unused-ignore]

from ostler.domain.screening.finding import Detector, Spans
from ostler.kernel.errors import DefinitionInvalid

PATTERN_CHARACTERS_MAX = 4096


def declared(patterns: Mapping[str, str]) -> dict[str, Detector]:
    """A detector for each name and pattern. Where a pattern has a group, it is the group that is found.

    Raises `DefinitionInvalid` with every pattern that RE2 does not take, or that matches nothing at all.
    """
    detectors, problems = {}, []
    for name, pattern in patterns.items():
        try:
            detectors[name] = _detector(name, pattern)
        except (re2.error, ValueError) as error:
            problems.append((f"detectors.{name}", f"is no regular expression of RE2: {error}"))
    if problems:
        raise DefinitionInvalid("detectors", problems)
    return detectors


def _detector(name: str, pattern: str) -> Detector:
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise ValueError(f"it has more than {PATTERN_CHARACTERS_MAX} characters")
    options = re2.Options()
    options.log_errors = False
    compiled = re2.compile(pattern, options)
    if compiled.search("") is not None:
        raise ValueError("it matches nothing at all, and so everywhere")
    group = 1 if compiled.groups else 0

    def find(text: str) -> Spans:
        for match in compiled.finditer(text):
            start, end = match.span(group)
            if start < end:
                yield start, end, name

    return find
