"""The Messages API of Anthropic (https://docs.anthropic.com/en/api/messages), streamed."""

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec

from ostler.adapters.providers.dialect import (
    CallInParts,
    Turn,
    WireNames,
    arguments_object,
    asked_calls,
    model_ids,
    turns,
    wire_id,
)
from ostler.adapters.providers.http import Endpoint, bearer
from ostler.domain.model import ModelRequest, Reply, StopReason, Usage
from ostler.kernel.errors import IncompleteReply, ProviderGarbled

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"
"""The version that every server of this dialect knows. The next one (2026-10-21) differs for us in one thing: it
refuses `temperature` for all models, where this one leaves it to those that still have it."""
MODELS_MAX = 1000

_STOP: dict[str, StopReason] = {
    "end_turn": "end",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
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

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        names = WireNames(spec.name for spec in request.tools)
        body = msgspec.json.encode(_body(request, names))
        reading = _Reading(self._endpoint, names, on_text)
        await self._endpoint.stream("/v1/messages", body, timeout_s=request.settings.timeout_s, on_data=reading.take)
        return reading.reply()

    async def list_models(self, *, timeout_s: float = 10.0) -> list[str]:
        """The ids of the models that this key may use, newest first."""
        body = await self._endpoint.get(f"/v1/models?limit={MODELS_MAX}", timeout_s=timeout_s)
        return model_ids(body)

    async def close(self) -> None:
        await self._endpoint.close()


def _body(request: ModelRequest, names: WireNames) -> dict[str, Any]:
    settings = request.settings
    body: dict[str, Any] = {
        "model": request.model.name,
        "max_tokens": settings.max_tokens,
        "stream": True,
        "messages": [_message(turn, names) for turn in turns(request.messages)],
    }
    if request.system:
        body["system"] = request.system
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.stop:
        body["stop_sequences"] = settings.stop
    if request.tools and request.model.tools == "native":
        body["tools"] = [
            {"name": names.wire(tool.name), "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
    return body


def _message(turn: Turn, names: WireNames) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"type": "tool_result", "tool_use_id": wire_id(result.call), "content": result.text}
        | ({} if result.ok else {"is_error": True})
        for result in turn.results
    ]
    if turn.text:
        content.append({"type": "text", "text": turn.text})
    content.extend(
        {
            "type": "tool_use",
            "id": wire_id(call.id),
            "name": names.wire(call.name),
            "input": msgspec.Raw(arguments_object(call.arguments)),
        }
        for call in turn.calls
    )
    return {"role": "assistant" if turn.by_model else "user", "content": content}


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


class _Delta(msgspec.Struct):
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    """Every event of the stream, and those that are yet to be invented: only `type` is sure."""

    type: str
    index: int = -1
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Event).decode


class _Reading:
    """Reads one reply from the events of its stream."""

    def __init__(self, endpoint: Endpoint, names: WireNames, on_text: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._names = names
        self._on_text = on_text
        self._texts: list[str] = []
        self._calls: list[CallInParts] = []
        self._blocks: dict[int, CallInParts | None] = {}
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
            case _Event(type="content_block_start", content_block=_Block() as block):
                self._begin(event.index, block)
            case _Event(type="content_block_stop"):
                self._unfinished.discard(event.index)
            case _Event(type="message_start", message=_Message() as message) if self._message is None:
                self._message = message
                self._count(message.usage)
            case _Event(type="message_delta"):
                if event.delta is not None and event.delta.stop_reason is not None:
                    self._stop = _STOP.get(event.delta.stop_reason, "other")
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
            text="".join(self._texts),
            calls=asked_calls(self._calls, self._names, stop),
            stop=stop,
            usage=self._usage,
            model=self._message.model if self._message else "",
        )

    def _begin(self, index: int, block: _Block) -> None:
        if self._message is None or index in self._blocks:
            raise ProviderGarbled("The reply has a content_block_start that is out of place.")
        self._blocks[index] = None
        self._unfinished.add(index)
        if block.type == "tool_use":
            call = self._blocks[index] = CallInParts(block.id, block.name)
            self._calls.append(call)
            if bytes(block.input) != b"{}":  # compatible servers may send the whole input at once
                call.parts.append(bytes(block.input).decode())
        elif block.type == "text" and block.text:
            self._say(block.text)

    def _add(self, index: int, delta: _Delta) -> None:
        if index not in self._unfinished:
            raise ProviderGarbled("The reply has a content_block_delta that is out of place.")
        if delta.text:
            self._say(delta.text)
        elif delta.partial_json:
            call = self._blocks[index]
            if call is not None:
                call.parts.append(delta.partial_json)

    def _say(self, text: str) -> None:
        self._texts.append(text)
        self._on_text(text)

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
        return "Check ANTHROPIC_API_KEY: is it set, valid, and allowed to use this model?"
    if status == 404:
        return "Check the model's name and the base URL, which is without /v1."
    if status == 402 or "credit balance" in words:
        return "The account has no credit: see its billing page."
    if "temperature" in words:
        return "This model chooses for itself: leave settings.temperature unset."
    return ""
