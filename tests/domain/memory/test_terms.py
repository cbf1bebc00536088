"""What of a question is looked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.memory.memory import normal
from ostler.domain.memory.terms import STOP_WORDS, TERMS_MAX, names, terms


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Where does Ann live?", ("ann", "live")),
        ("What is the status of INV-2024-001?", ("status", "inv-2024-001")),
        ("Why did build 4711 fail at 3.14?", ("build", "4711", "fail", "3.14")),
        ("multi-hop questions", ("multi", "hop", "questions")),
        ("Ann's dog", ("ann", "dog")),
        ("\uff21\uff2e\uff2e", ("ann",)),  # full-width letters
        ("Straße", ("strasse",)),
        ("who is it?", ()),
        ("", ()),
        ("x y 7", ("7",)),
        ('text:"x*" NEAR (scope:all)', ("text", "near", "scope")),
        ("Ann ann ANN", ("ann",)),
    ],
)
def test_a_question_is_looked_for_by_the_words_that_tell_something(question: str, expected: tuple[str, ...]) -> None:
    assert terms(question) == expected


def test_of_a_long_question_what_tells_most_is_kept_in_its_order() -> None:
    filler = [f"{chr(97 + number // 26)}{chr(97 + number % 26)}q" for number in range(100)]
    found = terms(" ".join([*filler[:50], "Katharina", "order", "A-17", *filler[50:]]))
    assert len(found) == TERMS_MAX
    assert [term for term in found if term not in filler] == ["katharina", "order", "a-17"]


@given(st.text(max_size=200))
def test_whatever_is_asked_no_term_is_empty_or_comes_twice(question: str) -> None:
    found = terms(question)
    assert len(set(found)) == len(found) <= TERMS_MAX
    assert all(term.strip() and term not in STOP_WORDS for term in found)


def test_names_are_runs_of_words_as_names_are_compared() -> None:
    found = names("Who works with  Ann Bell's team in New York?")
    assert {"ann bell", "new york", "ann", "york"} <= set(found)
    assert all(name == normal(name) and len(name.split()) <= 4 for name in found)
    assert not {"who", "with", "in"} & set(found)
