"""What a detector has found in a text, and where."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

Spans = Iterable[tuple[int, int, str]]

Detector = Callable[[str], Spans]
"""Finds things in a text: (start, end, kind), in any order. A kind is the detector's own name, or that with one more
word (`acme.ticket`, `acme.ticket.closed`).
"""


class Finding(NamedTuple):
    """`text[start:end]` is of this kind (`pii.email`)."""

    kind: str
    start: int
    end: int


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in order, those that overlap made into one: a secret if any is, else of the kind of the longest."""
    found: list[Finding] = []
    weight = (False, 0)
    for each in sorted(findings, key=lambda each: (each.start, -each.end, each.kind)):
        own = (each.kind.startswith("secret."), each.end - each.start)
        if not found or each.start >= found[-1].end:
            found.append(each)
            weight = own
            continue
        before = found[-1]
        heavier = each if own > weight else before
        weight = max(own, weight)
        found[-1] = Finding(heavier.kind, before.start, max(before.end, each.end))
    return tuple(found)


def without(findings: Iterable[Finding], kept: Iterable[tuple[int, int]]) -> Iterator[Finding]:
    """What is left of the findings when the spans `kept` are taken out. Both are in order, and do not overlap."""
    spans = iter([*kept])
    span = next(spans, None)
    for kind, start, end in findings:
        while span is not None and span[1] <= start:
            span = next(spans, None)
        while span is not None and span[0] < end:
            if start < span[0]:
                yield Finding(kind, start, span[0])
            start = span[1]
            if start >= end:
                break
            span = next(spans, None)
        if start < end:
            yield Finding(kind, start, end)
