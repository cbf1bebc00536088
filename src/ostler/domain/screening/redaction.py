"""Finds what detectors look for in a text, however it is spelt, and takes it out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ostler.domain.screening.detectors import BUILTIN, MISSING, UNSETTLED, Detectors
from ostler.domain.screening.finding import Finding, merged, without
from ostler.domain.screening.reading import Reading, base64_texts, of_json, readings

ROUNDS_MAX = 6
"""How often a text is redacted before it is given up as one that never comes to rest."""
BASE64_DEPTH_MAX = 2

_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*+"|-?[0-9][0-9.eE+-]*+', re.DOTALL)


class Redacted(NamedTuple):
    """What is left of a text, and how many things of each kind were taken out of it."""

    text: str
    counts: dict[str, int]


def find(text: str, names: Iterable[str], detectors: Detectors = BUILTIN) -> tuple[Finding, ...]:
    """What the detectors that the globs `names` select find in `text`, in order and without overlaps.

    Looked through are the text as it stands; what it looks like (full-width letters, digits of other scripts, nothing
    invisible); what it says with percent-encoding undone, twice at most; and every run of base64 in any of these, which
    is found as a whole. `[redacted:…]` is no finding. A glob that selects nothing, and a detector that fails, make the
    whole text a finding. The time is linear in the length of the text.
    """
    return _found(Reading(text), text, [*names], detectors)


def redact(text: str, names: Iterable[str], detectors: Detectors = BUILTIN) -> Redacted:
    """`text` with `[redacted:pii.email]` in place of what `find` finds; redacting that again changes nothing.

    Taking something out can bring something else to light, so it is done until nothing is found. A text that never
    comes to rest, which only detectors of one's own can bring about, is withheld as a whole.
    """
    wanted = [*names]
    counts: dict[str, int] = {}
    for _ in range(ROUNDS_MAX):
        findings = find(text, wanted, detectors)
        if not findings:
            return Redacted(text, counts)
        text = _replaced(text, [(each, _marker(each.kind)) for each in findings], counts)
    return _settled(text, find(text, wanted, detectors), counts, _marker(UNSETTLED))


def redact_json(text: str, names: Iterable[str], detectors: Detectors = BUILTIN) -> Redacted:
    """The same for JSON text, which stays valid JSON: strings and keys are redacted within, numbers become strings.

    Whatever is not redacted stays as it was written, to the last digit.
    """
    wanted = [*names]
    counts: dict[str, int] = {}
    for _ in range(ROUNDS_MAX):
        findings = _found(of_json(text), text, wanted, detectors)
        if findings and findings[0].end - findings[0].start == len(text):
            counts[findings[0].kind] = 1
            return Redacted(f'"{_marker(findings[0].kind)}"', counts)
        literals = [*_within_literals(text, findings)]
        if not literals:
            return Redacted(text, counts)
        text = _replaced(text, literals, counts)
    left = [*_within_literals(text, _found(of_json(text), text, wanted, detectors))]
    return _settled(text, left, counts, f'"{_marker(UNSETTLED)}"')


def _found(whole: Reading, original: str, wanted: Sequence[str], detectors: Detectors) -> tuple[Finding, ...]:
    """What is found in a reading, as spans of the original text."""
    if not original or not wanted:
        return ()
    if detectors.missing(wanted):
        found = [Finding(MISSING, 0, len(original))]
    else:
        looked = _look(whole.text, detectors.chosen(wanted), detectors, BASE64_DEPTH_MAX)
        found = [Finding(kind, *whole.origin(start, end)) for kind, start, end in looked]
    return tuple(without(merged(found), detectors.markers(original)))


def _look(text: str, names: Sequence[str], detectors: Detectors, depth: int) -> Iterator[Finding]:
    """What is found in a text by any way of reading it."""
    for reading in readings(Reading(text)):
        for kind, start, end in detectors.look(reading.text, names):
            if start < end:
                yield Finding(kind, *reading.origin(start, end))
        for start, end, decoded in base64_texts(reading.text) if depth else ():
            hidden = next(_look(decoded, names, detectors, depth - 1), None)
            if hidden is not None:
                yield Finding(hidden.kind, *reading.origin(start, end))


def _within_literals(text: str, findings: Sequence[Finding]) -> Iterator[tuple[Finding, str]]:
    """The parts of the findings that are inside of strings, and all of every number that one is in, with what goes
    there instead.
    """
    ahead = iter(findings)
    finding = next(ahead, None)
    for literal in _LITERAL.finditer(text) if finding else ():
        start, end = literal.span()
        is_string = text[start] == '"'
        if is_string:
            start, end = start + 1, end - 1
        while finding is not None and finding.end <= start:
            finding = next(ahead, None)
        while finding is not None and finding.start < end and start < end:
            if not is_string:
                yield Finding(finding.kind, start, end), f'"{_marker(finding.kind)}"'
                break
            part = Finding(finding.kind, max(start, finding.start), min(end, finding.end))
            yield part, _marker(finding.kind)
            if finding.end > end:
                break
            finding = next(ahead, None)


def _replaced(text: str, exchanges: Iterable[tuple[Finding, str]], counts: dict[str, int]) -> str:
    parts: list[str] = []
    done = 0
    for (kind, start, end), instead in exchanges:
        counts[kind] = counts.get(kind, 0) + 1
        parts += (text[done:start], instead)
        done = end
    return "".join([*parts, text[done:]])


def _marker(kind: str) -> str:
    return f"[redacted:{kind}]"


def _settled(text: str, left: Sequence[object], counts: dict[str, int], instead: str) -> Redacted:
    if not left:
        return Redacted(text, counts)
    counts[UNSETTLED] = 1
    return Redacted(instead, counts)
