"""What the dialects share: tool names, call ids, turns and arguments in the form that providers accept."""

import re
from collections import OrderedDict
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
KEPT_BYTES_MAX = 32 * 1024 * 1024
"""How much a provider keeps of the earlier turns of all sessions; their messages may take as much again."""
KEPT_SESSIONS_MAX = 1024
_OPEN_REPLIES = 3
"""From the third-last reply on, turns are encoded for each request: the last may grow, the last two of the user's may
bear marks."""
_REFUSED = re.compile(r"[^a-zA-Z0-9_-]")
_arguments = msgspec.json.Decoder(dict[str, msgspec.Raw])


class WireNames:
    """Tool names as providers accept them (`files.read` is `files__read`), and back.

    Names that are accepted as they are keep themselves; of others that would collide, the later gets a number.
    `ids` are those of calls, where providers want their own back.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._wire: dict[str, str] = {}
        self._ours: dict[str, str] = {}
        self.ids: dict[str, str] = {}
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

    def copy(self) -> "WireNames":
        other = WireNames(())
        other._wire, other._ours, other.ids = self._wire.copy(), self._ours.copy(), self.ids.copy()
        return other


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


Encode = Callable[[ModelRequest, Sequence[Message], WireNames], Iterable[Any]]
"""What these messages of a request are on the wire. Of those before them, only the names are known."""


class _Earlier(msgspec.Struct):
    """The first messages of a session, each item that they are on the wire, and the names that stand after them."""

    tools: tuple[str, ...]
    names: WireNames
    messages: list[Message]
    items: list[msgspec.Raw]
    images: set[str]
    size: int = 0

    def begins(self, messages: list[Message], end: int, tools: tuple[str, ...], request: ModelRequest) -> bool:
        """Whether the first `end` messages of this request begin with these, and no turn goes on from them."""
        place = len(self.messages)
        return (
            place <= end
            and _answers(messages, place)
            and messages[:place] == self.messages
            and tools == self.tools
            and self.images <= request.images.keys()
        )

    def add(self, messages: list[Message], items: Iterable[Any]) -> None:
        for item in items:
            encoded = msgspec.json.encode(item)
            self.items.append(msgspec.Raw(encoded))
            self.size += len(encoded)
        self.messages += messages
        for message in messages:
            if isinstance(message, UserMessage):
                self.images.update(image.blob for image in message.images)


class EarlierTurns:
    """Encodes each turn of a session once, not for every request that holds it, as long as sessions only grow.

    What a request is on the wire never depends on it: whatever does not begin as the request before is encoded anew.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Earlier] = OrderedDict()
        self._size = 0

    def encoded(self, request: ModelRequest, encode: Encode) -> tuple[list[Any], WireNames]:
        """The messages of a request on the wire, the later of them as Python objects, and the names after them."""
        messages = list(request.messages[:])
        end = _end_of_earlier(messages)
        tools = tuple([tool.name for tool in request.tools])
        key = (request.key.partition("/")[0], request.model.name)
        earlier = self._kept.pop(key, None)
        self._size -= earlier.size if earlier else 0
        if earlier is None or not earlier.begins(messages, end, tools, request):
            earlier = _Earlier(tools, WireNames(tools), [], [], set())
        new = messages[len(earlier.messages) : end]
        earlier.add(new, encode(request, new, earlier.names))
        if end:
            self._kept[key] = earlier
            self._size += earlier.size
        while self._size > KEPT_BYTES_MAX or len(self._kept) > KEPT_SESSIONS_MAX:
            self._size -= self._kept.popitem(last=False)[1].size
        names = earlier.names.copy()
        return [*earlier.items, *encode(request, messages[end:], names)], names


def _end_of_earlier(messages: list[Message]) -> int:
    """Where the last few turns begin, with a reply right after what it answers; 0 if there are no more than these."""
    replies = 0
    for place in range(len(messages) - 1, 0, -1):
        replies += _answers(messages, place)
        if replies == _OPEN_REPLIES:
            return place
    return 0


def _answers(messages: list[Message], place: int) -> bool:
    """Whether a reply is here that says something right after the other side did: no turn holds both."""
    message, before = messages[place], messages[place - 1]
    if not isinstance(message, AssistantMessage) or isinstance(before, AssistantMessage):
        return False
    return _says(message) and (isinstance(before, ToolMessage) or _says(before))


def own_reasoning(parts: Iterable[Reasoning], dialect: str, model: str) -> list[Reasoning]:
    """What may be given back to this model: only what it thought itself, in this dialect."""
    return [part for part in parts if part.dialect == dialect and part.model == model]


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

    __slots__ = ("_on_text", "_pieces", "size")

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._pieces: list[str] = []
        self.size = 0
        """How many characters have come."""

    def say(self, piece: str) -> None:
        self._pieces.append(piece)
        self.size += len(piece)
        self._on_text(piece)

    def __str__(self) -> str:
        return "".join(self._pieces)


class CallInParts:
    """A tool call while its arguments arrive."""

    __slots__ = ("id", "name", "parts")

    def __init__(self, call_id: str = "", name: str = "", arguments: str = "") -> None:
        self.id = call_id
        self.name = name
        self.parts = [arguments]


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
        ids = [model.id for model in msgspec.json.decode(body, type=_Models).data or ()]
        return [each for each in ids if each.isprintable()]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderGarbled("The list of models is not in the format that the provider documents.") from error
