"""Characters that act on whoever shows a text lose their power, and are seen."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.screening.controls import acting, neutralise, neutralise_json

TEXTS = st.text(
    st.characters()
    | st.sampled_from("\x00\x07\x08\t\n\r\x1b[;m0139\x7f\x85\x9b\u2028\u202e\u2066\ud83d\ude00\U000e0041")
)


@pytest.mark.parametrize(
    ("text", "seen", "changed"),
    [
        ("plain, tab\tand\nlines", "plain, tab\tand\nlines", 0),
        ("\x1b[1;31mred\x1b[0m", "red", 0),
        ("a\x1b[2Jb", "a␛[2Jb", 1),
        ("\x1b]0;title\x07", "␛]0;title␇", 2),
        ("\x1b]8;;http://x\x1b\\click", "␛]8;;http://x␛\\click", 2),
        ("\x1b[\x1b[0m31m", "␛[31m", 1),
        ("\x9b2J", "�2J", 1),
        ("one\r\ntwo", "one\ntwo", 0),
        ("shown\rhidden", "shown␍hidden", 1),
        ("a\u2028b\x85c\x0bd\x0ce", "a\nb\nc\nd\ne", 0),
        ("file\u202egpj.exe", "file�gpj.exe", 1),
        ("hi" + "".join(chr(0xE0000 + ord(char)) for char in "obey"), "hi�", 1),
        ("\x00\x08\x7f", "␀␈␡", 3),
        ("half \ud83d of it", "half � of it", 1),
        ("👩\u200d🚀 שלום\u200f naïve", "👩\u200d🚀 שלום\u200f naïve", 0),
    ],
)
def test_what_acts_is_made_to_be_seen(text: str, seen: str, changed: int) -> None:
    assert neutralise(text) == (seen, changed)
    assert (acting(text) is not None) == (changed > 0 or "\x1b" in text)


@given(TEXTS)
def test_nothing_that_acts_is_left_and_all_lines_break_alike(text: str) -> None:
    seen, _ = neutralise(text)
    assert acting(seen) is None
    assert neutralise(seen) == (seen, 0)
    assert seen.split("\n") == (seen + "|").removesuffix("|").splitlines() + [""] * (seen == "" or seen.endswith("\n"))
    seen.encode()


@given(TEXTS, st.booleans())
def test_a_text_within_json_becomes_what_it_would_become_outside(text: str, is_ascii: bool) -> None:
    written = json.dumps({"k": text}, ensure_ascii=is_ascii)
    seen, changed = neutralise_json(written)
    whole = json.loads(json.dumps(text))  # where two halves stand together, they are one character in JSON
    outside = neutralise(whole if is_ascii else text)
    assert re.sub("�+", "�", json.loads(seen)["k"]) == re.sub("�+", "�", outside.text)
    assert bool(changed) == bool(outside.changed)


def test_escapes_that_act_on_nobody_stay_as_they_are() -> None:
    text = '{"a":"\\u0041\\ud83d\\ude00 \\\\u001b \\/ \\" \\n \\t", "b": [1.10, true]}'
    assert neutralise_json(text) == (text, 0)
