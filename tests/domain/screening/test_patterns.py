"""Detectors that are declared as patterns."""

import time

import pytest

from ostler.domain.screening.detectors import Detectors
from ostler.domain.screening.patterns import declared
from ostler.domain.screening.redaction import redact
from ostler.kernel.errors import DefinitionInvalid


def test_a_declared_pattern_is_found_under_its_name() -> None:
    detectors = Detectors(declared({"acme.ticket": r"\bTCK-\d+\b", "acme.customer": r"customer (\pL+)"}))
    text, counts = redact("É: see TCK-4711 of customer Höß.", ["acme.*"], detectors)
    assert text == "É: see [redacted:acme.ticket] of customer [redacted:acme.customer]."
    assert counts == {"acme.ticket": 1, "acme.customer": 1}


def test_every_pattern_that_cannot_be_used_is_told() -> None:
    with pytest.raises(DefinitionInvalid) as raised:
        declared({"a": "(", "b": "x*", "c": r"(\w)\1", "d": "x" * 5000, "fine": "x"})
    assert [path for path, _ in raised.value.problems] == [f"detectors.{name}" for name in "abcd"]


def test_a_pattern_that_would_backtrack_for_ever_does_not() -> None:
    detectors = Detectors(declared({"acme": "(a+)+$"}))
    start = time.process_time()
    assert redact("a" * 50_000 + "b", ["acme"], detectors).counts == {}
    assert time.process_time() - start < 20
