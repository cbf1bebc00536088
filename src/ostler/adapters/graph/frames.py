"""What goes to and fro between a process that computes on graphs and whoever asks it: frames of MessagePack."""

from typing import Any

import msgspec

HEADER = 8
"""Bytes before a frame that say how long it is, the highest first."""


class Loaded(msgspec.Struct, frozen=True, tag="load"):
    """A graph to keep; its columns are arrays of 8 bytes each, in the order of this machine."""

    key: str
    size: int
    sources: bytes
    targets: bytes
    weights: bytes


class Asked(msgspec.Struct, frozen=True, tag="ask"):
    """A question: a method of `NativeGraph` with its arguments, to be answered within whole seconds."""

    key: str
    method: str
    arguments: tuple[int, ...]
    timeout_s: int


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it. `is_missing`: the graph is not kept (any more). `problem`: the answer would be too large."""

    value: msgspec.Raw = msgspec.Raw(b"\xc0")
    is_missing: bool = False
    problem: str = ""
    hint: str = ""
    facts: dict[str, Any] = {}


def framed(frame: Loaded | Asked | Answered) -> bytes:
    """A frame with its header."""
    data = msgspec.msgpack.encode(frame)
    return len(data).to_bytes(HEADER) + data
