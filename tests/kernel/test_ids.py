"""Ids say what they name, sort by time, and never look alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.kernel.ids import ALPHABET, CHANCE_BYTES, make_id

TIMES = st.integers(0, 2**48 - 1)
CHANCES = st.binary(min_size=CHANCE_BYTES, max_size=CHANCE_BYTES)


def test_an_id_is_a_prefix_and_a_ulid_in_lower_case() -> None:
    # The example of https://github.com/ulid/spec: 01ARZ3NDEK is the time 1469922850259.
    assert make_id("ses", 1_469_922_850_259, bytes(10)) == "ses_01arz3ndek0000000000000000"
    assert make_id("wrk", 2**48 - 1, b"\xff" * 10) == "wrk_7zzzzzzzzzzzzzzzzzzzzzzzzz"


@given(TIMES, CHANCES, TIMES, CHANCES)
def test_ids_sort_as_their_times_do_and_differ_when_anything_does(t1: int, c1: bytes, t2: int, c2: bytes) -> None:
    first, second = make_id("ses", t1, c1), make_id("ses", t2, c2)
    assert (first == second) == ((t1, c1) == (t2, c2))
    if t1 < t2:
        assert first < second
    assert len(first) == len("ses_") + 26
    assert set(first[4:]) <= set(ALPHABET)


@pytest.mark.parametrize("size", [0, 9, 11])
def test_an_id_of_too_little_or_too_much_chance_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"needs 10 random bytes, got {size}"):
        make_id("ses", 0, bytes(size))
