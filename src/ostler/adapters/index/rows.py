"""What every index makes of memories, whatever it keeps them in."""

from collections.abc import Sequence
from math import hypot, inf, isfinite, log2

import msgspec

from ostler.domain.memory.events import MemoryRetracted
from ostler.domain.memory.memory import Memory, Relation, Value
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import Conflict, DimensionMismatch, StaleWrite, UsageError
from ostler.ports.memory import Edge


class Described(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was said of an entity, as it is kept."""

    name: str
    kind: str
    properties: dict[str, Value] = {}
    labels: tuple[str, ...] = ()


class Stating(msgspec.Struct, frozen=True, gc=False):
    """As much of a memory that states a relation as is asked of it in a graph: its text is not read."""

    id: str
    relation: Relation
    labels: tuple[str, ...] = ()
    valid_from_us: int | None = None
    valid_to_us: int | None = None


encode = msgspec.msgpack.Encoder().encode
decode_memory = msgspec.msgpack.Decoder(Memory).decode
decode_stating = msgspec.msgpack.Decoder(Stating).decode
decode_described = msgspec.msgpack.Decoder(Described).decode


def searchable(memory: Memory) -> str:
    """All that a search for words looks at."""
    return "\n".join((memory.text, *memory.tags, memory.key))


def weight(importance: float) -> float:
    """The part of a strength that does not change with time: `log2(importance)`; minus infinity for none."""
    return log2(importance) if importance > 0 else -inf


def edge(body: bytes) -> Edge:
    """The relation that a fact states, of which this is kept."""
    fact = decode_stating(body)
    relation = fact.relation
    return Edge(
        fact.id,
        relation.subject,
        relation.name,
        relation.object,
        relation.weight,
        fact.labels,
        fact.valid_from_us,
        fact.valid_to_us,
        relation.properties,
    )


def superseded(by: str) -> str:
    """What is said of a memory whose place a newer one took."""
    return f"superseded {by}"


def merged(into: str) -> str:
    """What is said of a memory that another was made of."""
    return f"merged {into}"


def retracted(event: MemoryRetracted) -> str:
    """What is said of a memory that was taken back."""
    return event.why


def stale(scope: Scope, *, after: int, applied: int) -> Conflict:
    """The refusal of events that do not follow on what was applied."""
    return StaleWrite(f"The index has applied {scope.stream.name} up to {applied}, not {after}.")


def unit(vector: Sequence[float]) -> list[float]:
    """The vector in unit length; one without any direction stays. Raises `UsageError` for what is no finite number."""
    length = hypot(*vector)
    if not isfinite(length):
        raise UsageError("A vector holds something that is no finite number.", hint="Check the embedder.")
    return [number / length for number in vector] if length else list(vector)


def mismatch(fingerprint: str, *, expected: int, found: int) -> DimensionMismatch:
    """The refusal of a vector that has another length than its embedder's."""
    return DimensionMismatch(
        f"A vector of {found} numbers was given, but those of {fingerprint} have {expected}.",
        hint="An embedder that makes vectors of another length needs a fingerprint of its own.",
        expected=expected,
        found=found,
    )
