"""The Responses API of OpenAI, streamed (https://platform.openai.com/docs/api-reference/responses-streaming).

Nothing is stored there: each request holds the whole conversation, with what the model thought in encrypted form. A
reply is complete when `response.completed` or `response.incomplete` came.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import msgspec

from ostler.adapters.providers.dialect import (
    CallInParts,
    EarlierTurns,
    Text,
    WireNames,
    arguments_object,
    asked_calls,
    model_ids,
    own_reasoning,
    wire_id,
)
from ostler.adapters.providers.http import Endpoint, bearer
from ostler.adapters.providers.openai import BASE_URL, Details, advice, cache_key, counted, data_url, json_schema
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Message,
    ModelRequest,
    Reasoning,
    Reply,
    StopReason,
    ToolMessage,
    UserMessage,
)
from ostler.kernel.errors import IncompleteReply, ProviderGarbled

DIALECT = "openai-responses"
BETWEEN = "\n\n"
"""What stands between the texts of two messages of one reply."""

_NEVER_THINKS = re.compile(r"(ft:)?(gpt-[34]|chatgpt-|gpt-5[\d.]*-chat)")
"""Models that refuse a request which asks for encrypted thoughts, as they have none."""

_INCOMPLETE: dict[str, StopReason] = {"max_output_tokens": "length", "content_filter": "refusal"}

_STATUS = {
    "bio_policy": 400,
    "context_length_exceeded": 400,
    "data_residency_mismatch": 400,
    "insufficient_quota": 429,
    "invalid_prompt": 400,
    "misalignment_policy_violation": 400,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "vector_store_timeout": 504,
}
"""The HTTP status that each code stands for, for errors that come when the stream has begun with status 200."""


class OpenAIResponses:
    """Reaches models over the Responses API. `base_url` ends where `/responses` begins, mostly in `/v1`."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str = BASE_URL,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        key = bearer("OpenAI", api_key)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._endpoint = Endpoint(base_url, headers=headers, secret=key, advise=_advice, transport=transport)
        self._earlier = EarlierTurns()

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        items, names = self._earlier.encoded(request, _items)
        body = msgspec.json.encode(_body(request, items, names))
        reading = _Reading(self._endpoint, request, names, Text(on_text))
        await self._endpoint.stream(
            "/responses", body, timeout_s=request.settings.timeout_s, on_data=reading.take, text=reading.text
        )
        return reading.reply()

    async def list_models(self, *, timeout_s: float = 10.0) -> list[str]:
        """The ids of the models that answer here, in the server's order."""
        return model_ids(await self._endpoint.get("/models", timeout_s=timeout_s))

    async def close(self) -> None:
        await self._endpoint.close()


def _body(request: ModelRequest, items: list[Any], names: WireNames) -> dict[str, Any]:
    """`stop` has no counterpart in this API: what follows one is cut off when the reply is there."""
    settings, model = request.settings, request.model.name
    body: dict[str, Any] = {
        "model": model,
        "input": items,
        "max_output_tokens": settings.max_tokens,
        "stream": True,
        "store": False,
        "prompt_cache_key": cache_key(request),
    }
    if request.system:
        body["instructions"] = request.system
    if not _NEVER_THINKS.match(model):
        body["include"] = ["reasoning.encrypted_content"]
    if settings.reasoning is not None:
        body["reasoning"] = {"effort": settings.reasoning}
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if request.tools and request.model.tools == "native":
        # Left out, `strict` would be true, and schemas with optional properties would be refused or rewritten.
        body["tools"] = [
            {
                "type": "function",
                "name": names.wire(tool.name),
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": False,
            }
            for tool in request.tools
        ]
    if (schema := request.returns) is not None and request.model.tools == "native":
        body["text"] = {"format": {"type": "json_schema", **json_schema(schema)}}
    return body


_Given = dict[str, Any] | msgspec.Raw


def _items(request: ModelRequest, messages: Sequence[Message], names: WireNames) -> Iterator[_Given]:
    for message in messages:
        match message:
            case UserMessage():
                if message.text.strip() or message.images:
                    yield {"role": "user", "content": _said_by_user(request, message)}
            case ToolMessage():
                yield {"type": "function_call_output", "call_id": wire_id(message.call), "output": message.text}
            case AssistantMessage():
                yield from _output(message, request.model.name, names)


