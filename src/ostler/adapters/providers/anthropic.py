"""The Messages API of Anthropic (https://docs.anthropic.com/en/api/messages), streamed."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import msgspec

from ostler.adapters.providers.dialect import (
    CallInParts,
    EarlierTurns,
    Text,
    Turn,
    WireNames,
    arguments_object,
    asked_calls,
    image_bytes,
    model_ids,
    own_reasoning,
    turns,
    wire_id,
    with_schema,
)
from ostler.adapters.providers.http import Endpoint, bearer, key_advice
from ostler.adapters.providers.schemas import enforceable
from ostler.domain.model import Effort, Message, ModelRequest, Reasoning, Reply, StopReason, Usage
from ostler.kernel.errors import IncompleteReply, ProviderGarbled

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"
"""The version that every server of this dialect knows. The next one (2026-10-21) differs for us in one thing: it
refuses `temperature` for all models, where this one leaves it to those that still have it."""
MODELS_MAX = 1000
DIALECT = "anthropic"

_CACHED = {"type": "ephemeral"}
_MARKED_TURNS = 2
"""With the tools and the system prompt that makes four marks, which is all that the API takes. The last turn's mark
writes what the next request reads; the mark before it reads what the request before wrote, however many blocks ago."""

_BUDGETED = re.compile(r"claude-(3-|[a-z]+-4(-[0-5])?(-\d{8}|@|$))")
"""Models before 4.6, whose thinking is bounded in tokens. All later ones decide for themselves, guided by an effort."""
_BUDGET: dict[Effort, int] = {"low": 2048, "medium": 8192, "high": 16_384}
_BUDGET_MIN = 1024

_STOP: dict[str, StopReason] = {
    "end_turn": "end",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
    # The server paused in the middle of its own tools, which are never asked for: what came is not a whole reply.
    "pause_turn": "length",
}

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status that each type of error has, for errors that come when the stream has begun with status 200."""


class Anthropic:
    """Reaches models over the Messages API. `base_url` is without `/v1`."""

    def __init__(
        self, *, api_key: str, base_url: str = BASE_URL, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        key = bearer("Anthropic", api_key)
        headers = {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})
        self._endpoint = Endpoint(base_url, headers=headers, secret=key, advise=_advice, transport=transport)
        self._earlier = EarlierTurns()

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        lasting = _without_passing(request)
        messages, names = self._earlier.encoded(lasting, _messages)
        body = msgspec.json.encode(_with_passing(_body(lasting, messages, names), request))
        text = Text(on_text)
        reading = _Reading(self._endpoint, names, text, request.model.name)
        await self._endpoint.stream(
            "/v1/messages", body, timeout_s=request.settings.timeout_s, on_data=reading.take, text=text
        )
        return reading.reply()

    async def list_models(self, *, timeout_s: float = 10.0) -> list[str]:
        """The ids of the models that this key may use, newest first."""
        body = await self._endpoint.get(f"/v1/models?limit={MODELS_MAX}", timeout_s=timeout_s)
        return model_ids(body)

    async def close(self) -> None:
        await self._endpoint.close()


