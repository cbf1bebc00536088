"""What recalling brings: memories as sessions are shown them."""

import msgspec

from ostler.domain.memory.memory import Kind


class Recollection(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """One memory, as it is told. `at` is RFC 3339; `score` is 0 to 1; `contradicts` are those that cannot be true
    beside it. `labels` go wherever its text goes. It is true in the world from `valid_from` to before `valid_to`, both
    RFC 3339, or empty where that is not known.
    """

    id: str
    kind: Kind
    text: str
    writer: str
    at: str
    labels: tuple[str, ...] = ()
    score: float = 0.0
    tags: tuple[str, ...] = ()
    key: str = ""
    contradicts: tuple[str, ...] = ()
    valid_from: str = ""
    valid_to: str = ""


class Recollections(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What each tool that recalls answers, as JSON: this and nothing beside it, which would bear no label.

    So many were `left_out` for want of room; `missing` says what could not be asked.
    """

    memories: tuple[Recollection, ...] = ()
    left_out: int = 0
    missing: tuple[str, ...] = ()
