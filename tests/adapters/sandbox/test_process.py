"""Bounds on what is kept of a command's output."""

from hypothesis import given
from hypothesis import strategies as st

from ostler.adapters.sandbox.process import HeadTail


@given(st.lists(st.binary(max_size=50), max_size=30), st.integers(2, 60).map(lambda half: 2 * half))
def test_the_beginning_and_the_end_are_kept_and_the_rest_is_counted(pieces, size):
    kept = HeadTail(size)
    for piece in pieces:
        kept.add(bytes(byte % 64 + 32 for byte in piece))
    whole = b"".join(bytes(byte % 64 + 32 for byte in piece) for piece in pieces).decode()
    assert kept.dropped == max(len(whole) - size, 0)
    if kept.dropped:
        gap = f"\n[... {kept.dropped} bytes dropped ...]\n"
        assert kept.text() == whole[: size // 2] + gap + whole[-(size // 2) :]
    else:
        assert kept.text() == whole


def test_what_is_no_text_is_shown_all_the_same():
    kept = HeadTail(100)
    kept.add(b"a\xffb")
    assert kept.text() == "a\ufffdb"