def _said_by_user(request: ModelRequest, message: UserMessage) -> str | list[dict[str, str]]:
    if not message.images:
        return message.text
    text = [{"type": "input_text", "text": message.text}] if message.text.strip() else []
    images = [
        {"type": "input_image", "detail": "auto", "image_url": data_url(request, image)} for image in message.images
    ]
    return images + text


def _output(message: AssistantMessage, model: str, names: WireNames) -> Iterator[_Given]:
    """A reply as the API gave it: thoughts verbatim and where they were, between texts and calls."""
    kept = [
        (msgspec.json.decode(part.raw, type=_Place), part.raw)
        for part in own_reasoning(message.reasoning, DIALECT, model)
    ]
    calls: list[_Given] = [_call(call, names) for call in message.calls]
    texts = [message.text] if message.text.strip() else []
    said = [place.characters for place, _ in kept if place.type == "message"]
    if len(message.text) == sum(said) + len(BETWEEN) * (len(said) - 1):
        texts = _split(message.text, said)
    thoughts: list[_Given] = []  # the API refuses those that nothing follows
    for place, raw in kept:
        if place.type == "reasoning":
            thoughts.append(msgspec.Raw(raw.encode()))
        elif place.type == "message" and texts:
            phase = {"phase": place.phase} if place.phase else {}
            yield from (*thoughts, _message(texts.pop(0)) | phase)
            thoughts.clear()
        elif calls[: place.calls]:
            yield from (*thoughts, *calls[: place.calls])
            del calls[: place.calls]
            thoughts.clear()
    if texts or calls:
        yield from (*thoughts, *(_message(text) for text in texts), *calls)


def _message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _split(text: str, sizes: list[int]) -> list[str]:
    texts = []
    for size in sizes:
        texts.append(text[:size])
        text = text[size + len(BETWEEN) :]
    return texts


def _call(call: AskedCall, names: WireNames) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": wire_id(call.id),
        "name": names.wire(call.name),
        "arguments": arguments_object(call.arguments).decode(),
    }


class _Place(msgspec.Struct, omit_defaults=True):
    """The place among the thoughts of a reply, which are kept verbatim, of a message or of so many calls.

    Of a message, its length and its `phase` are kept, which is to be given back with it.
    """

    type: str
    characters: int = 0
    phase: str = ""
    calls: int = 0


class _Content(msgspec.Struct):
    type: str = ""
    text: str = ""
    refusal: str = ""


class _Item(msgspec.Struct):
    type: str = ""
    name: str = ""
    arguments: str = ""
    call_id: str = ""
    phase: str | None = None
    encrypted_content: str | None = None
    content: list[_Content] | None = None
    summary: list[_Content] | None = None


