"""What is handed over is a CloudEvent by the SDK of the specification, and shows no credentials."""

import re

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from ostler.adapters.bus.envelope import address, envelope
from ostler.kernel.event import StreamId
from ostler.testing.contracts.event_bus import logged


def test_the_sdk_of_the_specification_reads_it() -> None:
    (record,) = logged(1, after=2**40)
    event = JSONFormat().read(CloudEvent, envelope(record).body)
    assert event.get_id() == f"ses_order/{record.seq}"
    assert event.get_source() == "/tenants/acme/streams/ses_order"
    assert event.get_type() == "dev.ostler.hay.eaten"
    assert event.get_subject() == "ses_order"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_extension("position") == str(2**40 + 1)
    assert event.get_extension("sequence") == str(record.seq)
    data = event.get_data()
    assert isinstance(data, dict)
    assert data["bale"] == 2**40 + 1


def test_attributes_have_the_names_that_every_protocol_can_carry() -> None:
    (record,) = logged(1)
    names = set(msgspec.json.decode(envelope(record).body))
    assert {"specversion", "id", "source", "type"} <= names
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in names)


def test_no_two_records_have_the_same_id() -> None:
    streams = [StreamId("a", "b/1"), StreamId("a/b", "1"), StreamId("a%2Fb", "1"), StreamId("a", "b")]
    ids = [envelope(logged(2, stream=stream)[-1]).id for stream in streams]
    assert len(set(ids)) == len(ids)
    assert all(one.isascii() and " " not in one for one in ids)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://anna:p%40ss@host:1/0", "redis://host:1/0"),
        ("https://token@host/path?key=secret#x", "https://host/path"),
        ("nats://[::1]:4222", "nats://[::1]:4222"),
        ("kafka://anna:secret@[::1]:1,two,three:3/topic", "kafka://[::1]:1,two,three:3/topic"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(url: str, shown: str) -> None:
    assert address(url).shown == shown


def test_secrets_are_taken_out_of_what_others_say() -> None:
    where = address("redis://anna:p%40ss@host:1/0")
    said = where.hide("p@ss and p%40ss at redis://anna:p%40ss@host:1/0, token", "token")
    assert said == "[secret] and [secret] at redis://host:1/0, [secret]"


@pytest.mark.parametrize("url", ["", "example", "redis://", "redis://example:port", "http://[::1"])
def test_what_is_no_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL") as refused:
        address(url)
    assert not url or url not in str(refused.value)
