"""The kinds of text that patterns tell apart."""

from hypothesis import given
from hypothesis import strategies as st

from ostler.app.policy.words import Kind, Pattern, kinds
from ostler.domain.glob import matches

GLOBS = st.text(alphabet="ab.*", max_size=5).map(lambda text: Pattern(text, is_exact=False))
EXACT = st.text(alphabet="ab*", max_size=3).map(Pattern)
FOLDED = st.text(alphabet="ab*", max_size=3).map(lambda text: Pattern(text, is_exact=False, is_folded=True))


def test_every_kind_has_an_example_that_looks_like_one():
    found = kinds([Pattern("*.example.org", is_exact=False), Pattern("api.example.com")])
    assert found is not None
    assert sorted(kind.example for kind in found) == ["any.example.org", "api.example.com", "other"]


@given(st.lists(st.one_of(GLOBS, EXACT, FOLDED), max_size=4), st.text(alphabet="abAB.*x", max_size=6))
def test_a_text_is_of_exactly_one_kind_and_so_is_its_example(patterns: list[Pattern], text: str):
    found = kinds(patterns)
    assert found is not None
    fitting = [kind for kind in found if kind.matched == _matched(patterns, text)]
    assert len(fitting) == 1
    assert _matched(patterns, fitting[0].example) == fitting[0].matched
    assert not fitting[0].is_single or text == fitting[0].example


def test_what_nobody_could_look_at_is_not_looked_at():
    assert kinds(Pattern(f"*{letter}*", is_exact=False) for letter in "abcdefghijklmnopqrst") is None


def test_no_pattern_is_one_kind():
    assert kinds([]) == [Kind("other", frozenset(), False)]


def _matched(patterns: list[Pattern], text: str) -> frozenset[Pattern]:
    return frozenset(one for one in patterns if _matches(one, text.lower() if one.is_folded else text))


def _matches(one: Pattern, text: str) -> bool:
    return one.text == text if one.is_exact else matches(one.text, text)
