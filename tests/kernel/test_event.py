"""Records are chained: what was written cannot be changed, left out or moved without being noticed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.kernel.event import GENESIS, Record, StreamId, first_broken, link, moment, timestamp

STREAM = StreamId("acme", "ses_1")


def chained(count: int, *, after: int = 0, previous: bytes = GENESIS, stream: StreamId = STREAM) -> list[Record]:
    records = []
    for seq in range(after + 1, after + count + 1):
        data = b'{"n":%d}' % seq
        previous = link(previous, stream, seq, seq * 10, data)
        records.append(Record(stream, seq, seq * 10, data, previous))
    return records


def test_the_hash_of_a_record_is_the_same_for_ever() -> None:
    assert link(GENESIS, STREAM, 1, 10, b'{"n":1}').hex() == (
        "032cb35355e99a14e8f8e86a8d6aaa33ef44e50bca873997b9c8963caa4c7cb9"
    )


def test_a_whole_chain_has_no_broken_record() -> None:
    assert first_broken([]) is None
    assert first_broken(chained(5)) is None


def test_a_chain_is_proved_page_by_page() -> None:
    records = chained(5)
    assert first_broken(records[2:], after=2, previous=records[1].hash) is None
    assert first_broken(records[2:], after=2) == 3
    assert first_broken(records[2:], after=1, previous=records[1].hash) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"data": b'{"n":9}'},
        {"at_us": 31},
        {"seq": 4},
        {"hash": bytes(32)},
        {"stream": StreamId("other", "ses_1")},
        {"stream": StreamId("acme", "ses_2")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_record_that_was_altered_is_the_first_broken_one(change: dict[str, Any]) -> None:
    records = chained(5)
    records[2] = msgspec.structs.replace(records[2], **change)
    assert first_broken(records) == 3


@given(st.integers(1, 8), st.data())
def test_a_missing_a_doubled_and_a_moved_record_are_found_where_they_are(count: int, data: st.DataObject) -> None:
    records = chained(count)
    place = data.draw(st.integers(0, count - 1))
    if place < count - 1:
        assert first_broken(records[:place] + records[place + 1 :]) == place + 1
        assert first_broken([*records[:place], records[place + 1], records[place], *records[place + 2 :]]) == place + 1
    assert first_broken([*records[: place + 1], *records[place:]]) == place + 2


def test_the_position_is_the_stores_and_not_part_of_the_chain() -> None:
    records = [msgspec.structs.replace(record, position=99) for record in chained(2)]
    assert first_broken(records) is None


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_no_two_names_or_bodies_give_the_same_hash_by_running_into_each_other(one: bytes, other: bytes) -> None:
    hashes = {
        link(GENESIS, StreamId("a", "bc"), 1, 1, one + other),
        link(GENESIS, StreamId("ab", "c"), 1, 1, one + other),
        link(GENESIS, StreamId("a", "bc"), 11, 1, one + other),
        link(GENESIS, StreamId("a", "bc"), 1, 11, one + other),
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("at_us", "expected"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (1_700_000_000_123_456, "2023-11-14T22:13:20.123456Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_moments_are_rfc_3339_in_utc_with_microseconds(at_us: int, expected: str) -> None:
    assert timestamp(at_us) == expected


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("1970-01-02", 86_400_000_000),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01", 1_000_000),
        ("0001-01-01", -62_135_596_800_000_000),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_moment_is_read_as_it_is_written_and_a_day_is_its_beginning(text: str, at_us: int | None) -> None:
    assert moment(text) == at_us
    assert at_us is None or moment(timestamp(at_us)) == at_us
