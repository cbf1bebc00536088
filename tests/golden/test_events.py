"""Every event that was ever written can be read, for ever, and is written again as it was.

`events/` has two files for each type: `tag.json` with every field set and `tag.least.json` with none that may be left
out. A file is never changed. Whoever adds a field adds a file (`tag.2.json`); whoever adds a type adds two.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler.domain.audit import AUDIT_CODEC, AuditEvent
from ostler.domain.boot import WORKER_CODEC, WorkerEvent
from ostler.domain.changes import CHANGES_CODEC, ModelChanged
from ostler.domain.directory import IDENTITY_CODEC, IdentityEvent
from ostler.domain.fitness.events import FITNESS_CODEC, FitnessEvent
from ostler.domain.governance import GOVERNANCE_CODEC, GovernanceEvent
from ostler.domain.housekeeping import HOUSEKEEPING_CODEC, HousekeepingEvent
from ostler.domain.memory.events import MEMORY_CODEC, MemoryEvent
from ostler.domain.session.events import SESSION_CODEC, AgentStarted, SessionEvent
from ostler.kernel.codec import Codec
from ostler.kernel.errors import UnknownEvent
from ostler.kernel.event import Event, Record, StreamId, to_cloudevent

FOLDER = Path(__file__).parent / "events"
FILES = sorted(path.name for path in FOLDER.glob("*.json"))
FAMILIES: tuple[tuple[Any, Codec[Any]], ...] = (
    (SessionEvent, SESSION_CODEC),
    (WorkerEvent, WORKER_CODEC),
    (AuditEvent, AUDIT_CODEC),
    (GovernanceEvent, GOVERNANCE_CODEC),
    (HousekeepingEvent, HOUSEKEEPING_CODEC),
    (IdentityEvent, IDENTITY_CODEC),
    (ModelChanged, CHANGES_CODEC),
    (FitnessEvent, FITNESS_CODEC),
    (MemoryEvent, MEMORY_CODEC),
)
CODECS = {
    str(kind.__struct_config__.tag): (kind, codec)
    for family, codec in FAMILIES
    for kind in getattr(family, "__args__", (family,))
}


def golden(name: str) -> tuple[type[Event], Codec[Any], bytes]:
    """The type and codec that a file is for, and what it holds."""
    tag = ".".join(name.split(".")[:2])
    return *CODECS[tag], (FOLDER / name).read_bytes().removesuffix(b"\n")


@pytest.mark.parametrize("name", FILES)
def test_an_event_of_old_is_read_and_written_again_byte_for_byte(name: str) -> None:
    kind, codec, data = golden(name)
    event = codec.decode(data)
    assert type(event) is kind
    assert codec.encode(event) == data


@pytest.mark.parametrize("tag", CODECS)
def test_there_is_a_golden_file_with_every_field_of_every_type_and_one_with_the_least(tag: str) -> None:
    kind, _ = CODECS[tag]
    fields = msgspec.structs.fields(kind)
    shown = {name: set(msgspec.json.decode(golden(name)[2])) - {"type"} for name in FILES if name.startswith(f"{tag}.")}
    assert shown.get(f"{tag}.least.json") == {field.encode_name for field in fields if field.required}
    assert set().union(*shown.values()) == {field.encode_name for field in fields}


def test_no_golden_file_is_of_a_type_that_nobody_knows_any_more() -> None:
    assert {".".join(name.split(".")[:2]) for name in FILES} == set(CODECS)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a JSON document, with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    yield path, value


def test_the_start_of_a_session_is_golden_down_to_the_last_setting() -> None:
    """An agent's fields, and those of its tools, rules, limits and settings, are events for ever as well."""
    events = [msgspec.json.decode(golden(name)[2]) for name in FILES if name.startswith("agent.started.")]
    shown = {path for event in events for path, _ in leaves(event)}
    assert set(fields_of(AgentStarted)) <= shown


def fields_of(shape: Any, path: str = "") -> Iterator[str]:
    """The path of every field of a struct and of those within it."""
    for field in msgspec.structs.fields(shape):
        here = f"{path}.{field.encode_name}"
        yield here
        arguments = getattr(field.type, "__args__", ())
        is_list = getattr(field.type, "__origin__", None) is tuple
        for inner in (field.type, *arguments):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from fields_of(inner, here + ("[]" if is_list else ""))


@pytest.mark.parametrize("name", FILES)
def test_an_event_from_a_newer_version_with_fields_that_are_not_known_here_is_read(name: str) -> None:
    kind, codec, data = golden(name)
    newer = msgspec.json.encode(msgspec.json.decode(data) | {"a_field_of_tomorrow": {"deep": [1]}})
    assert codec.decode(newer) == codec.decode(data)
    assert type(codec.decode(newer)) is kind


@pytest.mark.parametrize("name", [name for name in FILES if name.count(".") == 2])
def test_an_event_without_a_field_that_must_be_there_is_refused_and_names_its_type(name: str) -> None:
    kind, codec, data = golden(name)
    required = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
    for missing in required:
        body = msgspec.json.decode(data)
        del body[missing]
        with pytest.raises(UnknownEvent, match=missing) as refused:
            codec.decode(msgspec.json.encode(body))
        assert refused.value.facts["tag"] == body["type"]


@pytest.mark.parametrize("name", FILES)
def test_an_event_is_a_cloudevent_whose_data_is_all_that_it_says(name: str) -> None:
    _, _, data = golden(name)
    record = Record(StreamId("acme", "ses_1"), 7, 1_700_000_000_000_001, data, bytes(32), 42)
    cloud = to_cloudevent(record)
    body = msgspec.json.decode(data)
    assert cloud == {
        "specversion": "1.0",
        "id": "ses_1/7",
        "source": "/tenants/acme/streams/ses_1",
        "type": f"dev.ostler.{body.pop('type')}",
        "subject": "ses_1",
        "time": "2023-11-14T22:13:20.000001Z",
        "datacontenttype": "application/json",
        "sequence": "7",
        "position": "42",
        "data": body,
    }