class _Usage(msgspec.Struct):
    """`output_tokens` include those of reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: Details | None = None


class _Error(msgspec.Struct):
    message: str | None = None
    code: str | None = None
    type: str | None = None


class _Cut(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    model: str = ""
    output: list[msgspec.Raw] | None = None
    usage: _Usage | None = None
    error: _Error | None = None
    incomplete_details: _Cut | None = None


class _Event(msgspec.Struct):
    """Every event of the stream, and those that are yet to be invented: only `type` is sure."""

    type: str
    delta: Any = None
    output_index: int = -1
    item: msgspec.Raw = msgspec.Raw()
    response: _Response | None = None
    error: _Error | None = None
    message: str | None = None
    code: str | None = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_item = msgspec.json.Decoder(_Item).decode


class _Reading:
    """Reads one reply from the events of its stream."""

    def __init__(self, endpoint: Endpoint, request: ModelRequest, names: WireNames, text: Text) -> None:
        self.text = text
        self._endpoint = endpoint
        self._request = request
        self._names = names
        self._items: dict[int, tuple[_Item, str]] = {}
        self._saying: int | None = None
        self._response = _Response()
        self._cut: StopReason | None = None

    def take(self, data: bytes) -> bool:
        """Read one event. True after the last, which says how the reply ended."""
        event = _decode(data)
        match event:
            case _Event(type="response.output_text.delta" | "response.refusal.delta", delta=str() as piece):
                self._say(event.output_index, piece)
            case _Event(type="response.output_item.done", item=item) if bytes(item):
                self._items[event.output_index] = _whole(item)
            case _Event(type="response.completed", response=_Response() as response):
                self._end(response)
                return True
            case _Event(type="response.incomplete", response=_Response() as response):
                why = (response.incomplete_details or _Cut()).reason
                self._cut = _INCOMPLETE.get(why or "", "other")
                self._end(response)
                return True
            case _Event(type="response.failed", response=_Response() as response):
                raise self._failure(response.error or _Error())
            case _Event(type="error"):
                raise self._failure(event.error or _Error(event.message, event.code))
            case _Event(type="response.completed" | "response.incomplete" | "response.output_item.done"):
                raise ProviderGarbled(f"The reply has a {event.type} without what it is about.")
            case _:  # progress, and what is yet to be invented
                pass
        return False

    def reply(self) -> Reply:
        pairs = [self._items[index] for index in sorted(self._items)]
        items = [item for item, _ in pairs]
        contents = [part for item in items if item.type == "message" for part in item.content or ()]
        text = BETWEEN.join(said for item in items if item.type == "message" and (said := _text(item)))
        stop = self._cut or ("refusal" if any(part.refusal for part in contents) else "end")
        asked = [CallInParts(item.call_id, item.name, item.arguments) for item in items if item.type == "function_call"]
        calls = asked_calls(asked, self._names, stop)
        if calls and stop == "end":
            stop = "tool_calls"
        kept = _kept(pairs, self._request.model.name)
        text, stop = _cut_at(text, self._request.settings.stop, stop)
        used, served = self._response.usage or _Usage(), self._response.model
        usage = counted(used.input_tokens, used.output_tokens, used.input_tokens_details)
        return Reply(text=text, calls=calls, stop=stop, usage=usage, model=served, reasoning=kept)

    def _say(self, index: int, piece: str) -> None:
        if self._saying not in (None, index):
            self.text.say(BETWEEN)
        self._saying = index
        self.text.say(piece)

    def _end(self, response: _Response) -> None:
        """What a server told of only at the end is added; what it told of before stands, as its thoughts are whole."""
        self._response = response
        for index, item in enumerate(response.output or ()):
            if index not in self._items:
                self._items[index] = _whole(item)
        if not self._items and self._cut is None:
            raise IncompleteReply("The reply ended without anything in it.")

    def _failure(self, error: _Error) -> Exception:
        code = error.code or error.type or ""
        status = _STATUS.get(code, 400 if "image" in code or "invalid" in code else 500)
        return self._endpoint.failure(status, error.message or "", code=code)


def _whole(raw: msgspec.Raw) -> tuple[_Item, str]:
    """An item, and the JSON that it came as."""
    return _decode_item(raw), bytes(raw).decode()


def _text(item: _Item) -> str:
    return "".join(part.text or part.refusal for part in item.content or ())


def _kept(pairs: list[tuple[_Item, str]], model: str) -> tuple[Reasoning, ...]:
    """What must be given back with the reply beside its text and its calls. Mostly nothing, or thoughts alone."""
    kept: list[_Place | Reasoning] = []
    for item, raw in pairs:
        last = kept[-1] if kept else None
        if item.type == "reasoning" and (item.encrypted_content or item.content):  # else it is only a reference
            thought = "".join(part.text for part in (*(item.summary or ()), *(item.content or ())))
            kept.append(Reasoning(DIALECT, model, raw, thought))
        elif item.type == "message" and _text(item):
            kept.append(_Place("message", characters=len(_text(item)), phase=item.phase or ""))
        elif item.type == "function_call" and isinstance(last, _Place) and last.calls:
            last.calls += 1
        elif item.type == "function_call":
            kept.append(_Place("function_call", calls=1))
    if kept and isinstance(kept[-1], _Place) and kept[-1].calls:  # these follow anyhow
        kept.pop()
    places = [each for each in kept if isinstance(each, _Place)]
    if len(places) == 1 and places[0] is kept[-1] and not places[0].phase:  # so does this
        kept.pop()
    return tuple(each if isinstance(each, Reasoning) else _as_reasoning(each, model) for each in kept)


def _as_reasoning(place: _Place, model: str) -> Reasoning:
    return Reasoning(DIALECT, model, msgspec.json.encode(place).decode())


def _cut_at(text: str, stops: tuple[str, ...], stop: StopReason) -> tuple[str, StopReason]:
    ends = [at for each in stops if (at := text.find(each)) >= 0]
    return (text[: min(ends)], "stop_sequence" if stop == "end" else stop) if ends else (text, stop)


def _advice(status: int, words: str) -> str:
    if status == 404:
        return "Check the model's name and the base URL; a server without the Responses API is openai-chat:NAME."
    return advice(status, words)
