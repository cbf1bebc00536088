import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.domain.suggest import did_you_mean, edits

TOOLS = ("files.edit", "files.list", "files.read", "files.search", "files.write", "shell", "ls")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("files.raed", "files.read"),
        ("file.read", "files.read"),
        ("files_read", "files.read"),
        ("Files.Read", "files.read"),
        ("files.reed", "files.read"),
        ("shel", "shell"),
        ("files.serch", "files.search"),
        ("files.searc", "files.search"),
        ("filessearchx", "files.search"),
        ("la", None),
        ("sl", None),
        ("", None),
        ("wait", None),
        ("files", None),
        ("weather", None),
        ("files.rename_all", None),
    ],
)
def test_a_misspelt_name_is_recognised_and_another_name_is_not(word, meant):
    assert did_you_mean(word, TOOLS) == meant


def test_three_edits_are_near_and_four_are_not():
    assert did_you_mean("abcdefghi___", ["abcdefghijkl"]) == "abcdefghijkl"
    assert did_you_mean("abcdefgh____", ["abcdefghijkl"]) is None


def test_the_order_of_the_choices_does_not_matter():
    assert did_you_mean("reax", ["real", "read"]) == did_you_mean("reax", ["read", "real"]) == "read"


def test_the_nearest_wins_over_the_first():
    assert did_you_mean("searching", ["searcher", "searchin"]) == "searchin"


def test_a_huge_word_costs_nothing_because_its_length_already_tells():
    assert did_you_mean("x" * 1_000_000, TOOLS) is None


@given(st.text(max_size=12), st.text(max_size=12))
def test_edits_are_a_distance(one, other):
    assert edits(one, other) == edits(other, one)
    assert (edits(one, other) == 0) == (one == other)
    assert abs(len(one) - len(other)) <= edits(one, other) <= max(len(one), len(other))


@given(st.text(min_size=3, max_size=20), st.integers(0, 19), st.characters())
def test_one_replaced_letter_is_one_edit_at_most(word, place, letter):
    place %= len(word)
    assert edits(word, word[:place] + letter + word[place + 1 :]) <= 1


@given(st.text(alphabet="ab", min_size=2, max_size=8), st.integers(0, 6))
def test_two_swapped_neighbours_are_one_edit_at_most(word, place):
    place %= len(word) - 1
    assert edits(word, word[:place] + word[place + 1] + word[place] + word[place + 2 :]) <= 1
