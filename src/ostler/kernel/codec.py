"""Events to bytes and back, by a stable type tag; old shapes are lifted to today's by upcasters."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from ostler.kernel.errors import UnknownEvent
from ostler.kernel.event import Event

E = TypeVar("E", bound=Event)

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes the decoded JSON object of a retired tag and returns one that a newer tag understands."""

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON of the right shape, no UTF-8, or nested without end."""


class Codec(Generic[E]):
    """Encodes and decodes one closed family of events as JSON objects with a `type` field.

    `upcasters` maps a retired tag to the function that lifts it; they chain until the tag is a current one.
    Decoding is strict in types and lenient in unknown fields, so that older code reads newer optional fields.
    """

    def __init__(self, family: Any, upcasters: Mapping[str, Upcaster] | None = None) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._decoder = msgspec.json.Decoder(family)
        self._family = family
        self._upcasters = dict(upcasters or {})

    def encode(self, event: E) -> bytes:
        return self._encode(event)

    def decode(self, data: bytes) -> E:
        """Raises `UnknownEvent` if the bytes are no event of this family, nor of any that can be lifted to it."""
        try:
            event: E = self._decoder.decode(data)
        except UNREADABLE as error:
            event = self._lift(data, error)
        return event

    def _lift(self, data: bytes, cause: Exception) -> E:
        try:
            body: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
            tag = body.get("type")
            lifts = 0
            while tag in self._upcasters and lifts <= len(self._upcasters):
                body = self._upcasters[str(tag)](body)
                tag, lifts = body.get("type"), lifts + 1
            if not lifts:
                raise UnknownEvent(tag=str(tag), problem=str(cause)) from cause
            lifted: E = msgspec.convert(body, self._family)
            return lifted
        except UNREADABLE as error:
            raise UnknownEvent(tag="?", problem=str(error)) from error
