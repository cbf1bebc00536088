"""What the dialects share: tool names, call ids, turns and arguments in the form that providers accept."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec

from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Image,
    Message,
    ModelRequest,
    Reasoning,
    StopReason,
    ToolMessage,
    UserMessage,
)
from ostler.kernel.errors import ProviderGarbled, ProviderRejected

NAME_CHARACTERS_MAX = 64
_REFUSED = re.compile(r"[^a-zA-Z0-9_-]")
_arguments = msgspec.json.Decoder(dict[str, msgspec.Raw])


class WireNames:
    """Tool names as providers accept them (`files.read` is `files__read`), and back.

    Names that are accepted as they are keep themselves; of others that would collide, the later gets a number.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._wire: dict[str, str] = {}
        self._ours: dict[str, str] = {}
        for name in sorted(names, key=lambda name: name != _accepted(name)):
            self.wire(name)

    def wire(self, name: str) -> str:
        """Also for names that are no tool's: a model may have asked for one, and its history says so."""
        if name not in self._wire:
            accepted = unique = _accepted(name)
            number = 1
            while unique in self._ours:
                number += 1
                suffix = f"_{number}"
                unique = accepted[: NAME_CHARACTERS_MAX - len(suffix)] + suffix
            self._wire[name] = unique
            self._ours[unique] = name
        return self._wire[name]

    def ours(self, wire: str) -> str:
        return self._ours.get(wire, wire)


def _accepted(name: str) -> str:
    return (_REFUSED.sub("__", name) or "unnamed")[:NAME_CHARACTERS_MAX]


def wire_id(call: str) -> str:
    """`3.1` is `call_3_1` on the wire."""
    return "call_" + _REFUSED.sub("_", call)


class Turn(msgspec.Struct):
    """Consecutive messages of one side, as one. `results` answer the calls of the turn before and come first.

    `images` come before the text that speaks of them, `reasoning` before what it led to.
    """

    by_model: bool
    text: str
    calls: list[AskedCall]
    results: list[ToolMessage]
    images: list[Image]
    reasoning: list[Reasoning]


def turns(messages: Sequence[Message]) -> list[Turn]:
    """The messages as turns that alternate between the two sides. Empty ones, which providers refuse, are left out."""
    spoken = (message for message in messages if isinstance(message, ToolMessage) or _says(message))
    return [_turn(by_model, group) for by_model, group in groupby(spoken, _is_by_model)]


def _turn(by_model: bool, messages: Iterable[Message]) -> Turn:
    texts = []
    turn = Turn(by_model=by_model, text="", calls=[], results=[], images=[], reasoning=[])
    for message in messages:
        if isinstance(message, ToolMessage):
            turn.results.append(message)
            continue
        if message.text.strip():
            texts.append(message.text)
        if isinstance(message, AssistantMessage):
            turn.calls.extend(message.calls)
            turn.reasoning.extend(message.reasoning)
        else:
            turn.images.extend(message.images)
    turn.text = "\n\n".join(texts)
    return turn


def _is_by_model(message: Message) -> bool:
    return isinstance(message, AssistantMessage)


def _says(message: UserMessage | AssistantMessage) -> bool:
    beside = message.calls if isinstance(message, AssistantMessage) else message.images
    return bool(message.text.strip() or beside)


def own_reasoning(turn: Turn, dialect: str, model: str) -> list[Reasoning]:
    """What may be given back to this model: only what it thought itself, in this dialect."""
    return [part for part in turn.reasoning if part.dialect == dialect and part.model == model]


def with_schema(system: str, schema: dict[str, Any]) -> str:
    """The system prompt for a model that must be told in words what its answer is to be."""
    words = f"Your final answer is nothing but JSON that fits this JSON Schema: {msgspec.json.encode(schema).decode()}"
    return f"{system}\n\n{words}" if system else words


def image_bytes(request: ModelRequest, image: Image) -> bytes:
    """The image's bytes, which came with the request. Raises `ProviderRejected`: without them it cannot be asked."""
    data = request.images.get(image.blob)
    if data is None:
        raise ProviderRejected(f"The image {image.blob[:12]} of this conversation is not in the blob store any more.")
    return data


def arguments_object(arguments: str) -> bytes:
    """A JSON object in any case: what a model wrote wrongly is quoted, since providers refuse anything else."""
    if is_object(arguments):
        return arguments.encode()
    return msgspec.json.encode({"malformed_arguments": arguments})


def is_object(arguments: str) -> bool:
    """Whether the text is one whole JSON object."""
    try:
        _arguments.decode(arguments)
    except msgspec.MsgspecError:
        return False
    return True


class Text:
    """The text of a reply while it arrives: shown piece by piece, and kept."""

    __slots__ = ("_on_text", "_pieces")

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._pieces: list[str] = []

    def say(self, piece: str) -> None:
        self._pieces.append(piece)
        self._on_text(piece)

    def __str__(self) -> str:
        return "".join(self._pieces)


class CallInParts:
    """A tool call while its arguments arrive."""

    __slots__ = ("id", "name", "parts")

    def __init__(self, call_id: str = "", name: str = "") -> None:
        self.id = call_id
        self.name = name
        self.parts: list[str] = []


def asked_calls(calls: Iterable[CallInParts], names: WireNames, stop: StopReason) -> tuple[AskedCall, ...]:
    """The calls of a complete reply.

    A reply that was cut short (`length`, `refusal`, …) may end in the middle of a call, which is then left out: the
    beginning of a JSON object is never one itself, and no arguments at all may be the beginning of some.
    """
    is_cut = stop not in ("end", "tool_calls", "stop_sequence")
    asked = []
    for call in calls:
        arguments = "".join(call.parts)
        if is_cut and not is_object(arguments):
            continue
        if not call.name:
            raise ProviderGarbled("The model asked for a tool without naming it.")
        written = arguments if arguments.strip() else "{}"
        asked.append(AskedCall(id=call.id, name=names.ours(call.name), arguments=written))
    return tuple(asked)


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model] | None = None


def model_ids(body: bytes) -> list[str]:
    """The ids in an answer to `GET /models`, which all dialects share."""
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Models).data or ()]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProviderGarbled("The list of models is not in the format that the provider documents.") from error
