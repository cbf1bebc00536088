"""Canonical JSON, judged by a library of the standard."""

import hashlib
import math

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ostler.kernel.canonical import canonical, digest

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_every_value_is_written_as_the_standard_says(value) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_the_order_in_which_keys_were_put_makes_no_difference() -> None:
    assert digest({"b": 1, "a": [1.0, "é"]}) == digest({"a": [1, "é"], "b": 1.0})
    assert digest({}) == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 2**53 + 1, b"bytes", {1: "key"}, {"deep": [object()]}, "\ud800"]
)
def test_what_has_no_exact_json_is_refused(value) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        canonical(value)
