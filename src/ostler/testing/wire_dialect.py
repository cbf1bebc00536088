"""What a wire format is to the test server: a path, and how a `Reply` is streamed to a request that came there.

    RESPONSES = Dialect(r"/responses$", _stream)

Modules of this name are found in `ostler.testing.wire.DIALECTS`, where the server looks for the one to speak.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ostler.domain.model import AskedCall, Reply

DELTA_CHARACTERS = 12


class Asked:
    """One request as it came. `path` includes the query; `body` is its JSON, decoded, and None without one."""

    def __init__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body: Any = msgspec.json.decode(body) if body else None


class Dialect(msgspec.Struct, frozen=True):
    """One wire format. `path` is a regular expression that finds its requests by their path.

    `stream` gives the chunks in which a provider would stream this reply to this request. The last chunk completes the
    reply: without it, there is none.
    """

    path: str
    stream: Callable[[Reply, Asked], tuple[bytes, ...]]

    def speaks(self, path: str) -> bool:
        return re.search(self.path, path) is not None


def named_as_offered(calls: Iterable[AskedCall], offered: Iterable[str]) -> list[AskedCall]:
    """The calls under the names that the request gave to their tools, however it made these fit for the wire."""
    wire = {_letters(name): name for name in offered}
    return [msgspec.structs.replace(call, name=wire.get(_letters(call.name), call.name)) for call in calls]


def parts(text: str) -> list[str]:
    """The pieces in which a text is streamed."""
    return [text[start : start + DELTA_CHARACTERS] for start in range(0, len(text), DELTA_CHARACTERS)]


def event(data: object, name: str = "") -> bytes:
    """One server-sent event with this JSON."""
    head = b"event: %b\n" % name.encode() if name else b""
    return head + b"data: %b\n\n" % msgspec.json.encode(data)


def _letters(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]", "", name)
