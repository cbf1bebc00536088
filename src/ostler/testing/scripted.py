"""A model that says what a test has written down for it."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ostler.domain.model import AskedCall, ModelRef, ModelRequest, Reply, Usage
from ostler.kernel.errors import ProviderRejected

Turn = Reply | str | Exception | Callable[[ModelRequest], Reply | str]


class Scripted:
    """A `ModelProvider` that answers turn after turn: a text, a `Reply`, an exception to raise, or a function.

    Which turn it is comes from the request, not from how often it was asked: a call that is repeated after a crash gets
    the same reply. `requests` keeps every request for a test to look at.
    """

    def __init__(self, *turns: Turn, name: str = "script", tools: str = "native") -> None:
        self.ref = ModelRef("scripted", "scripted", name, tools="text" if tools == "text" else "native")
        self.requests: list[ModelRequest] = []
        self._turns = turns

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        self.requests.append(request)
        number = int(request.key.rpartition("/")[2])
        if number > len(self._turns):
            raise ProviderRejected(
                f"The script has {len(self._turns)} turns and was asked for turn {number}.",
                hint="Add the missing turn to the script.",
            )
        turn = self._turns[number - 1]
        if callable(turn):
            turn = turn(request)
        if isinstance(turn, Exception):
            raise turn
        reply = Reply(text=turn, model=self.ref.name) if isinstance(turn, str) else turn
        on_text(reply.text)
        return reply if reply.model else msgspec.structs.replace(reply, model=self.ref.name)

    async def close(self) -> None:
        """Nothing is held."""


def calls(*asked: tuple[str, Mapping[str, Any] | str], text: str = "", usage: Usage | None = None) -> Reply:
    """A reply that asks for these tool calls: (name, arguments), the arguments as a mapping or as raw JSON text."""
    written = [
        AskedCall(f"asked_{number}", name, arguments if isinstance(arguments, str) else _json(arguments))
        for number, (name, arguments) in enumerate(asked, 1)
    ]
    return Reply(text=text, calls=tuple(written), stop="tool_calls", usage=usage or Usage())


def _json(arguments: Mapping[str, Any]) -> str:
    return msgspec.json.encode(arguments).decode()
