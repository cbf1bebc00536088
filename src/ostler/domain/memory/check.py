"""What keeps something from being remembered at all: it can be no memory, or there is a secret in it."""

import math
from collections.abc import Iterable, Iterator

from ostler.domain.memory.events import EntityDescribed
from ostler.domain.memory.memory import TEXT_BYTES_MAX, Kind, Memory, Relation, Value
from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.domain.screening.redaction import find
from ostler.kernel.errors import NotAllowed, UsageError

FILE_BYTES_MAX = 4 * TEXT_BYTES_MAX
NAME_BYTES_MAX = 512
"""The longest tag, key, label, name of an entity or of a relation, in bytes of UTF-8."""
VALUE_BYTES_MAX = 4096
"""The longest value of a property."""
TAGS_MAX = 32
LABELS_MAX = 64
PROPERTIES_MAX = 64
LATER_MAX_US = 86_400_000_000
"""How far from now something may have happened already, because clocks differ."""
TIME_MIN_US, TIME_MAX_US = -62_135_596_800_000_000, 253_402_300_800_000_000
"""From the year 1 to before the year 10000: other moments cannot be told."""
SECRETS = ("secret.*",)

Problem = tuple[str, str]
"""A field, and what is wrong there."""


def check_memory(memory: Memory, *, at_us: int, detectors: Detectors = BUILTIN) -> None:
    """Raises `UsageError` for what can be no memory, and `NotAllowed` for one with a secret.

    Both name the `field` at fault in their facts, and `NotAllowed` the `kind` of the secret, but not the secret.
    """
    _refuse(_problems(memory, at_us))
    _refuse_secrets(_texts(memory), detectors)


def check_entity(entity: EntityDescribed, *, detectors: Detectors = BUILTIN) -> None:
    """The same for what an entity of the knowledge graph is described as."""
    _refuse(_problems_of_entity(entity))
    texts = [("name", entity.name), ("kind", entity.kind), *_told("properties", entity.properties)]
    _refuse_secrets(texts, detectors)


def check_reason(because: str, *, detectors: Detectors = BUILTIN) -> None:
    """Raises `NotAllowed` if there is a secret in why memories are taken out of force, or put in force again."""
    _refuse_secrets([("because", because)], detectors)


def _refuse(problems: Iterator[Problem]) -> None:
    for field, problem in problems:
        raise UsageError(f"{field} {problem}.", field=field)


def _refuse_secrets(texts: Iterable[tuple[str, str]], detectors: Detectors) -> None:
    for field, text in texts:
        for finding in find(text, SECRETS, detectors) if text else ():
            raise NotAllowed(
                f"{field} has a secret in it ({finding.kind}); secrets are not remembered, and nothing was written.",
                hint="Keep it in the vault, and remember its name there.",
                field=field,
                kind=finding.kind,
            )


def _problems(memory: Memory, at_us: int) -> Iterator[Problem]:
    yield from _problems_of_text(memory)
    if not 0 <= memory.importance <= 1:  # nor is what is no number
        yield "importance", f"is {memory.importance}, and must be from 0 to 1"
    if memory.kind == "file" and not memory.key:
        yield "key", "is empty: a file is kept under a path"
    if memory.key:
        yield from _problems_of_names("key", [memory.key], most=1)
    yield from _problems_of_names("tags", memory.tags, most=TAGS_MAX)
    yield from _problems_of_names("labels", memory.labels, most=LABELS_MAX)
    if memory.relation is not None:
        yield from _problems_of_relation(memory.kind, memory.relation)
    yield from _problems_of_times(memory, at_us)


def _problems_of_text(memory: Memory) -> Iterator[Problem]:
    most = FILE_BYTES_MAX if memory.kind == "file" else TEXT_BYTES_MAX
    if not memory.text.strip() and memory.kind != "file":
        yield "text", "is empty: say what is to be remembered"
    if (size := _size(memory.text)) > most:
        yield "text", f"has {size} bytes, and at most {most} are remembered at once: keep what matters of it"
    if not _can_be_kept(memory.text):
        yield "text", "has a character that no store keeps (U+0000, or half of a pair)"


