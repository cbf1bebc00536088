from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ostler.adapters.providers.sse import EventDecoder

STREAM = (
    b': hello\nevent: x\ndata: {"a": 1}\nid: 7\n\ndata:two\ndata:  lines\n\n\n\n'
    b"retry: 5\n\ndata\n\ndata:\n\ndata: \xc3\xa9\x0b\x85\n\n"
)
EVENTS = [b'{"a": 1}', b"two\n lines", b"\xc3\xa9\x0b\x85"]


def decoded(chunks: list[bytes]) -> list[bytes]:
    decoder = EventDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def test_only_the_data_of_events_is_given_and_lines_are_joined():
    assert decoded([STREAM]) == EVENTS


@given(cuts=st.sets(st.integers(0, len(STREAM) * 2)), ending=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_chunks_and_line_endings_make_no_difference(cuts: set[int], ending: bytes):
    stream = STREAM.replace(b"\n", ending)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert decoded([stream[start:end] for start, end in pairwise(edges)]) == EVENTS


def test_an_event_without_its_empty_line_is_none():
    assert decoded([b"data: 1\n\ndata: 2\n"]) == [b"1"]


def test_a_line_in_a_thousand_chunks_is_one_line():
    assert decoded([b"data: ", *[b"x"] * 1000, b"\n", b"\n"]) == [b"x" * 1000]