def _body(request: ModelRequest, messages: list[Any], names: WireNames) -> dict[str, Any]:
    settings = request.settings
    body: dict[str, Any] = {
        "model": request.model.name,
        "max_tokens": settings.max_tokens,
        "stream": True,
        "messages": messages,
    }
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.stop:
        body["stop_sequences"] = settings.stop
    if request.tools and request.model.tools == "native":
        body["tools"] = [
            {"name": names.wire(tool.name), "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
    if settings.reasoning is not None:
        _reason(body, settings.reasoning)
    system = request.system
    if request.returns is not None and request.model.tools == "native":
        schema = enforceable(request.returns)
        if schema is None:
            system = with_schema(system, request.returns)
        else:
            body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
    if system:
        body["system"] = [{"type": "text", "text": system}]
    _mark(body)
    return body


def _reason(body: dict[str, Any], effort: Effort) -> None:
    """Ask for thought of this effort, shown in words, so that the log can say what was thought."""
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif not _BUDGETED.search(body["model"]):
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        body["output_config"] = {"effort": effort}
    else:
        budget = max(_BUDGET_MIN, min(_BUDGET[effort], body["max_tokens"] // 2))
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _mark(body: dict[str, Any]) -> None:
    """Mark what the next request of the session will begin with. A single question has none, and pays no surcharge."""
    messages = body["messages"]
    if "tools" not in body and len(messages) == 1:
        return
    last = messages[-2 * _MARKED_TURNS :]  # the sides alternate
    said = [message["content"] for message in last if message["role"] == "user"]
    for blocks in (body.get("tools"), body.get("system"), *said):
        if blocks:
            blocks[-1]["cache_control"] = _CACHED


def _without_passing(request: ModelRequest) -> ModelRequest:
    """The request without what no later one repeats: a mark behind that would pay for what nobody reads."""
    if not request.passing:
        return request
    return msgspec.structs.replace(request, messages=request.messages[: -request.passing], passing=0)


def _with_passing(body: dict[str, Any], request: ModelRequest) -> dict[str, Any]:
    """The marked body with what its last turn says beside: in blocks of their own, so that the others stay the same."""
    said = [{"type": "text", "text": one.text} for one in request.messages[len(request.messages) - request.passing :]]
    if said and body["messages"] and body["messages"][-1]["role"] == "user":
        body["messages"][-1]["content"].extend(said)
    elif said:
        body["messages"].append({"role": "user", "content": said})
    return body


def _messages(request: ModelRequest, messages: Sequence[Message], names: WireNames) -> Iterator[dict[str, Any]]:
    for turn in turns(messages):
        yield {"role": "assistant" if turn.by_model else "user", "content": _content(turn, request, names)}


def _content(turn: Turn, request: ModelRequest, names: WireNames) -> list[Any]:
    content: list[Any] = [
        {"type": "tool_result", "tool_use_id": wire_id(result.call), "content": result.text}
        | ({} if result.ok else {"is_error": True})
        for result in turn.results
    ]
    content.extend(
        {
            "type": "image",
            "source": {"type": "base64", "media_type": image.media_type, "data": image_bytes(request, image)},
        }
        for image in turn.images
    )
    calls = [
        {
            "type": "tool_use",
            "id": wire_id(call.id),
            "name": names.wire(call.name),
            "input": msgspec.Raw(arguments_object(call.arguments)),
        }
        for call in turn.calls
    ]
    thoughts = [_placed(part) for part in own_reasoning(turn.reasoning, DIALECT, request.model.name)]
    return content + _interleaved(turn.text, calls, thoughts)


class _Placed(msgspec.Struct):
    """A block that came after so many characters of the text and so many calls. Most come first of all."""

    block: msgspec.Raw
    text: int = 0
    calls: int = 0


_decode_placed = msgspec.json.Decoder(_Placed).decode


def _placed(part: Reasoning) -> _Placed:
    try:
        return _decode_placed(part.raw)
    except msgspec.ValidationError:  # a block that came first, as it is
        return _Placed(msgspec.Raw(part.raw.encode()))


def _interleaved(text: str, calls: list[Any], thoughts: list[_Placed]) -> list[Any]:
    """Text and calls with the thoughts where they came: the API refuses a turn whose thoughts have moved."""
    content: list[Any] = []
    said = asked = 0

    def go_on(to_text: int, to_calls: int) -> None:
        nonlocal said, asked
        if text[said:to_text].strip():
            content.append({"type": "text", "text": text[said:to_text]})
        content.extend(calls[asked:to_calls])
        said, asked = max(said, to_text), max(asked, to_calls)

    for thought in thoughts:
        go_on(thought.text, thought.calls)
        content.append(thought.block)
    go_on(len(text), len(calls))
    return content


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    model: str = ""
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""
    text: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    thinking: str = ""
    signature: str = ""


class _StopDetails(msgspec.Struct):
    explanation: str | None = None


class _Delta(msgspec.Struct):
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    """Every event of the stream, and those that are yet to be invented: only `type` is sure."""

    type: str
    index: int = -1
    message: _Message | None = None
    content_block: msgspec.Raw = msgspec.Raw(b"null")
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_block = msgspec.json.Decoder(_Block | None).decode


class _Thought:
    """A block of thinking while it arrives, and where in the reply it does."""

    def __init__(self, raw: bytes, block: _Block, text: int, calls: int) -> None:
        self._raw = raw.decode()
        self._at = (text, calls)
        self._is_redacted = block.type == "redacted_thinking"
        self.words = [block.thinking]
        self.signature = block.signature

    @property
    def is_whole(self) -> bool:
        return self._is_redacted or bool(self.signature)

    def reasoning(self, model: str) -> Reasoning:
        words, raw = "".join(self.words), self._raw
        if not self._is_redacted:
            whole = msgspec.json.decode(raw) | {"thinking": words, "signature": self.signature}
            raw = msgspec.json.encode(whole).decode()
        if self._at != (0, 0):
            raw = msgspec.json.encode(_Placed(msgspec.Raw(raw), *self._at)).decode()
        return Reasoning(dialect=DIALECT, model=model, raw=raw, text=words)


class _Reading:
    """Reads one reply from the events of its stream."""

    def __init__(self, endpoint: Endpoint, names: WireNames, text: Text, asked_model: str) -> None:
        self._endpoint = endpoint
        self._names = names
        self._text = text
        self._asked_model = asked_model
        self._calls: list[CallInParts] = []
        self._thoughts: list[_Thought] = []
        self._blocks: dict[int, CallInParts | _Thought | None] = {}
        self._unfinished: set[int] = set()
        self._message: _Message | None = None
        self._usage = Usage()
        self._stop: StopReason | None = None

    def take(self, data: bytes) -> bool:
        """Read one event. True after `message_stop`, without which there is no reply."""
        event = _decode(data)
        match event:
            case _Event(type="content_block_delta", delta=_Delta() as delta):
                self._add(event.index, delta)
            case _Event(type="content_block_start") if (block := _decode_block(event.content_block)) is not None:
                self._begin(event.index, block, event.content_block)
            case _Event(type="content_block_stop"):
                self._unfinished.discard(event.index)
            case _Event(type="message_start", message=_Message() as message) if self._message is None:
                self._message = message
                self._count(message.usage)
            case _Event(type="message_delta"):
                if event.delta is not None and event.delta.stop_reason is not None:
                    self._stop = _STOP.get(event.delta.stop_reason, "other")
                    self._explain(event.delta.stop_details)
                if event.usage is not None:
                    self._count(event.usage)
            case _Event(type="message_stop"):
                self._expect_whole()
                return True
            case _Event(type="error"):
                error = event.error or _Error()
                raise self._endpoint.failure(_STATUS.get(error.type, 500), error.message, code=error.type)
            case _Event(type="content_block_start" | "content_block_delta" | "message_start"):
                raise ProviderGarbled(f"The reply has a {event.type} that is out of place.")
            case _:  # `ping`, and what is yet to be invented
                pass
        return False

    def reply(self) -> Reply:
        stop = self._stop or "other"
        return Reply(
            text=str(self._text),
            calls=asked_calls(self._calls, self._names, stop),
            stop=stop,
            usage=self._usage,
            model=self._message.model if self._message else "",
            # A thought that was cut has no signature, and would be refused.
            reasoning=tuple(
                [
                    thought.reasoning(self._asked_model)
                    for thought in self._thoughts
                    if stop != "length" or thought.is_whole
                ]
            ),
        )

    def _begin(self, index: int, block: _Block, raw: msgspec.Raw) -> None:
        if self._message is None or index in self._blocks:
            raise ProviderGarbled("The reply has a content_block_start that is out of place.")
        self._blocks[index] = None
        self._unfinished.add(index)
        if block.type == "tool_use":
            call = self._blocks[index] = CallInParts(block.id, block.name)
            self._calls.append(call)
            if bytes(block.input) != b"{}":  # compatible servers may send the whole input at once
                call.parts.append(bytes(block.input).decode())
        elif block.type in ("thinking", "redacted_thinking"):
            thought = self._blocks[index] = _Thought(bytes(raw), block, self._text.size, len(self._calls))
            self._thoughts.append(thought)
        elif block.type == "text" and block.text:
            self._text.say(block.text)

    def _add(self, index: int, delta: _Delta) -> None:
        if index not in self._unfinished:
            raise ProviderGarbled("The reply has a content_block_delta that is out of place.")
        if delta.text:
            self._text.say(delta.text)
            return
        match self._blocks[index]:
            case CallInParts(parts=parts) if delta.partial_json:
                parts.append(delta.partial_json)
            case _Thought() as thought:
                thought.words.append(delta.thinking)
                thought.signature = delta.signature or thought.signature
            case _:  # a kind of block that is yet to be invented
                pass

    def _explain(self, details: _StopDetails | None) -> None:
        """A refusal without a word is explained by its details."""
        if self._stop == "refusal" and details is not None and details.explanation and not str(self._text):
            self._text.say(details.explanation)

    def _count(self, usage: _Usage) -> None:
        """Later counts replace earlier ones: they are cumulative."""

        def latest(now: int | None, before: int) -> int:
            return before if now is None else now

        self._usage = Usage(
            input_tokens=latest(usage.input_tokens, self._usage.input_tokens),
            output_tokens=latest(usage.output_tokens, self._usage.output_tokens),
            cache_read_tokens=latest(usage.cache_read_input_tokens, self._usage.cache_read_tokens),
            cache_write_tokens=latest(usage.cache_creation_input_tokens, self._usage.cache_write_tokens),
        )

    def _expect_whole(self) -> None:
        if self._message is None or self._stop is None or self._unfinished:
            raise IncompleteReply("The reply ended without saying why it stopped, or within a block.")


def _advice(status: int, words: str) -> str:
    if status in (401, 403):
        return key_advice("ANTHROPIC_API_KEY")
    if status == 404:
        return "Check the model's name and the base URL, which is without /v1."
    if status == 402 or "credit balance" in words:
        return "The account has no credit: see its billing page."
    if "temperature" in words:
        return "This model chooses for itself: leave settings.temperature unset."
    if "thinking" in words or "effort" in words:
        return "This model does not reason as asked: choose another settings.reasoning, or leave it unset."
    return ""