def _problems_of_relation(kind: Kind, relation: Relation) -> Iterator[Problem]:
    if kind != "fact":
        yield "relation", "is stated by facts only"
    yield from _problems_of_names("relation.subject", [relation.subject], most=1)
    yield from _problems_of_names("relation.name", [relation.name], most=1)
    yield from _problems_of_names("relation.object", [relation.object], most=1)
    if not math.isfinite(relation.weight):
        yield "relation.weight", f"is {relation.weight}, and must be a number"
    yield from _problems_of_properties("relation.properties", relation.properties)


def _problems_of_entity(entity: EntityDescribed) -> Iterator[Problem]:
    yield from _problems_of_names("name", [entity.name], most=1)
    if entity.kind:
        yield from _problems_of_names("kind", [entity.kind], most=1)
    yield from _problems_of_names("labels", entity.labels, most=LABELS_MAX)
    yield from _problems_of_properties("properties", entity.properties)


def _problems_of_names(field: str, names: Iterable[str], *, most: int) -> Iterator[Problem]:
    for number, name in enumerate(names, 1):
        if number > most:
            yield field, f"has more than {most} entries"
        if not name.strip():
            yield field, "is empty"
        if (size := _size(name)) > NAME_BYTES_MAX:
            yield field, f"has {size} bytes, and at most {NAME_BYTES_MAX} are kept"
        if not _can_be_kept(name):
            yield field, "has a character that no store keeps (U+0000, or half of a pair)"


def _problems_of_properties(field: str, properties: dict[str, Value]) -> Iterator[Problem]:
    yield from _problems_of_names(field, properties, most=PROPERTIES_MAX)
    for name, value in properties.items():
        match value:
            case str() if _size(value) > VALUE_BYTES_MAX or not _can_be_kept(value):
                yield f"{field}.{name}", f"has more than {VALUE_BYTES_MAX} bytes, or a character that no store keeps"
            case float() if not math.isfinite(value):
                yield f"{field}.{name}", f"is {value}, and must be a number"
            case int() if not -(2**63) <= value < 2**63:
                yield f"{field}.{name}", "has more than 64 bits"
            case _:
                pass


def _problems_of_times(memory: Memory, at_us: int) -> Iterator[Problem]:
    begin, end = memory.valid_from_us, memory.valid_to_us
    for field, moment in (("happened_us", memory.happened_us), ("valid_from_us", begin), ("valid_to_us", end)):
        if moment is not None and not TIME_MIN_US <= moment < TIME_MAX_US:
            yield field, f"is {moment}, which is no moment in microseconds since 1970"
    if memory.happened_us > at_us + LATER_MAX_US:
        yield "happened_us", "lies in the future, where nothing has happened yet"
    if begin is not None and end is not None and end <= begin:
        yield "valid_to_us", "is not after valid_from_us, so that it would never be true"


def _texts(memory: Memory) -> Iterator[tuple[str, str]]:
    """Every text of it that could hold a secret, with its field."""
    yield "text", memory.text
    yield "key", memory.key
    yield "tags", "\n".join(memory.tags)
    if (relation := memory.relation) is not None:
        yield "relation.subject", relation.subject
        yield "relation.name", relation.name
        yield "relation.object", relation.object
        yield "relation", f"{relation.subject} {relation.name}: {relation.object}"
        yield from _told("relation.properties", relation.properties)


def _told(field: str, properties: dict[str, Value]) -> Iterator[tuple[str, str]]:
    """The properties as they would be written down, so that the value of a `password` is known for what it is."""
    for name, value in properties.items():
        yield field, f"{name}: {value}"


def _can_be_kept(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text))


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
