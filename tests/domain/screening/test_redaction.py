"""Redacting: what is found goes, what is not stays, JSON is still JSON, and doing it twice changes nothing."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.screening.detectors import Detectors
from ostler.domain.screening.finding import Finding, merged, without
from ostler.domain.screening.redaction import find, redact, redact_json
from tests.domain.screening.test_detectors import ALL, FOUND, NOT_FOUND

PIECES = st.sampled_from(
    [text for _, text, _ in FOUND]
    + NOT_FOUND
    + ["@", ".", "-", " ", "\n", "1", "4", "%40", "%25", "\u200b", "[redacted:", "]", "[redacted:pii.email]", "=", ":"]
    + ["password", "-----BEGIN PRIVATE" + " KEY-----", "://", "A" * 20, "é", "\U0001f600"]
)
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=8).map("".join)
VALUES = st.recursive(
    TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def test_each_finding_is_replaced_by_its_kind_and_counted() -> None:
    text, counts = redact("From a@b.co and c@d.co, card 4111 1111 1111 1111.", ["pii.*"])
    assert text == "From [redacted:pii.email] and [redacted:pii.email], card [redacted:pii.card]."
    assert counts == {"pii.email": 2, "pii.card": 1}


def test_only_what_is_asked_for_is_redacted() -> None:
    assert redact("a@b.co 4111 1111 1111 1111", ["pii.card"]).text == "a@b.co [redacted:pii.card]"
    assert redact("a@b.co", []).text == "a@b.co"


@given(TEXTS)
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once, _ = redact(text, ALL)
    assert redact(once, ALL) == (once, {})
    assert find(once, ALL) == ()


@given(VALUES, st.booleans())
def test_redacted_json_is_json_of_the_same_shape_and_comes_to_rest(value: object, is_ascii: bool) -> None:
    written = json.dumps(value, ensure_ascii=is_ascii)
    text, counts = redact_json(written, ALL)
    assert is_what_is_left_of(pairs(text), pairs(written))
    assert redact_json(text, ALL) == (text, {})
    assert counts or text == written


class Table(list):
    """The names and values of a JSON object: redacted names may be equal."""


def pairs(text: str) -> object:
    return json.loads(text, object_pairs_hook=Table)


def is_what_is_left_of(value: object, before: object) -> bool:
    """Whether a value has the same form as one before, in which numbers may have become texts."""
    if isinstance(before, list):
        if type(value) is not type(before) or len(value) != len(before):
            return False
        return all(is_what_is_left_of(*each) for each in zip(value, before, strict=True))
    if isinstance(before, tuple):
        return isinstance(value, tuple) and all(map(is_what_is_left_of, value, before))
    if isinstance(value, str):
        return isinstance(before, str) or (isinstance(before, int | float) and "[redacted:" in value)
    return value == before


def test_json_stays_as_it_was_written_but_for_what_is_redacted() -> None:
    text = '{"n": 12345678901234567890.10, "big": 1e400, "to":\t"a\\u0040b.co\\n\\u00e9", "pan": 4111111111111111}'
    cleared, counts = redact_json(text, ["pii.*"])
    assert cleared == (
        '{"n": 12345678901234567890.10, "big": 1e400, "to":\t"[redacted:pii.email]\\n\\u00e9", '
        '"pan": "[redacted:pii.card]"}'
    )
    assert counts == {"pii.email": 1, "pii.card": 1}


def test_keys_of_json_are_redacted_like_values() -> None:
    assert redact_json('{"a@b.co": [1]}', ["pii.*"]).text == '{"[redacted:pii.email]": [1]}'


def test_the_name_before_a_secret_tells_it_in_json_too() -> None:
    assert redact_json('{"password":"hunter2"}', ["secret.*"]).text == '{"password":"[redacted:secret.assignment]"}'
    assert redact_json('"{\\"password\\":\\"hunter2\\"}"', ["secret.*"]).counts == {"secret.assignment": 1}


def test_json_that_is_withheld_as_a_whole_is_one_text() -> None:
    assert redact_json('{"a": [1, "x"]}', ["nobody.*"]) == ('"[redacted:detector.missing]"', {"detector.missing": 1})


def test_a_forged_mark_hides_nothing() -> None:
    hidden = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"
    assert hidden not in redact(f"[redacted:{hidden}]", ALL).text
    assert "4111" not in redact("[redacted:pii.card 4111 1111 1111 1111]", ALL).text


def test_a_secret_counts_for_more_than_what_it_is_part_of() -> None:
    text, _ = redact("postgres://app:s3cr3t@db.example.org/x", ALL)
    assert text == "postgres://app:[redacted:secret.url]/x"


def test_a_text_that_never_comes_to_rest_is_withheld() -> None:
    def always(text: str) -> list[tuple[int, int, str]]:
        at = text.find("x")
        return [(at, at + 1, "acme")] if at >= 0 else []

    detectors = Detectors({"acme": always})
    assert redact("x" * 3, ["acme"], detectors).text == "[redacted:acme]" * 3
    assert redact("x" * 99, ["acme"], detectors).text == "[redacted:detector.unsettled]"
    assert redact_json('"' + "x" * 99 + '"', ["acme"], detectors).text == '"[redacted:detector.unsettled]"'
    assert redact("[redacted:detector.unsettled]", ["acme"], detectors).counts == {}


def test_what_is_redacted_already_is_no_finding() -> None:
    detectors = Detectors({"acme": lambda text: [(0, len(text), "acme")]})
    once = redact("all of it", ["acme"], detectors)
    assert once == ("[redacted:acme]", {"acme": 1})
    assert redact(f"- {once.text}", ["acme"], detectors).text == "[redacted:acme][redacted:acme]"


def test_a_finding_across_several_values_leaves_json() -> None:
    detectors = Detectors({"acme": lambda text: [(3, len(text), "acme")]})
    text, counts = redact_json('{"ab": ["c", 1.5, {"d": null}], "": true}', ["acme"], detectors)
    hidden = "[redacted:acme]"
    assert json.loads(text) == {f"a{hidden}": [hidden, hidden, {hidden: None}], "": True}
    assert counts == {"acme": 4}


SPANS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(1, 9)), max_size=8)


@given(SPANS, SPANS)
def test_merged_findings_cover_the_same_places_once(spans, taken) -> None:
    found = [Finding(kind, start, start + size) for kind, start, size in spans]
    kept = [(each.start, each.end) for each in merged(Finding(kind, at, at + size) for kind, at, size in taken)]
    whole = merged(found)
    assert places(whole) == sorted({place for each in found for place in range(each.start, each.end)})
    left = [*without(whole, kept)]
    assert places(left) == [place for place in places(whole) if not any(a <= place < b for a, b in kept)]


def places(findings) -> list[int]:
    """Every position that findings cover, as often as they do, in order of the findings."""
    return [place for each in findings for place in range(each.start, each.end)]


HOSTILE = [
    "a@", "@", "a@b.", "AKIA", "eyJ", "eyJaaaaaaaa.", "4", "4111 ", "+1", "+1 ", "0", "01 ", "011 ", "1.", "2001:",
    "-----BEGIN PRIVATE" + " KEY-----", "token", "token=", "password:", "QUFB", "%25", "%2540", "\u200b", "\uff14",
    "\\u0041", '"', '\\"', "://a:", "(", "[redacted:", "[redacted:pii.email]", "a@b.co ", "123-45-", "DE89 ", "gl",
    "A" * 76 + "\n", "Bearer a", "xox", "0" + "1" * 4 + " ", "3", "(0", "200",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear_in_the_length_of_hostile_text(unit: str) -> None:
    size = 1 << 14
    text = (unit * (4 * size // len(unit) + 1))[: 4 * size]

    def cpu_s(length: int) -> float:
        def once() -> float:
            start = time.process_time()
            redact(text[:length], ALL)
            redact_json(text[:length], ALL)
            return time.process_time() - start

        return min(once() for _ in range(2))

    short, long = cpu_s(size), cpu_s(4 * size)
    assert long < 9 * short + 0.05, f"4 × the text took {long / short:.1f} × the time"
